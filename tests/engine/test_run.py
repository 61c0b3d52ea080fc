"""`load_model`: no random head, no weights of another model, no averages lost silently."""

import logging
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from helpers import smallest_cfg
from torch import nn

from metaprompt_d2.engine import SafeCheckpointer, WeightAverage, load_model
from metaprompt_d2.utils.errors import InputError

STEPS = "MODEL.META_PROMPT.REFINE_STEPS"
AUX = "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT"


def write(folder: Path, overrides: dict | None = None, **more: object) -> tuple[str, nn.Module]:
    """A checkpoint of a model of other random weights."""
    torch.manual_seed(5)
    model = build_model(smallest_cfg(overrides))
    torch.save({"model": model.state_dict()} | more, folder / "model.pth")
    return str(folder / "model.pth"), model


def same(first: nn.Module, second: nn.Module) -> bool:
    theirs = second.state_dict()
    return all(torch.equal(value, theirs[name]) for name, value in first.state_dict().items())


def test_no_weights_are_an_error_that_names_the_key(tmp_path: Path) -> None:
    cfg = smallest_cfg({"OUTPUT_DIR": str(tmp_path)})
    for resume in (False, True):
        with pytest.raises(InputError, match=r"^MODEL\.WEIGHTS is empty"):
            load_model(cfg, resume=resume)
    assert load_model(cfg, require_weights=False)


def test_the_last_checkpoint_counts_where_it_is_resumed(tmp_path: Path) -> None:
    _, model = write(tmp_path)
    SafeCheckpointer(model, str(tmp_path)).save("model_final")
    loaded = load_model(smallest_cfg({"OUTPUT_DIR": str(tmp_path)}), resume=True, optimize=False)
    assert same(loaded, model)


@pytest.mark.parametrize(
    ("in_file", "in_model", "message"),
    [
        ({STEPS: 2}, {STEPS: 3}, r"step_embeddings\.2: missing in the file"),
        ({STEPS: 3}, {STEPS: 2}, r"step_embeddings\.2: not in the model"),
        ({AUX: 0.0}, {AUX: 0.4}, r"aux_head\.0\.weight: missing in the file"),
        ({}, {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3}, r"predictor\.weight: \(11, .* \(3, "),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    tmp_path: Path, in_file: dict, in_model: dict, message: str
) -> None:
    file, _ = write(tmp_path, in_file)
    skipped = {"MODEL.SKIP_MISMATCHES": ("sem_seg_head.predictor", "sem_seg_head.aux_head")}
    for more in ({}, skipped):  # the key is for trainings
        with pytest.raises(InputError, match=message):
            load_model(smallest_cfg(in_model | more | {"MODEL.WEIGHTS": file}))


def test_the_head_for_training_alone_may_be_left_out(tmp_path: Path) -> None:
    file, model = write(tmp_path, {AUX: 0.4})
    loaded = load_model(smallest_cfg({AUX: 0.0, "MODEL.WEIGHTS": file}), optimize=False)
    assert same(loaded, model)


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_weights_of_wrapped_models_load_whole(tmp_path: Path, prefix: str) -> None:
    file, model = write(tmp_path)
    names = {n: prefix + n.replace("backbone.", "backbone._orig_mod.") for n in model.state_dict()}
    torch.save({names[name]: value for name, value in model.state_dict().items()}, file)
    assert same(load_model(smallest_cfg({"MODEL.WEIGHTS": file}), optimize=False), model)


@pytest.mark.parametrize("is_enabled", [True, False])
def test_averages_are_used_or_the_log_says_that_they_are_not(
    tmp_path: Path, is_enabled: bool, caplog: pytest.LogCaptureFixture
) -> None:
    _, model = write(tmp_path)
    average = WeightAverage(model, 0.5)
    average.update()
    with torch.no_grad():
        model.sem_seg_head.predictor.bias.add_(1)
    file, _ = write(tmp_path, model=model.state_dict(), ema=average.state_dict())
    cfg = smallest_cfg({"MODEL.WEIGHTS": file, "SOLVER.EMA.ENABLED": is_enabled})
    with caplog.at_level(logging.WARNING, logger="metaprompt_d2"):
        loaded = load_model(cfg, optimize=False)
    difference = model.sem_seg_head.predictor.bias - loaded.sem_seg_head.predictor.bias
    torch.testing.assert_close(difference, torch.full_like(difference, float(is_enabled)))
    warned = "has averages (EMA), which are not used, because SOLVER.EMA.ENABLED is False"
    assert (warned in caplog.text) != is_enabled
