"""EMA and LoRA on the command line: trained, evaluated, resumed, merged."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from mini_training import DEPTH_CONFIG, PRETRAINED_DEPTH_SMALL, metrics_of

OPTIONS = [*PRETRAINED_DEPTH_SMALL, "TEST.NUM_PICTURES", "0", "SOLVER.MAX_ITER", "3"]
OPTIONS += "TEST.EVAL_PERIOD 2 SOLVER.EMA.ENABLED True SOLVER.BASE_LR 0.02".split()
OPTIONS += "MODEL.DIFFUSION.LORA.RANK 2 MODEL.DIFFUSION.LORA.ALPHA 8".split()


@pytest.fixture(scope="module")
def trained(
    run_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[float]]:
    """Output folder of a training, and the metrics of its last evaluation."""
    folder = tmp_path_factory.mktemp("trained")
    output = run_tool("train_net.py", "--config-file", DEPTH_CONFIG, *OPTIONS, "OUTPUT_DIR", folder)
    return folder, metrics_of(output)


def test_the_log_says_what_was_loaded_and_how_it_is_trained(trained: tuple) -> None:
    log = (trained[0] / "log.txt").read_text()
    assert "mini/diffusion: " in log
    assert "tensors used" in log
    assert "ignored: VAE decoder: images are only encoded" in log
    assert "0 missing" in log
    assert log.count("Optimizer groups") == 1


def test_checkpoints_hold_weights_and_averages_and_averages_are_evaluated(
    run_tool: Callable[..., str], trained: tuple, tmp_path: Path
) -> None:
    folder, expected = trained
    content = torch.load(folder / "model_best.pth", weights_only=True)
    assert content["ema"]["averages"].keys() < content["model"].keys()
    assert not any("base_layer" in name for name in content["ema"]["averages"])
    arguments = ["--config-file", DEPTH_CONFIG, "--eval-only", *OPTIONS]
    arguments += ["MODEL.WEIGHTS", folder / "model_final.pth", "OUTPUT_DIR", tmp_path]
    averages = run_tool("train_net.py", *arguments)
    assert "Using the averages of 3 updates" in averages
    assert metrics_of(averages) == expected
    assert metrics_of(run_tool("train_net.py", *arguments, "SOLVER.EMA.ENABLED", False)) != expected


def test_merged_weights_evaluate_the_same(
    run_tool: Callable[..., str], trained: tuple, tmp_path: Path
) -> None:
    folder, expected = trained
    plain, config = tmp_path / "plain.pth", tmp_path / "plain.yaml"
    arguments = [folder / "model_final.pth", plain, "--to", "plain"]
    output = run_tool(
        *("convert_checkpoint.py", *arguments),
        *("--config-file", folder / "config.yaml", "--config-out", config),
    )
    assert "weights: their averages (ema)" in output
    assert re.search(r"tensors of adapters merged: [1-9]", output)
    content = torch.load(plain, weights_only=True)
    assert content.keys() == {"model"}
    assert not any(".lora_" in name or ".base_layer." in name for name in content["model"])
    arguments = ["--config-file", config, "--eval-only", "OUTPUT_DIR", tmp_path / "out"]
    output = run_tool("train_net.py", *arguments)
    assert "SOLVER.EMA" not in output.split("Starting inference")[-1]
    assert metrics_of(output) == pytest.approx(expected, rel=1e-3)
