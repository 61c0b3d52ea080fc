"""`tools/run_mini_demo.py` on a handful of scenes."""

import re
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
    row = re.search(r"^mIoU +([\d.]+) +([\d.]+)$", table, re.MULTILINE)
    assert row, table
    assert all(0 <= float(value) <= 100 for value in row.groups())
    pictures = Path(re.search(r"^pictures: (.+)$", table, re.MULTILINE)[1])
    assert pictures.is_file()
    assert (tmp_path / "demo/config.yaml").is_file()
    assert (tmp_path / "demo_random/config.yaml").is_file()


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
