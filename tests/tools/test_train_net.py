"""`tools/train_net.py` end to end: train, evaluate, resume, several processes, bad input."""

import json
import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from mini_training import CONFIG, SMALL, free_port, losses, metrics_of
from PIL import Image
from scripts import run_script

VAL = "mini_cityscapes_fine_sem_seg_val"
# Losses must not depend on what the log's smoothing has seen, nor dropout on the process's past.
TRAINING = [*SMALL, *"SOLVER.MAX_ITER 6 SOLVER.CHECKPOINT_PERIOD 2 TEST.EVAL_PERIOD 4".split()]
TRAINING += ["MODEL.SEM_SEG_HEAD.DROPOUT", "0.3"]


@pytest.fixture(scope="module")
def trained(run_tool: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of an uninterrupted training."""
    output_dir = tmp_path_factory.mktemp("trained")
    run_tool("train_net.py", "--config-file", CONFIG, *TRAINING, "OUTPUT_DIR", output_dir)
    return output_dir


def test_training_leaves_checkpoints_metrics_and_pictures(trained: Path) -> None:
    assert sorted(losses(trained)) == [0, 1, 2, 3, 4, 5]
    assert (trained / "last_checkpoint").read_text() == "model_final.pth"
    assert {"model_0000001.pth", "model_0000003.pth"} <= set(os.listdir(trained))
    assert not list(trained.glob("*.tmp"))
    assert list(trained.glob("events.out.tfevents.*"))
    with Image.open(trained / "inference" / VAL / "pictures.png") as pictures:
        assert pictures.width > 3 * 128
        assert pictures.height > 5 * 64
    entries = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    measured = [entry for entry in entries if "sem_seg/mIoU" in entry]
    assert len(measured) == 2  # at iteration 4 and at the end
    assert all(
        np.isfinite([entry["sem_seg/IoU"], entry["sem_seg/iIoU_sup"]]).all() for entry in measured
    )


def test_best_checkpoint_is_the_one_with_the_highest_miou(trained: Path) -> None:
    entries = [json.loads(line) for line in (trained / "metrics.json").read_text().splitlines()]
    best = max(entry["sem_seg/mIoU"] for entry in entries if "sem_seg/mIoU" in entry)
    record = json.loads((trained / "model_best.json").read_text())
    assert record["value"] == pytest.approx(best)
    assert (trained / "model_best.pth").is_file()


def test_evaluation_is_the_same_in_one_process_two_processes_and_two_machines(
    run_tool: Callable[..., str], mini_data: Path, trained: Path, tmp_path: Path
) -> None:
    common = ["--config-file", CONFIG, "--eval-only"]
    options = [*SMALL, "MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR"]
    alone = run_tool("train_net.py", *common, *options, tmp_path / "alone")
    url = f"tcp://127.0.0.1:{free_port()}"
    two = run_tool(
        "train_net.py", *common, "--num-gpus", 2, "--dist-url", url, *options, tmp_path / "two"
    )
    url = f"tcp://127.0.0.1:{free_port()}"
    machines = run_script(
        *("tests/utils/two_machines.py", "tools/train_net.py", *common, "--dist-url", url),
        *(*options, tmp_path / "machines"),
        DETECTRON2_DATASETS=str(mini_data),
    )
    assert machines.returncode == 0, machines.stderr[-4000:]

    assert metrics_of(alone) == metrics_of(two) == metrics_of(machines.stdout)
    for run in ("alone", "two", "machines"):
        file = tmp_path / run / "inference" / VAL / "sem_seg_predictions.json"
        segments = [
            (item["file_name"], item["category_id"]) for item in json.loads(file.read_text())
        ]
        assert len(segments) == len(set(segments))  # no image twice
        assert len({name for name, _ in segments}) == 5  # and none left out


def test_a_killed_training_resumes_with_the_same_losses(
    run_tool: Callable[..., str], mini_data: Path, trained: Path, tmp_path: Path
) -> None:
    arguments = ["--config-file", CONFIG, *TRAINING, "OUTPUT_DIR", tmp_path]
    killed = run_script(
        *(
            "tests/utils/killed.py",
            tmp_path / "model_0000003.pth",
            "tools/train_net.py",
            *arguments,
        ),
        DETECTRON2_DATASETS=str(mini_data),
    )
    assert killed.returncode == signal.SIGKILL, killed.stderr[-4000:]
    assert not (tmp_path / "model_final.pth").exists()
    # What a kill in the middle of writing leaves behind.
    (tmp_path / "model_0000005.pth.tmp").write_bytes(b"half a checkpoint")

    run_tool("train_net.py", "--resume", *arguments)

    resumed, expected = losses(tmp_path), losses(trained)
    assert {4, 5} <= set(resumed)
    for iteration, entries in resumed.items():
        assert all(entry == expected[iteration][0] for entry in entries), iteration
    final = [torch.load(run / "model_final.pth", weights_only=True) for run in (tmp_path, trained)]
    assert all(
        torch.equal(final[0]["model"][key], final[1]["model"][key]) for key in final[1]["model"]
    )


def test_two_processes_train_with_accumulation_and_bfloat16(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = "SOLVER.MAX_ITER 2 SOLVER.IMS_PER_BATCH 4 SOLVER.ACCUMULATION_STEPS 2".split()
    options += "SOLVER.AMP.ENABLED True SOLVER.AMP.DTYPE bfloat16 DATALOADER.NUM_WORKERS 1".split()
    url = f"tcp://127.0.0.1:{free_port()}"
    output = run_tool(
        "train_net.py",
        *("--config-file", CONFIG, "--num-gpus", 2, "--dist-url", url),
        *(*SMALL, *options, "OUTPUT_DIR", tmp_path),
    )
    assert sorted(losses(tmp_path)) == [0, 1]
    assert "NaiveSyncBN" in output  # in the printed model
    assert len(metrics_of(output)) == 9


def test_a_loss_that_is_not_finite_stops_training_after_a_last_checkpoint(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    output = run_tool(
        "train_net.py",
        *("--config-file", CONFIG, *SMALL, "SOLVER.BASE_LR", 1e30, "OUTPUT_DIR", tmp_path),
        fails=True,
    )
    message = re.search(r"error: loss became NaN or infinite at iteration (\d+)", output)
    assert message, output[-2000:]
    assert "_leftImg8bit.png" in output[message.start() :]
    last_good = int(message[1]) - 1
    assert (tmp_path / "last_checkpoint").read_text() == f"model_{last_good:07d}.pth"
    checkpoint = torch.load(tmp_path / f"model_{last_good:07d}.pth", weights_only=True)
    assert checkpoint["iteration"] == last_good
    assert all(
        torch.isfinite(value).all()
        for value in checkpoint["model"].values()
        if value.is_floating_point()
    )


def test_a_missing_and_an_empty_dataset_are_named(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    arguments = ["train_net.py", "--config-file", CONFIG, *SMALL, "OUTPUT_DIR", tmp_path / "out"]
    output = run_tool(*arguments, fails=True, DETECTRON2_DATASETS=str(tmp_path / "nowhere"))
    assert "dataset 'mini_cityscapes_fine_sem_seg_train' cannot be loaded" in output
    assert str(tmp_path / "nowhere/mini/cityscapes/leftImg8bit/train") in output

    (tmp_path / "empty/mini/cityscapes/leftImg8bit/train").mkdir(parents=True)
    (tmp_path / "empty/mini/cityscapes/gtFine/train").mkdir(parents=True)
    output = run_tool(*arguments, fails=True, DETECTRON2_DATASETS=str(tmp_path / "empty"))
    assert "cannot be loaded: No images found" in output


def test_a_damaged_image_stops_training_with_its_name(
    run_tool: Callable[..., str], mini_data: Path, tmp_path: Path
) -> None:
    data = tmp_path / "data"
    shutil.copytree(mini_data / "mini/cityscapes", data / "mini/cityscapes")
    images = sorted(data.glob("mini/cityscapes/leftImg8bit/train/*/*.png"))
    for image in images:
        image.write_bytes(image.read_bytes()[:200])
    output = run_tool(
        "train_net.py",
        *("--config-file", CONFIG, *SMALL, "OUTPUT_DIR", tmp_path / "out"),
        fails=True,
        DETECTRON2_DATASETS=str(data),
    )
    message = re.search(r"error: image file (\S+) cannot be read as an image", output)
    assert message, output[-2000:]
    assert Path(message[1]) in images


def test_a_checkpoint_of_other_shapes_is_refused_with_all_of_them(
    run_tool: Callable[..., str], trained: Path, tmp_path: Path
) -> None:
    weights = trained / "model_final.pth"
    output = run_tool(
        "train_net.py",
        *("--config-file", CONFIG, "--eval-only", *SMALL, "MODEL.WEIGHTS", weights),
        *("MODEL.META_PROMPT.NUM_PROMPTS", 7, "OUTPUT_DIR", tmp_path),
        fails=True,
    )
    assert "meta_prompts.embeddings.0: (32, 16) in the file, (7, 16) in the model" in output
    assert "sem_seg_head.aux_head.0.weight: (16, 32, 3, 3) in the file, (16, 7, 3, 3)" in output


def test_the_real_cityscapes_image_is_evaluated(
    run_tool: Callable[..., str], trained: Path, real_data: Path, tmp_path: Path
) -> None:
    output = run_tool(
        "train_net.py",
        *("--config-file", CONFIG, "--eval-only", *SMALL),
        *("MODEL.WEIGHTS", trained / "model_final.pth", "OUTPUT_DIR", tmp_path),
        *("DATASETS.TEST", "('cityscapes_fine_sem_seg_val',)"),
        DETECTRON2_DATASETS=str(real_data),
    )
    assert all(0 <= value <= 100 for value in metrics_of(output))
    pictures = tmp_path / "inference/cityscapes_fine_sem_seg_val/pictures.png"
    with Image.open(pictures) as image:
        assert image.width > 3 * 256
