"""`load_config`: files, overrides, the device, and a config nobody can change."""

from pathlib import Path

import pytest
import torch

from metaprompt_d2.engine import load_config


def test_overrides_win_over_the_file() -> None:
    cfg = load_config("metaprompt_d2://cityscapes_seg.yaml", ["SOLVER.BASE_LR", "0.5"])
    assert cfg.SOLVER.BASE_LR == 0.5
    assert cfg.SOLVER.WEIGHT_DECAY == 0.001


def test_a_file_of_ones_own_can_build_on_a_recipe(tmp_path: Path) -> None:
    recipe = Path(__file__).resolve().parents[2] / "configs/cityscapes_seg.yaml"
    (tmp_path / "own.yaml").write_text(f"_BASE_: '{recipe}'\nSOLVER: {{MAX_ITER: 7}}\n")
    cfg = load_config(str(tmp_path / "own.yaml"), [])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (7, 8e-5)


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises((KeyError, AssertionError), match=r"MODEL\.META_PROMPT\.STEPS"):
        load_config("", ["MODEL.META_PROMPT.STEPS", "3"])
    (tmp_path / "own.yaml").write_text("MODEL: {META_PROMPT: {STEPS: 3}}\n")
    with pytest.raises(KeyError, match=r"MODEL\.META_PROMPT\.STEPS"):
        load_config(str(tmp_path / "own.yaml"), [])


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_config("", ["MODEL.DEVICE", "cuda"]).MODEL.DEVICE == "cpu"
    assert load_config("", ["MODEL.DEVICE", "meta"]).MODEL.DEVICE == "meta"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_config("", []).MODEL.DEVICE == "cuda"


def test_the_result_is_frozen() -> None:
    with pytest.raises(AttributeError, match="SOLVER"):
        load_config("", []).SOLVER = None
