"""The tools on a config of another project, whose keys, model and mapper they don't know."""

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import yaml
from mini_training import losses, metrics_of
from scripts import ROOT

PROJECT = {"DETECTRON2_ENV_MODULE": str(ROOT / "tests/utils/other_project.py")}
CONFIG = """
_BASE_: "metaprompt_d2://mini/Base-Mini.yaml"
MODEL:
  META_ARCHITECTURE: "TintModel"
  META_PROMPT: {OUT_FEATURES: ["p2"]}
  TINT: {NUM_CLASSES: 19, LOSS_WEIGHT: 0.0}
DATASETS:
  TRAIN: ("mini_cityscapes_fine_sem_seg_train",)
  TEST: ("mini_cityscapes_fine_sem_seg_val",)
INPUT: {MIN_SIZE_TRAIN: [64], MAX_SIZE_TRAIN: 128, MIN_SIZE_TEST: 64, MAX_SIZE_TEST: 128}
SOLVER: {IMS_PER_BATCH: 2, MAX_ITER: 2, LOG_PERIOD: 1}
"""


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("project") / "tint.yaml"
    file.write_text(CONFIG)
    return file


@pytest.fixture(scope="module")
def trained(
    config: Path, run_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Output folder of a training on our backbone, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    command = ["train_net.py", "--config-file", config, "OUTPUT_DIR", folder]
    return folder, run_tool(*command, **PROJECT)


def test_it_trains_with_its_keys_and_its_mapper(trained: tuple[Path, str]) -> None:
    assert losses(trained[0]) == {0: [{"total_loss": 0}], 1: [{"total_loss": 0}]}
    written = yaml.safe_load((trained[0] / "config.yaml").read_text())
    assert written["MODEL"]["TINT"] == {"NUM_CLASSES": 19, "LOSS_WEIGHT": 0.0}
    assert written["INPUT"]["DATASET_MAPPER_NAME"] == "tint_semantic"


def test_it_is_evaluated(trained: tuple[Path, str], run_tool: Callable[..., str]) -> None:
    folder, printed = trained
    output = run_tool(
        *("train_net.py", "--eval-only", "--config-file", folder / "config.yaml"),
        *("MODEL.WEIGHTS", folder / "model_final.pth"),
        **PROJECT,
    )
    assert metrics_of(output) == metrics_of(printed)


def test_it_predicts_images(
    trained: tuple[Path, str], run_tool: Callable[..., str], tmp_path: Path
) -> None:
    image = tmp_path / "image.png"
    cv2.imwrite(str(image), np.full((64, 96, 3), 128, np.uint8))
    config, weights = trained[0] / "config.yaml", trained[0] / "model_final.pth"
    files = ["--config-file", config, "--input", image, "--output", tmp_path / "to"]
    run_tool("demo.py", *files, "--opts", "MODEL.WEIGHTS", weights, **PROJECT)
    assert cv2.imread(str(tmp_path / "to/image.png")).shape == (64, 96, 3)


def test_it_is_measured(config: Path, run_tool: Callable[..., str]) -> None:
    arguments = ["--size", 64, 64, "--rounds", 1, "--variant", "all, float32"]
    output = run_tool("benchmark.py", "--config-file", config, *arguments, **PROJECT)
    assert "| all, float32" in output


def test_unknown_keys_come_with_advice(config: Path, run_tool: Callable[..., str]) -> None:
    output = run_tool("train_net.py", "--config-file", config, fails=True)
    assert f"error: config file {config}: Non-existent config key: MODEL.TINT. " in output
    assert "DETECTRON2_ENV_MODULE names a file that registers them (docs/compose.md)" in output
