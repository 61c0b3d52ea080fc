"""docs/new_task.md, followed to the letter: a new task from outside the package."""

import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
from mini_training import losses
from scripts import ROOT, run_script

from metaprompt_d2.config import CONFIG_ROOT

PAGE = ROOT / "docs/new_task.md"
SMALL = "SOLVER.IMS_PER_BATCH 2 SOLVER.WARMUP_ITERS 1 SOLVER.MAX_ITER 2 SOLVER.LOG_PERIOD 1".split()


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def draw(folder: Path, count: int) -> None:
    """Boxes on the ground, the brighter the higher."""
    random = np.random.default_rng(count)
    folder.mkdir(parents=True)
    for index in range(count):
        heights = np.zeros((64, 64), np.float32)
        x, y, height = random.integers(4, 30, 3).tolist()
        cv2.rectangle(heights, (x, y), (x + 22, y + 22), height, -1)
        cv2.imwrite(str(folder / f"{index}.png"), np.repeat(heights[..., None] * 8, 3, axis=2))
        np.save(folder / f"{index}.npy", heights)


def test_the_page_works_as_it_is_written(tmp_path: Path) -> None:
    (script,), (config,), (commands,) = blocks("python"), blocks("yaml"), blocks("")
    (tmp_path / "train_heights.py").write_text(script)
    (tmp_path / "heights.yaml").write_text(config)
    shutil.copytree(CONFIG_ROOT, tmp_path / "configs")
    draw(tmp_path / "heights/train", 4)
    draw(tmp_path / "heights/val", 3)
    outputs = []
    for command in commands.replace("\\\n", " ").strip().splitlines():
        script, *arguments = shlex.split(command)[1:]
        result = run_script(
            tmp_path / script, *arguments, *SMALL, folder=tmp_path, PYTHONPATH=str(ROOT)
        )
        assert result.returncode == 0, result.stderr[-3000:]
        outputs.append(result.stdout)
    assert sorted(losses(tmp_path / "output/heights")) == [0, 1]
    trained, evaluated = (
        float(re.findall(r"heights.*?copypaste: ([\d.]+)$", text, re.DOTALL | re.MULTILINE)[-1])
        for text in outputs
    )
    assert 0 < evaluated == trained
