"""Segmentation metrics: Detectron2's, the official ones, checked ground truth, and reports."""

import logging
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from helpers import registered_cityscapes, smallest_cfg, write_cityscapes
from PIL import Image

from metaprompt_d2.data import register_sem_seg_folders
from metaprompt_d2.data.readers import read_labels
from metaprompt_d2.evaluation import (
    CheckedSemSegEvaluator,
    MergedEvaluators,
    build_evaluators,
    sem_seg,
)


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    write_cityscapes(tmp_path / "data", num_images=3)
    with registered_cityscapes(tmp_path / "data") as name:
        yield name


def evaluate(dataset: str, output_dir: Path, predict) -> OrderedDict:
    cfg = smallest_cfg({"OUTPUT_DIR": str(output_dir)})
    evaluator = MergedEvaluators(build_evaluators(cfg, dataset))
    evaluator.reset()
    for item in DatasetCatalog.get(dataset):
        labels = torch.from_numpy(predict(read_labels(item["sem_seg_file_name"])).astype(np.int64))
        logits = torch.nn.functional.one_hot(labels, 19).permute(2, 0, 1).float()
        evaluator.process([item], [{"sem_seg": logits}])
    return evaluator.evaluate()


def test_false_positives_of_an_absent_class_lower_the_official_mean_only_further(
    dataset: str, tmp_path: Path
) -> None:
    def bus_in_the_last_column(labels: np.ndarray) -> np.ndarray:
        labels = np.where(labels == 255, 0, labels)
        labels[:, -1] = 15
        return labels

    metrics = evaluate(dataset, tmp_path, bus_in_the_last_column)["sem_seg"]
    # Road and car in the mean of one, road, car and bus (0) in that of the other.
    assert metrics["IoU"] == pytest.approx(metrics["mIoU"] * 2 / 3, rel=1e-4)


def test_ground_truth_of_another_size_is_named(dataset: str, tmp_path: Path) -> None:
    file = DatasetCatalog.get(dataset)[1]["sem_seg_file_name"]
    cv2.imwrite(file, np.zeros((20, 48), np.uint8))
    with pytest.raises(ValueError, match=f"{file} is 20x48"):
        evaluate(dataset, tmp_path, lambda labels: np.zeros((24, 48)))


def test_ground_truth_with_unknown_ids_is_named(dataset: str, tmp_path: Path) -> None:
    file = DatasetCatalog.get(dataset)[2]["sem_seg_file_name"]
    cv2.imwrite(file, np.full((24, 48), 26, np.uint8))
    with pytest.raises(ValueError, match=rf"{file} holds ids \[26\]"):
        evaluate(dataset, tmp_path, lambda labels: np.zeros((24, 48)))


def test_an_unknown_evaluator_type_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    MetadataCatalog.get("a_test_without_evaluator").set(evaluator_type="unheard_of")
    with pytest.raises(ValueError, match="'unheard_of', expected one of .*cityscapes_sem_seg"):
        build_evaluators(smallest_cfg(), "a_test_without_evaluator")


