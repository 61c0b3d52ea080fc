"""`tools/train_net.py` on a GPU: panoptic segmentation of a mini world, evaluated and resumed."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from mini_training import UNIVERSAL_CONFIG, UNIVERSAL_SMALL, losses
from scripts import run_script

pytestmark = pytest.mark.gpu

KEYS = """
    SOLVER.MAX_ITER 4 SOLVER.CHECKPOINT_PERIOD 2 SOLVER.AMP.ENABLED True SOLVER.AMP.DTYPE float16
    DATALOADER.NUM_WORKERS 2
""".split()


def train(folder: Path, data: Path, device: torch.device, *options: str) -> None:
    arguments = ["--config-file", UNIVERSAL_CONFIG, *options, *UNIVERSAL_SMALL, *KEYS]
    keys = ["MODEL.DEVICE", str(device), "OUTPUT_DIR", str(folder)]
    done = run_script("tools/train_net.py", *arguments, *keys, DETECTRON2_DATASETS=str(data))
    assert done.returncode == 0, done.stderr[-4000:]


def test_a_training_in_float16_is_evaluated_and_resumed(
    device: torch.device, tmp_path: Path
) -> None:
    world = "--num-train 4 --num-val 2 --height 64 --width 128 --output".split()
    run_script("datasets/make_mini.py", *world, tmp_path / "mini").check_returncode()
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    train(whole, tmp_path, device)
    assert sorted(losses(whole)) == [0, 1, 2, 3]
    lines = (whole / "metrics.json").read_text().splitlines()
    metrics = next(entry for entry in map(json.loads, lines) if "panoptic_seg/PQ" in entry)
    assert all(0 <= metrics[name] <= 100 for name in ("panoptic_seg/PQ", "sem_seg/mIoU"))

    parts.mkdir()
    shutil.copy(whole / "model_0000001.pth", parts)
    (parts / "last_checkpoint").write_text("model_0000001.pth")
    train(parts, tmp_path, device, "--resume")
    assert sorted(losses(parts)) == [2, 3]
    # The third iteration starts with the weights of the same checkpoint.
    (found,), (expected,) = (losses(folder)[2] for folder in (parts, whole))
    assert found == pytest.approx(expected, rel=1e-3)
