"""`get_config` and `build_model`: names, paths, overrides, weights, from any folder."""

from pathlib import Path

import pytest
import torch
from helpers import SMALLEST, smallest_cfg, smallest_model

from metaprompt_d2 import build_model, get_config
from metaprompt_d2.config import recipe_names

SMALL = [part for pair in SMALLEST.items() for part in pair]


def test_packaged_configs_are_found_in_an_empty_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = get_config("mini/kitti_depth.yaml", ["TEST.AUG.ENABLED", False], weights="model.pth")
    assert cfg.MODEL.META_ARCHITECTURE == "DepthEstimator"
    assert not cfg.TEST.AUG.ENABLED
    assert cfg.MODEL.WEIGHTS == "model.pth"
    cfg.OUTPUT_DIR = "elsewhere"  # it is not frozen, as Detectron2's model zoo gives it


def test_every_name_that_is_listed_is_a_config() -> None:
    names = recipe_names()
    assert "cityscapes_seg.yaml" in names
    assert not any("Base" in name for name in names)
    for name in names:
        assert get_config(name).VERSION == 2


def test_your_own_file_takes_precedence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("cityscapes_seg.yaml").write_text("OUTPUT_DIR: mine\nVERSION: 2\n")
    assert get_config("cityscapes_seg.yaml").OUTPUT_DIR == "mine"


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(FileNotFoundError, match=r"nyu\.yaml isn't a file.*nyu_depth\.yaml"):
        get_config("nyu.yaml")


def test_a_model_comes_with_its_weights_for_inference(tmp_path: Path) -> None:
    trained = smallest_model()
    file = tmp_path / "model.pth"
    torch.save({"model": trained.state_dict()}, file)
    model = build_model(smallest_cfg({"MODEL.WEIGHTS": str(file)}))
    assert not model.training
    expected = trained.state_dict()
    for name, value in model.state_dict().items():
        assert torch.equal(expected[name], value), name
