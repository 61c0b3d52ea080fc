"""`tools/run_mini_demo.py` on a handful of scenes."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from mini_training import DEPTH_SMALL, POSE_SMALL, SMALL


def test_the_demo_compares_both_beginnings_and_says_where_the_pictures_are(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = [*SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_tool("run_mini_demo.py", *options)
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
    options = [*SMALL, "DATASETS.TRAIN", "('gone',)", "OUTPUT_DIR", tmp_path / "demo"]
    output = run_tool("run_mini_demo.py", *options, fails=True)
    first, *_, last = [line for line in output.splitlines() if "error:" in line]
    assert "no dataset is registered as 'gone'" in first
    assert "train_net.py ended with status 1" in last


def test_the_depth_demo_compares_with_the_constant_median(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = [*DEPTH_SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_tool("run_mini_demo.py", "--task", "depth", *options)
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


def test_the_pose_demo_compares_with_the_median_pose(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = [*POSE_SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR", tmp_path / "demo"]
    output = run_tool("run_mini_demo.py", "--task", "pose", *options)
    table = output[output.rindex("2 iterations on") :]
    model, median_pose = (
        float(value)
        for value in re.search(r"^AP50 +([\d.]+) +([\d.]+)$", table, re.MULTILINE).groups()
    )
    assert 0 <= model <= median_pose < 100  # two iterations are worse than no image
    assert int(re.search(r"annotated boxes, (\d+) people", table)[1]) > 0
    assert Path(re.search(r"^pictures: (.+)$", table, re.MULTILINE)[1]).is_file()
