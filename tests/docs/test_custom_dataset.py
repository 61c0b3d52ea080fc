"""docs/custom_dataset.md, followed to the letter (with smaller images and fewer iterations)."""

import re
import shlex
import shutil
import zipfile
from pathlib import Path

import cv2
import numpy as np
from mini_training import SMALL
from scripts import ROOT, run_script

from metaprompt_d2.config import CONFIG_ROOT

PAGE = ROOT / "docs/custom_dataset.md"


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
    assert "`shapes_data.py`" in PAGE.read_text()
    assert "`shapes.yaml`" in PAGE.read_text()
    (tmp_path / "shapes_data.py").write_text(script)
    (tmp_path / "shapes.yaml").write_text(config)
    shutil.copytree(CONFIG_ROOT, tmp_path / "configs")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    draw(tmp_path / "shapes", "train", 4)
    draw(tmp_path / "shapes", "val", 3)
    lines = "".join(blocks("")[1:]).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines]
    assert commands.pop(0) == ["export", "DETECTRON2_ENV_MODULE=shapes_data.py"]
    for command in commands:
        assert command.pop(0) == "python"
        if "--config-file" in command:
            command += [*SMALL, "SOLVER.MAX_ITER", "2"]
        if "visualize_data" in command[0]:
            command[1:1] = ["--num-images", "2"]
    environment = {"DETECTRON2_ENV_MODULE": "shapes_data.py", "PYTHONPATH": str(ROOT)}
    output = ""
    for script, *arguments in commands:
        result = run_script(tmp_path / script, *arguments, folder=tmp_path, **environment)
        assert result.returncode == 0, result.stderr[-3000:]
        output += result.stdout
    assert "square" in output
    made = {file.name for file in (tmp_path / "output/shapes/inference/shapes_val").iterdir()}
    assert {"pictures.png", "confusion_matrix.png"} <= made
    with zipfile.ZipFile(tmp_path / "shapes_val.zip") as archive:
        assert archive.namelist() == ["0.png", "1.png", "2.png"]
    assert len(list((tmp_path / "fed").iterdir())) == 2
    assert len(list((tmp_path / "compared").iterdir())) == 3
