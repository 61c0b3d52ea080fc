"""docs/custom_keypoints.md, followed to the letter (with smaller images and fewer iterations)."""

import json
import re
import shlex
import shutil
from pathlib import Path

import cv2
import numpy as np
from exported_files import read_metadata
from mini_training import POSE_SMALL
from scripts import ROOT, run_script

from metaprompt_d2.config import CONFIG_ROOT

PAGE = ROOT / "docs/custom_keypoints.md"
# Where the keypoints are in a box, as shares of its width and height.
_SHARES = np.array([(0.5, 0.1), (0.1, 0.4), (0.9, 0.4), (0.3, 0.9), (0.7, 0.9)])


def blocks(language: str) -> list[str]:
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    return [content for name, content in fenced if name == language]


def draw(folder: Path, split: str, ids: range, example: dict) -> None:
    """Images with one bird each, annotated as the page's example is."""
    random = np.random.default_rng(ids.start)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    (image,), (annotation,) = example["images"], example["annotations"]
    images, annotations = [], []
    for number in ids:
        pixels = random.integers(0, 80, (image["height"], image["width"], 3), np.uint8)
        width, height = random.integers(40, 70, 2).tolist()
        left, top = int(random.integers(0, 50)), int(random.integers(0, 20))
        points = (_SHARES * (width, height) + (left, top)).round().astype(int)
        for (x, y), color in zip(points.tolist(), np.eye(5, 3) * 255, strict=True):
            cv2.circle(pixels, (x, y), 6, color.tolist(), -1)
        name = f"{number}.jpg"
        cv2.imwrite(str(folder / "images" / name), pixels)
        images.append(image | {"id": number, "file_name": name})
        flags = np.reshape(annotation["keypoints"], (5, 3))[:, 2:]
        keypoints = np.hstack([points, flags]).ravel().tolist()
        annotations.append(annotation | {"image_id": number, "bbox": [left, top, width, height]})
        annotations[-1]["keypoints"] = keypoints
    content = example | {"images": images, "annotations": annotations}
    (folder / f"{split}.json").write_text(json.dumps(content))


def test_the_page_works_as_it_is_written(tmp_path: Path) -> None:
    (script,), (config,), (example,) = blocks("python"), blocks("yaml"), blocks("json")
    assert "`birds_data.py`" in PAGE.read_text()
    assert "`birds.yaml`" in PAGE.read_text()
    (tmp_path / "birds_data.py").write_text(script)
    (tmp_path / "birds.yaml").write_text(config)
    shutil.copytree(CONFIG_ROOT, tmp_path / "configs")
    (tmp_path / "tools").symlink_to(ROOT / "tools")
    draw(tmp_path / "birds", "train", range(4), json.loads(example))
    draw(tmp_path / "birds", "val", range(4, 6), json.loads(example))
    lines = "".join(blocks("")[1:]).replace("\\\n", " ").splitlines()
    commands = [shlex.split(line) for line in lines]
    assert commands.pop(0) == ["export", "DETECTRON2_ENV_MODULE=birds_data.py"]
    environment = {"DETECTRON2_ENV_MODULE": "birds_data.py", "PYTHONPATH": str(ROOT)}
    outputs = []
    for command in commands:
        assert command.pop(0) == "python"
        command += [*POSE_SMALL, "SOLVER.MAX_ITER", "2"]
        if "visualize_data" in command[0]:
            command[1:1] = ["--num-images", "2"]
        script, *arguments = command
        result = run_script(tmp_path / script, *arguments, folder=tmp_path, **environment)
        assert result.returncode == 0, result.stderr[-3000:]
        outputs.append(result.stdout)
    assert len(list((tmp_path / "fed").iterdir())) == 2
    trained, evaluated = (
        re.findall(r"copypaste: ([\d.,nan]+)$", output, re.MULTILINE)[-1] for output in outputs[1:3]
    )
    assert trained == evaluated
    made = tmp_path / "output/birds/inference/birds_val"
    assert (made / "pictures.png").is_file()
    results = json.loads((made / "keypoints_results.json").read_text())
    assert [item["image_id"] for item in results] == [4, 5]
    assert {item["category_id"] for item in results} == {1}
    predicted = json.loads((tmp_path / "predicted/keypoints.json").read_text())
    assert [len(item["keypoints"]) for item in predicted["annotations"]] == [15] * 6
    assert predicted["categories"][0]["name"] == "bird"
    assert len(list((tmp_path / "predicted").glob("*.png"))) == 6
    assert float(re.search(r"difference from the model: (\S+), of", outputs[-1])[1]) < 1e-4
    names = json.loads(example)["categories"][0]["keypoints"]
    assert read_metadata(tmp_path / "birds.pt2")["keypoints"] == names
