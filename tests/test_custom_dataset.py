"""docs/custom_dataset.md, followed to the letter (with smaller images and fewer iterations)."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from mini_training import SMALL

from metaprompt_d2.config_files import CONFIG_ROOT

PAGE = Path(__file__).resolve().parents[1] / "docs/custom_dataset.md"
ROOT = PAGE.parents[1]


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def draw(folder: Path, split: str, count: int) -> None:
    """Images with a bright square (class 1) and a disc (class 2) on a dark background."""
    random = np.random.default_rng(count)
    for kind in ("images", "labels"):
        (folder / kind / split).mkdir(parents=True)
    for index in range(count):
        labels = np.zeros((64, 96), np.uint8)
        x, y = random.integers(4, 30, 2).tolist()
        cv2.rectangle(labels, (x, y), (x + 22, y + 22), 1, -1)
        cv2.circle(labels, (70, 20 + y // 2), 14, 2, -1)
        image = np.array([[40, 40, 40], [60, 60, 220], [240, 160, 60]], np.uint8)[labels]
        cv2.imwrite(str(folder / f"images/{split}/{index}.jpg"), image)
        cv2.imwrite(str(folder / f"labels/{split}/{index}.png"), labels)


def test_the_page_works_as_it_is_written(tmp_path: Path) -> None:
    (script,), (config,) = blocks("python"), blocks("yaml")
    (commands,) = [block for block in blocks("") if block.startswith("python")]
    assert "`train_shapes.py`" in PAGE.read_text()
    assert "`shapes.yaml`" in PAGE.read_text()
    (tmp_path / "train_shapes.py").write_text(script)
    shutil.copytree(CONFIG_ROOT, tmp_path / "configs")
    (tmp_path / "shapes.yaml").write_text(config)
    draw(tmp_path / "shapes", "train", 4)
    draw(tmp_path / "shapes", "val", 3)
    paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    for command in commands.replace("\\\n", " ").strip().splitlines():
        arguments = [sys.executable, *shlex.split(command)[1:], *SMALL, "SOLVER.MAX_ITER", "2"]
        result = subprocess.run(
            arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert result.returncode == 0, result.stderr[-3000:]
    assert "square" in result.stdout
    made = {file.name for file in (tmp_path / "output/shapes/inference/shapes_val").iterdir()}
    assert {"pictures.png", "confusion_matrix.png"} <= made
