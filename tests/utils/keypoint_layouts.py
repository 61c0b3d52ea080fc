"""Small files in the published layouts of COCO-WholeBody, AP-10K and CrowdPose."""

import json
from pathlib import Path

import numpy as np

from metaprompt_d2.data.datasets.ap10k import AP10K

_HEIGHT, _WIDTH = 240, 320
_WHOLEBODY_FIELDS = {"foot": 6, "face": 68, "lefthand": 21, "righthand": 21}


def write_wholebody(root: Path, *, num_images: int = 4) -> Path:
    """Write `coco/annotations/coco_wholebody_val_v1.0.json`, three people on each image.

    Faces, hands and feet are missing in turn. As published, the flags of hands are numbers between
    0 and 1, and "num_keypoints" counts the body. One person has a face alone, and one is a crowd.
    """
    random = np.random.default_rng(0)
    annotations = []
    for number in range(3 * num_images):
        box = _draw_box(random, number)
        person = _annotation(number, number // 3, 1, box)
        person["keypoints"] = _draw_keypoints(random, box, 17, [0, 1, 2])
        for index, (part, count) in enumerate(_WHOLEBODY_FIELDS.items()):
            valid = number % 4 != index
            flags = [0.04, 0.7, 1.0] if "hand" in part else [1.0, 2.0]
            keypoints = _draw_keypoints(random, box, count, flags if valid else [0])
            person |= {f"{part}_kpts": keypoints, f"{part}_valid": valid}
        if number == 2:
            person["keypoints"] = [0] * 51
        person["num_keypoints"] = sum(flag > 0 for flag in person["keypoints"][2::3])
        annotations.append(person)
    annotations[-1] |= {"iscrowd": 1, "keypoints": [0] * 51, "num_keypoints": 0}
    names = {"categories": [{"id": 1, "name": "person"}]}
    file = root / "coco/annotations/coco_wholebody_val_v1.0.json"
    return _write(file, "{:012d}.jpg", num_images, annotations, names)


def write_ap10k(root: Path, *, num_images: int = 6) -> Path:
    """Write `ap10k/annotations/ap10k-val-split1.json`, animals of four species."""
    random = np.random.default_rng(1)
    annotations = []
    for number in range(2 * num_images):
        box = _draw_box(random, number)
        animal = _annotation(number, number // 2, (1, 8, 26, 54)[number % 4], box)
        animal |= {"area": box[2] * box[3], "keypoints": _draw_keypoints(random, box, 17, [0, 2])}
        animal["num_keypoints"] = sum(flag > 0 for flag in animal["keypoints"][2::3])
        annotations.append(animal)
    categories = [
        {"id": number, "name": name, "keypoints": AP10K["keypoint_names"]}
        for number, name in enumerate(AP10K["thing_classes"], start=1)
    ]
    file = root / "ap10k/annotations/ap10k-val-split1.json"
    return _write(file, "{:012d}.jpg", num_images, annotations, {"categories": categories})


def write_crowdpose(root: Path, *, num_images: int = 6) -> Path:
    """Write `crowdpose/annotations/mmpose_crowdpose_test.json`, three people on each image.

    There are no areas, "num_keypoints" counts the visible keypoints, whose flag is 2, and images
    have a crowd index. Each person's box is found by the detector, too.
    """
    random = np.random.default_rng(2)
    annotations = []
    for number in range(3 * num_images):
        box = _draw_box(random, number)
        person = _annotation(number, number // 3, 1, box)
        del person["area"]
        person["keypoints"] = _draw_keypoints(random, box, 14, [0, 1, 2] if number else [0, 1])
        person["num_keypoints"] = sum(flag == 2 for flag in person["keypoints"][2::3])
        annotations.append(person)
    folder = root / "crowdpose/annotations"
    names = {"categories": [{"id": 1, "name": "person"}]}
    file = _write(folder / "mmpose_crowdpose_test.json", "{}.jpg", num_images, annotations, names)
    content = json.loads(file.read_text())
    for image, index in zip(content["images"], np.linspace(0, 1, num_images), strict=True):
        image["crowdIndex"] = round(float(index), 2)
    file.write_text(json.dumps(content))
    found = [
        {key: item[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for item in annotations
    ]
    (folder / "det_for_crowd_test_0.1_0.5.json").write_text(json.dumps(found))
    return file


def _annotation(number: int, image_id: int, category_id: int, box: list[float]) -> dict:
    item = {"id": 100 + number, "image_id": 1 + image_id, "category_id": category_id}
    return item | {"bbox": box, "area": 0.6 * box[2] * box[3], "iscrowd": 0}


def _draw_box(random: np.random.Generator, number: int) -> list[float]:
    """Draw a medium or large box in one of three columns."""
    width, height = random.uniform((50, 60), (100, 200)).round(1).tolist()
    return [5.0 + 105 * (number % 3), 10.0, width, height]


def _draw_keypoints(
    random: np.random.Generator, box: list[float], count: int, flags: list[float]
) -> list[float]:
    left, top, width, height = box
    points = random.uniform((left, top), (left + width, top + height), (count, 2))
    values = random.choice(flags, count)
    return (np.column_stack([points, values]) * (values > 0)[:, None]).round(2).ravel().tolist()


def _write(
    file: Path, pattern: str, num_images: int, annotations: list[dict], content: dict
) -> Path:
    images = [
        {"id": number, "file_name": pattern.format(number), "height": _HEIGHT, "width": _WIDTH}
        for number in range(1, num_images + 1)
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content | {"images": images, "annotations": annotations}))
    return file
