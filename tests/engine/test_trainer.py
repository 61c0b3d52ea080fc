"""`Trainer` as users see it: tests without side effects, and parts that a subclass replaces."""

import argparse
import json
import logging
from pathlib import Path

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, build_detection_train_loader
from detectron2.engine import DefaultTrainer, launch
from helpers import registered_cityscapes, smallest_cfg
from torch import nn
from training_features import SMALL

from metaprompt_d2.data import build_mapper
from metaprompt_d2.engine import Trainer, run, train_or_evaluate
from metaprompt_d2.utils.errors import InputError

TESTING = {
    "INPUT.MIN_SIZE_TEST": 64,
    "INPUT.MAX_SIZE_TEST": 128,
    "TEST.NUM_PICTURES": 0,
    # Each process has its own statistics.
    "MODEL.SEM_SEG_HEAD.NORM": "BN",
}


def config(data: str, folder: Path, overrides: dict | None = None) -> CfgNode:
    keys = SMALL | {"DATASETS.TRAIN": (data,), "OUTPUT_DIR": str(folder)} | (overrides or {})
    torch.manual_seed(0)
    return smallest_cfg(keys)


def state_of(model: nn.Module) -> dict[str, torch.Tensor | bool]:
    modes = {f"{name} trains": module.training for name, module in model.named_modules()}
    tensors = [*model.named_parameters(), *model.named_buffers()]
    return {name: tensor.detach().clone() for name, tensor in tensors} | modes


def assert_unchanged(model: nn.Module, before: dict[str, torch.Tensor | bool]) -> None:
    for name, value in state_of(model).items():
        same = torch.equal(value, before[name]) if torch.is_tensor(value) else value == before[name]
        assert same, name


@pytest.mark.parametrize("augmented", [False, True])
def test_a_model_is_unchanged_by_a_test(data: str, tmp_path: Path, augmented: bool) -> None:
    aug = {"TEST.AUG.ENABLED": augmented, "TEST.AUG.MIN_SIZES": (64,), "TEST.AUG.MAX_SIZES": (128,)}
    cfg = config(data, tmp_path, TESTING | aug | {"DATASETS.TEST": (data,)})
    model = Trainer.build_model(cfg)
    for training in (True, False):
        before = state_of(model.train(training))
        assert "sem_seg" in Trainer.test(cfg, model)
        assert_unchanged(model, before)


def perturb(model: nn.Module, rank: int) -> None:
    """Give each process its own BatchNorm statistics."""
    for name, buffer in model.named_buffers():
        if "running_" in name:
            buffer.add_(rank)