def test_a_table_of_the_classes_ends_the_evaluation(
    dataset: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evaluator = CheckedSemSegEvaluator(dataset, output_dir=str(tmp_path / "out"))
    with caplog.at_level(logging.INFO, logger="metaprompt_d2"):
        metrics = score_truth(evaluator, dataset)
    assert metrics["mIoU"] == metrics["fwIoU"] == metrics["pACC"] == 100
    assert metrics["MaskBoundaryIoU-road"] == metrics["MaskBoundaryIoU-car"] == 100
    assert np.isnan(metrics["MaskBoundaryIoU-bus"])
    saved = torch.load(tmp_path / "out/sem_seg_evaluation.pth", weights_only=False)
    np.testing.assert_equal(saved, metrics)
    rows = [line.split() for line in caplog.text.splitlines()]
    assert ["road", "100.00", f"{metrics['MaskBoundaryIoU-road']:.2f}", "100.00"] in rows
    assert ["bus", "-", "-", "-"] in rows
    assert any(row[:2] == ["mean", "100.00"] for row in rows)
    assert not (tmp_path / "out/confusion_matrix.png").exists()


def test_classes_that_never_occur_are_named(
    dataset: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        evaluate(dataset, tmp_path, lambda labels: np.where(labels == 255, 0, labels))
    assert "17 of 19 classes never occur in the ground truth" in caplog.text
    assert "sidewalk, building" in caplog.text
    assert " road" not in caplog.text.partition("leave them out:")[2]


def test_detectron2s_metrics_keep_their_names_and_values(dataset: str, tmp_path: Path) -> None:
    def read(file: str, dtype: type) -> np.ndarray:  # Detectron2's own fails with NumPy 2
        return np.asarray(Image.open(file)).astype(dtype)

    theirs = SemSegEvaluator(dataset, sem_seg_loading_fn=read)
    evaluators = CheckedSemSegEvaluator(dataset), theirs
    items = DatasetCatalog.get(dataset)
    outputs = [{"sem_seg": torch.randn(19, 24, 48)} for _ in items]
    results = []
    for evaluator in evaluators:
        evaluator.reset()
        evaluator.process(items, outputs)
        results.append(evaluator.evaluate()["sem_seg"])
    ours, theirs = results
    assert "BoundaryIoU-road" in theirs and "min(IoU, B-Iou)-road" in theirs
    own = {f"MaskBoundaryIoU-{name}" for name in evaluators[0].classes}
    assert ours.keys() - theirs.keys() == own | {"images_not_finite"}
    np.testing.assert_equal({name: ours[name] for name in theirs}, theirs)
    assert evaluators[0]._predictions == evaluators[1]._predictions


def test_the_confusion_matrix_is_drawn_by_key(dataset: str, tmp_path: Path) -> None:
    keys = {"TEST.SEM_SEG_EVAL.CONFUSION_MATRIX": True, "OUTPUT_DIR": str(tmp_path)}
    evaluator = build_evaluators(smallest_cfg(keys), dataset)[-1]
    score_truth(evaluator, dataset)
    picture = cv2.imread(str(tmp_path / f"inference/{dataset}/confusion_matrix.png"))
    assert min(picture.shape[:2]) > 300


def score_truth(evaluator: CheckedSemSegEvaluator, dataset: str) -> dict:
    """Metrics of predictions that are the ground truth (and road where there is none)."""
    evaluator.reset()
    for item in DatasetCatalog.get(dataset):
        truth = read_labels(item["sem_seg_file_name"])
        classes = torch.from_numpy(np.where(truth == 255, 0, truth)).long()
        evaluator.process([item], [{"sem_seg": torch.eye(19)[classes].permute(2, 0, 1)}])
    return evaluator.evaluate()["sem_seg"]


def test_the_picture_shows_shares_of_the_true_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = []
    original = sem_seg.Figure.add_subplot

    def add_subplot(figure):
        axes = original(figure)
        draw = axes.imshow
        axes.imshow = lambda shares, **options: shown.append(shares) or draw(shares, **options)
        return axes

    monkeypatch.setattr(sem_seg.Figure, "add_subplot", add_subplot)
    counts = np.array([[6, 2, 0], [0, 5, 0], [0, 0, 0]])
    sem_seg._draw_confusion_matrix(counts, ["a", "b", "c"], str(tmp_path / "m.png"))
    assert shown[0].tolist() == [[75, 25, 0], [0, 100, 0], [0, 0, 0]]
    assert (tmp_path / "m.png").stat().st_size > 1000


def test_a_dataset_without_ground_truth_is_named(tmp_path: Path) -> None:
    name = f"test_no_truth_{tmp_path.name}"
    cv2.imwrite(str(tmp_path / "a.jpg"), np.zeros((4, 4, 3), np.uint8))
    register_sem_seg_folders(name, tmp_path, None, ["sea"])
    with pytest.raises(ValueError, match=r"has no ground truth .*predict_dataset"):
        CheckedSemSegEvaluator(name)


@pytest.mark.parametrize("num_classes", [18, 20])
def test_a_model_of_other_classes_is_refused(dataset: str, num_classes: int) -> None:
    evaluator = CheckedSemSegEvaluator(dataset)
    evaluator.reset()
    output = {"sem_seg": torch.zeros(num_classes, 24, 48)}
    with pytest.raises(ValueError, match=rf"model has {num_classes} classes, dataset .* 19"):
        evaluator.process(DatasetCatalog.get(dataset)[:1], [output])


def test_a_dataset_without_its_classes_is_named(tmp_path: Path) -> None:
    name = f"test_no_classes_{tmp_path.name}"
    DatasetCatalog.register(name, list)
    with pytest.raises(ValueError, match=f"{name}' has no stuff_classes in its metadata"):
        CheckedSemSegEvaluator(name)
