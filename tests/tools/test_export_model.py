"""`tools/export_model.py`: a config and a checkpoint in, one checked file out."""

import re
from pathlib import Path

import export_model
import pytest
import torch
from exported_files import read_metadata
from helpers import TWO_LEVELS, smallest_cfg, smallest_depth_cfg
from random_weights import random_weights

from metaprompt_d2.engine import load_model
from metaprompt_d2.export import ExportableModel


def test_a_checkpoint_becomes_a_file_that_is_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19, "MODEL.META_PROMPT.REFINE_STEPS": 1}
    cfg = smallest_cfg(TWO_LEVELS | keys)
    (tmp_path / "config.yaml").write_text(cfg.dump())
    torch.save(
        {"model": load_model(cfg, require_weights=False).state_dict()}, tmp_path / "model.pth"
    )
    file = tmp_path / "seg.pt2"
    argv = ["--config-file", str(tmp_path / "config.yaml"), "--output", str(file), "--check"]
    argv += ["--image-size", "64", "96", "--batch-size", "2"]
    export_model.main([*argv, "MODEL.WEIGHTS", str(tmp_path / "model.pth")])
    found = re.search(r"largest difference from the model: (\S+), of", capsys.readouterr().out)
    assert float(found[1]) < 1e-4
    about = read_metadata(file)
    assert about["task"] == "sem_seg"
    assert about["classes"][:2] == ["road", "sidewalk"]


def test_a_packaged_config_is_found_by_its_name() -> None:
    argv = ["--config-file", "mini/kitti_depth.yaml", "--output", "x.pt2", "MODEL.DEVICE", "cpu"]
    with pytest.raises(SystemExit, match="a depth model needs --image-size"):
        export_model.main([*argv, *random_weights("mini/kitti_depth.yaml")])


def test_without_weights_nothing_is_exported(tmp_path: Path) -> None:
    argv = ["--config-file", "mini/kitti_depth.yaml", "--output", str(tmp_path / "x.pt2")]
    with pytest.raises(SystemExit, match=r"^error: MODEL\.WEIGHTS is empty"):
        export_model.main([*argv, "--image-size", "64", "64", "MODEL.DEVICE", "cpu"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("num_classes", "is_named"), [(19, True), (3, False)])
def test_classes_are_named_if_the_names_are_known(num_classes: int, is_named: bool) -> None:
    cfg = smallest_cfg({"MODEL.SEM_SEG_HEAD.NUM_CLASSES": num_classes})
    model = load_model(cfg, require_weights=False)
    about = export_model.describe(cfg, ExportableModel(model, argmax=True))
    assert about["output"] == "classes (N, H, W)"
    assert ("classes" in about) == is_named


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--output", "x.pb"], "must end in one of .onnx, .pt2"),
        (["--output", "nowhere/x.pt2"], "the folder of nowhere/x.pt2 does not exist"),
        (["--output", "x.pt2", "--image-size", "0", "4"], "must be at least 1"),
        (["--output", "x.pt2"], "a depth model needs --image-size"),
        (["--output", "x.pt2", "--argmax", "--image-size", "64", "64"], "has no classes"),
    ],
)
def test_a_mistake_ends_in_one_line(
    argv: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "config.yaml"
    config.write_text(smallest_depth_cfg().dump())
    with pytest.raises(SystemExit) as stop:
        export_model.main(["--config-file", str(config), *argv, *random_weights(str(config))])
    assert message in f"{stop.value.code}{capsys.readouterr().err}"
