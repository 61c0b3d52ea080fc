"""`tools/run_mini_demo.py` on a handful of scenes."""

import importlib.util
import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import cv2
import pytest
import torch
from mini_training import DEPTH_SMALL, POSE_CONFIG, POSE_SMALL, SMALL, UNIVERSAL_SMALL
from scripts import run_script

from metaprompt_d2.engine import load_config


@pytest.fixture
def demo() -> ModuleType:
    file = Path(__file__).resolve().parents[2] / "tools/run_mini_demo.py"
    spec = importlib.util.spec_from_file_location("run_mini_demo", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run_demo(*arguments: object, data: Path) -> str:
    """Run the demo with forks for its scripts; returns its output."""
    done = run_script("tests/utils/forked_demo.py", *arguments, DETECTRON2_DATASETS=str(data))
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def test_the_demo_compares_both_beginnings_and_says_where_the_pictures_are(
    mini_data: Path, tmp_path: Path
) -> None:
    options = [*SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_demo(*options, data=mini_data)
    table = output[output.rindex("2 iterations on") :]
    assert "mini diffusion model" in table
    assert "random weights" in table
    lines = output.splitlines()
    assert len(lines) < 60  # the log is in the output folder
    assert (tmp_path / "demo/log.txt").stat().st_size > 10_000
    # What is echoed can be pasted, here parentheses and an empty value included.
    commands = [shlex.split(line[4:]) for line in lines if line.startswith(">>> ")]
    assert [command[1] for command in commands] == ["tools/train_net.py"] * 2
    for command in commands:
        assert Path(command[0]).is_file()
        start = command.index(SMALL[0])
        assert command[start : start + len(SMALL)] == SMALL
    assert commands[1][-4:-2] == ["MODEL.DIFFUSION.WEIGHTS", ""]
    assert [line.split(", loss")[0] for line in lines if line.startswith("iteration")] == [
        "iteration 1 of 2",
        "iteration 2 of 2",
    ] * 2
    assert re.search(r"^to use .*: source \S+/bin/activate$", table, re.MULTILINE)
    row = re.search(r"^mIoU +([\d.]+) +([\d.]+)$", table, re.MULTILINE)
    assert row, table
    assert all(0 <= float(value) <= 100 for value in row.groups())
    pictures = Path(re.search(r"^pictures: (.+)$", table, re.MULTILINE)[1])
    assert pictures.is_file()
    assert (tmp_path / "demo/config.yaml").is_file()
    assert (tmp_path / "demo_random/config.yaml").is_file()


def test_a_training_that_fails_ends_the_demo_with_its_last_lines(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    """Here the training is a process of its own, as it is for users."""
    options = [*SMALL, "DATASETS.TRAIN", "('gone',)", "OUTPUT_DIR", tmp_path / "demo"]
    output = run_tool("run_mini_demo.py", *options, fails=True)
    first, *_, last = [line for line in output.splitlines() if "error:" in line]
    assert "no dataset is registered as 'gone'" in first
    assert "train_net.py ended with status 1" in last


def test_the_panoptic_demo_shows_the_miou_of_the_segmentation_demo(
    mini_data: Path, tmp_path: Path
) -> None:
    options = [*UNIVERSAL_SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_demo("--task", "panoptic", *options, data=mini_data)
    table = output[output.rindex("2 iterations on") :]
    for name in ("PQ", "PQ_th", "PQ_st", "mIoU"):
        assert 0 <= float(re.search(rf"^{name} +([\d.]+)", table, re.MULTILINE)[1]) <= 100
    assert Path(re.search(r"^pictures: (.+)$", table, re.MULTILINE)[1]).is_file()


def test_the_depth_demo_compares_with_the_constant_median(mini_data: Path, tmp_path: Path) -> None:
    options = [*DEPTH_SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_demo("--task", "depth", *options, data=mini_data)
    table = output[output.rindex("2 iterations on") :]
    median = float(re.search(r"median \(([\d.]+) m\)", table)[1])
    assert 1 < median < 80
    rmse, constant = (
        float(value)
        for value in re.search(r"^rmse +([\d.]+) +([\d.]+)$", table, re.MULTILINE).groups()
    )
    ratio = float(re.search(r"RMSE in meters: ([\d.]+) times", table)[1])
    assert ratio == pytest.approx(constant / rmse, abs=0.06)
    assert Path(re.search(r"^pictures: (.+)$", table, re.MULTILINE)[1]).is_file()


def test_the_pose_demo_compares_people_and_dogs_with_their_median_poses(
    mini_data: Path, tmp_path: Path
) -> None:
    options = [*POSE_SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_demo("--task", "pose", *options, data=mini_data)
    table = output[output.rindex("2 iterations on people, 2 on dogs") :]
    assert re.search(r"^ +people +median people +dogs +median dogs$", table, re.MULTILINE)
    people, median_people, dogs, median_dogs = (
        float(value)
        for value in re.search(r"^AP50" + r" +([\d.]+)" * 4 + "$", table, re.M).groups()
    )
    # Two iterations are worse than no image.
    assert 0 <= people <= median_people < 100
    assert 0 <= dogs <= median_dogs < 100
    counts = re.search(r"annotated boxes, (\d+) people and (\d+) dogs", table).groups()
    assert min(map(int, counts)) > 0
    drawn = cv2.imread(re.search(r"^pictures: (.+)$", table, re.MULTILINE)[1])
    parts = [
        cv2.imread(str(tmp_path / folder / f"inference/mini_coco_{kind}_topdown_val/pictures.png"))
        for folder, kind in (("demo", "person"), ("demo_animals", "animal"))
    ]
    assert [part.shape[0] > 100 for part in parts] == [True, True]
    assert drawn.shape[0] > sum(part.shape[0] for part in parts)
    assert (
        json.loads(
            (
                tmp_path / "demo_animals/inference/mini_coco_animal_topdown_val/"
                "keypoints_results.json"
            ).read_text()
        )[0]["category_id"]
        == 18
    )


@pytest.mark.parametrize(
    ("cores", "batch", "accumulation", "processes"),
    [
        (1, 8, 1, 1),
        (2, 8, 1, 2),
        (3, 8, 1, 1),
        (6, 8, 1, 2),
        (16, 8, 2, 2),
        (4, 2, 1, 1),
        (5, 5, 1, 1),
    ],
)
def test_processes_share_the_cores_and_the_batch_evenly(
    cores: int,
    batch: int,
    accumulation: int,
    processes: int,
    demo: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    started = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: cores)
    monkeypatch.setattr(demo, "run", lambda *args, **options: started.append((args, options)) or 60)
    (tmp_path / "metrics.json").write_text('{"keypoints/AP": 1.5}\n{"total_loss": 1}\n')
    options = ["SOLVER.IMS_PER_BATCH", batch, "SOLVER.ACCUMULATION_STEPS", accumulation]
    cfg = load_config(POSE_CONFIG, ["MODEL.DEVICE", "cpu", *options])
    assert demo.train("coco_pose.yaml", cfg, [], str(tmp_path)) == ({"AP": 1.5}, 60)
    demo.train("coco_pose.yaml", cfg, [], str(tmp_path), alone=True)
    (command, settings), (command_alone, settings_alone) = started
    assert "--num-gpus" not in command_alone
    assert "OMP_NUM_THREADS" not in settings_alone
    if processes == 1:
        assert "--num-gpus" not in command
        assert "OMP_NUM_THREADS" not in settings
    else:
        assert command[command.index("--num-gpus") + 1] == str(processes)
        assert settings["OMP_NUM_THREADS"] == str(cores // processes)