def evaluate_in_a_process(root: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    with registered_cityscapes(root) as data:
        cfg = config(data, folder / "two", TESTING | {"DATASETS.TEST": (data,)})
        model = Trainer.build_model(cfg)
        perturb(model, torch.distributed.get_rank())
        before = state_of(model)
        results = Trainer.test(cfg, model)
        assert_unchanged(model, before)
    if torch.distributed.get_rank() == 0:
        metrics = {name: float(value) for name, value in results["sem_seg"].items()}
        torch.save({"model": model.state_dict(), "metrics": metrics}, folder / "rank0.pth")


def test_all_processes_test_the_main_processes_model_and_keep_their_own(
    root: Path, data: str, tmp_path: Path
) -> None:
    launch(evaluate_in_a_process, 2, dist_url="auto", args=(root, tmp_path))
    expected = torch.load(tmp_path / "rank0.pth", weights_only=True)
    cfg = config(data, tmp_path / "one", TESTING | {"DATASETS.TEST": (data,)})
    model = Trainer.build_model(cfg)
    model.load_state_dict(expected["model"])
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        results = Trainer.test(cfg, model)
    finally:
        torch.set_num_threads(threads)
    assert results["sem_seg"] == pytest.approx(expected["metrics"], nan_ok=True)


def test_a_trainer_has_the_methods_of_detectron2s() -> None:
    methods = {
        name
        for name in vars(DefaultTrainer)
        if not name.startswith("_") and callable(getattr(DefaultTrainer, name))
    }
    assert {"auto_scale_workers", "build_model", "build_hooks", "test"} <= methods
    assert methods <= set(dir(Trainer))


def test_a_loader_is_replaced_as_in_detectron2(data: str, tmp_path: Path) -> None:
    class OneImage(Trainer):
        @classmethod
        def build_train_loader(cls, cfg: CfgNode):
            return build_detection_train_loader(
                DatasetCatalog.get(data)[:1],
                mapper=build_mapper(cfg, is_train=True),
                total_batch_size=2,
                num_workers=0,
            )

    trainer = OneImage(config(data, tmp_path))
    batch = next(iter(trainer.data_loader))
    assert {item["file_name"] for item in batch} == {DatasetCatalog.get(data)[0]["file_name"]}


def test_a_metric_that_misses_its_expected_value_fails_the_training(
    data: str, tmp_path: Path
) -> None:
    keys = TESTING | {"DATASETS.TEST": (data,), "SOLVER.MAX_ITER": 1}
    expected = [["sem_seg", "mIoU", 50.0, 100.0]]
    trainer = Trainer(config(data, tmp_path, keys | {"TEST.EXPECTED_RESULTS": expected}))
    assert trainer.train()["sem_seg"]["mIoU"] < 100
    expected[0][2:] = [1000.0, 1.0]
    with pytest.raises(SystemExit):
        Trainer(config(data, tmp_path, keys | {"TEST.EXPECTED_RESULTS": expected})).train()


def evaluate_only(monkeypatch: pytest.MonkeyPatch, keys: dict, results: dict) -> dict:
    """Run `train_or_evaluate` with --eval-only where the evaluation gives these results."""
    cfg = smallest_cfg(keys)
    monkeypatch.setattr(run, "load_config", lambda *_: cfg)
    monkeypatch.setattr(run, "setup_process", lambda *_, **__: None)
    monkeypatch.setattr(run, "load_model", lambda *_, **__: nn.Identity())
    monkeypatch.setattr(run.Trainer, "test", lambda *_: results)
    return train_or_evaluate(
        argparse.Namespace(eval_only=True, resume=False, config_file="", opts=[])
    )


def expected_results(*entries: list) -> dict:
    return {"TEST.EXPECTED_RESULTS": list(entries)}


@pytest.mark.parametrize(
    ("value", "is_right"), [(70.0, True), (70.4, True), (71.0, False), (float("nan"), False)]
)
def test_an_evaluation_alone_is_checked_against_expected_results(
    monkeypatch: pytest.MonkeyPatch, value: float, is_right: bool
) -> None:
    keys = expected_results(["sem_seg", "mIoU", 70.0, 0.5]) | {"DATASETS.TEST": ("street",)}
    results = {"sem_seg": {"mIoU": value}}
    if is_right:
        assert evaluate_only(monkeypatch, keys, results) == results
        return
    with pytest.raises(SystemExit) as stopped:
        evaluate_only(monkeypatch, keys, results)
    assert stopped.value.code == 1


@pytest.mark.parametrize(
    ("task", "value"), [("street/sem_seg", 70.0), ("lane/sem_seg", 30.0), ("sem_seg", 70.0)]
)
def test_results_of_several_test_sets_are_checked_by_name(
    monkeypatch: pytest.MonkeyPatch, task: str, value: float
) -> None:
    results = {"street": {"sem_seg": {"mIoU": 70.0}}, "lane": {"sem_seg": {"mIoU": 30.0}}}
    sets = {"DATASETS.TEST": ("street", "lane")}
    keys = sets | expected_results([task, "mIoU", value, 0.5])
    assert evaluate_only(monkeypatch, keys, results) == results
    keys = sets | expected_results([task, "mIoU", value + 1, 0.5])
    with pytest.raises(SystemExit):
        evaluate_only(monkeypatch, keys, results)


def test_an_expected_task_that_was_not_evaluated_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    keys = expected_results(["depth", "rmse", 1.0, 0.5]) | {"DATASETS.TEST": ("street",)}
    with pytest.raises(InputError, match=r"names the task 'depth', evaluated were \['sem_seg'\]"):
        evaluate_only(monkeypatch, keys, {"sem_seg": {"mIoU": 1.0}})


@pytest.mark.parametrize("names_a_set", [False, True])
def test_the_best_checkpoint_is_kept_with_several_test_sets(
    root: Path, data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names_a_set: bool
) -> None:
    with registered_cityscapes(root) as other:
        name = f"{other}/sem_seg/mIoU" if names_a_set else "sem_seg/mIoU"
        keys = {"DATASETS.TEST": (data, other), "SOLVER.MAX_ITER": 3, "SOLVER.BEST_METRIC": name}
        trainer = Trainer(config(data, tmp_path, TESTING | keys | {"TEST.EVAL_PERIOD": 1}))
        values = iter([(10.0, 2.0), (20.0, 3.0), (15.0, 1.0)])  # of data and of other

        def results(*_: object) -> dict:
            own, others = next(values)
            return {data: {"sem_seg": {"mIoU": own}}, other: {"sem_seg": {"mIoU": others}}}

        monkeypatch.setattr(trainer, "evaluate", results)
        trainer.train()
    assert (tmp_path / "model_best.pth").is_file()
    best = json.loads((tmp_path / "model_best.json").read_text())
    assert (best["value"], best["iteration"]) == (3.0 if names_a_set else 20.0, 1)


def test_a_best_metric_that_no_evaluator_reports_is_said(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    keys = {"DATASETS.TEST": (data,), "SOLVER.MAX_ITER": 1, "SOLVER.BEST_METRIC": "sem_seg/miou"}
    trainer = Trainer(config(data, tmp_path, TESTING | keys))
    monkeypatch.setattr(trainer, "evaluate", lambda: {"sem_seg": {"mIoU": 1.0}})
    with caplog.at_level(logging.ERROR, logger="metaprompt_d2"):
        trainer.train()
    assert "metric 'sem_seg/miou'" in caplog.text
    assert "['sem_seg/mIoU']" in caplog.text


def test_metrics_that_are_nan_are_not_in_the_json(
    data: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {"DATASETS.TEST": (data,), "SOLVER.MAX_ITER": 1}
    trainer = Trainer(config(data, tmp_path, TESTING | keys))
    results = {"sem_seg": {"mIoU": 1.0, "IoU-bus": float("nan"), "IoU-car": float("inf")}}
    monkeypatch.setattr(trainer, "evaluate", lambda: results)
    assert trainer.train() is results
    lines = (tmp_path / "metrics.json").read_text().splitlines()
    entries = [json.loads(line, parse_constant=pytest.fail) for line in lines]
    evaluated = {name: value for entry in entries for name, value in entry.items() if "/" in name}
    assert evaluated == {"sem_seg/mIoU": 1.0}
