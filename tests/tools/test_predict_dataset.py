"""`tools/predict_dataset.py`: one command from a config to the archive."""

import zipfile
from collections.abc import Callable
from pathlib import Path

from mini_training import CONFIG, SMALL
from random_weights import random_weights

TEST = "mini_cityscapes_fine_sem_seg_val"


def test_a_registered_dataset_is_predicted_and_zipped(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    archive = tmp_path / "results.zip"
    options = ["--config-file", CONFIG, "--dataset", TEST, "--output", archive, "--num-gpus", 2]
    aug = "TEST.AUG.ENABLED True TEST.AUG.MIN_SIZES (64,) TEST.AUG.MAX_SIZES (128,)".split()
    weights = random_weights(CONFIG, *SMALL)
    run_tool("predict_dataset.py", *options, *SMALL, *aug, *weights, "OUTPUT_DIR", tmp_path / "log")
    with zipfile.ZipFile(archive) as opened:
        names = opened.namelist()
    assert len(names) == 5
    assert all(name.endswith("_leftImg8bit.png") for name in names)


def test_without_weights_nothing_is_written(run_tool: Callable[..., str], tmp_path: Path) -> None:
    options = ["--config-file", CONFIG, "--dataset", TEST, "--output", tmp_path / "a.zip"]
    output = run_tool("predict_dataset.py", *options, "OUTPUT_DIR", tmp_path / "log", fails=True)
    assert "error: MODEL.WEIGHTS is empty" in output
    assert not list(tmp_path.glob("a*"))


def test_an_unknown_dataset_is_named(run_tool: Callable[..., str], tmp_path: Path) -> None:
    options = ["--config-file", CONFIG, "--dataset", TEST[1:], "--output", tmp_path / "a.zip"]
    output = run_tool("predict_dataset.py", *options, "OUTPUT_DIR", tmp_path / "log", fails=True)
    assert f"no dataset is registered as '{TEST[1:]}' (near: {TEST}" in output


def test_missing_folders_are_named_without_a_traceback(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = ["--config-file", CONFIG, "--output", tmp_path / "a.zip"]
    options += ["--dataset", "ade20k_sem_seg_test", "OUTPUT_DIR", tmp_path / "log"]
    output = run_tool("predict_dataset.py", *options, fails=True)
    assert "images/testing does not exist" in output
    assert "Traceback" not in output
