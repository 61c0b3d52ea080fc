"""A small dataset in COCO's formats: people with boxes, masks and keypoints, and stuff."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets import register_coco_instances, register_coco_panoptic_separated
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata

STUFF = ["things", "wall", "ground"]
STUFF_IDS = [0, 92, 93]  # in the file of the segments
CATEGORY_OF_SEGMENT = {1: 92, 2: 93, 3: 1, 4: 1}
_TRIANGLE = [(0.5, 0.05), (0.95, 0.95), (0.05, 0.95)]


class CocoNames(NamedTuple):
    """Names under which the dataset is registered."""

    people: str  # boxes, masks and keypoints
    panoptic: str  # with a label map of the stuff
    stuff: str  # the label map alone


def write_coco(root: Path, *, num_images: int = 3, height: int = 64, width: int = 96) -> None:
    """Write images, label maps, segments and their JSON files: a bright triangle is a person."""
    random = np.random.default_rng(0)
    for folder in ("images", "labels", "panoptic"):
        (root / folder).mkdir(parents=True)
    images, annotations, panoptic = [], [], []
    for number in range(1, num_images + 1):
        pixels = random.integers(0, 80, (height, width, 3), np.uint8)
        labels = np.full((height, width), 1, np.uint8)
        labels[height // 2 :] = 2
        labels[0] = 255
        ids = np.select([labels == 1, labels == 2], [1, 2]).astype(np.uint8)
        for person in range(2):
            side = int(random.integers(height // 3, height // 2))
            x, y = int(random.integers(0, width - side)), int(random.integers(0, height - side))
            corners = np.array(_TRIANGLE) * side + (x, y)
            cv2.fillPoly(pixels, [corners.astype(np.int32)], (220, 220, 40 * number))
            cv2.fillPoly(labels, [corners.astype(np.int32)], 0)
            cv2.fillPoly(ids, [corners.astype(np.int32)], 3 + person)
            keypoints = [[*corners[index % 3].tolist(), 2] for index in range(17)]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": number,
                    "category_id": 1,
                    "iscrowd": 0,
                    "bbox": [x, y, side, side],
                    "area": side * side / 2,
                    "segmentation": [corners.ravel().tolist()],
                    "keypoints": sum(keypoints, []),
                    "num_keypoints": 17,
                }
            )
        cv2.imwrite(str(root / f"images/{number:03d}.jpg"), pixels)
        cv2.imwrite(str(root / f"labels/{number:03d}.png"), labels)
        red = np.dstack([np.zeros_like(ids), np.zeros_like(ids), ids])  # in OpenCV's order
        cv2.imwrite(str(root / f"panoptic/{number:03d}.png"), red)
        segments = [
            {"id": index, "category_id": CATEGORY_OF_SEGMENT[index], "iscrowd": 0}
            for index in np.unique(ids[ids > 0]).tolist()
        ]
        file_name = f"{number:03d}.png"
        panoptic.append({"image_id": number, "file_name": file_name, "segments_info": segments})
        images.append(
            {"id": number, "file_name": f"{number:03d}.jpg", "height": height, "width": width}
        )
    content = {
        "info": {},
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    (root / "instances.json").write_text(json.dumps(content))
    categories = [
        {"id": key, "name": name, "isthing": int(name == "person")}
        for name, key in zip(["person", *STUFF[1:]], [1, *STUFF_IDS[1:]], strict=True)
    ]
    content |= {"annotations": panoptic, "categories": categories}
    (root / "panoptic.json").write_text(json.dumps(content))


@contextmanager
def registered_coco(root: Path) -> Iterator[CocoNames]:
    """Register the folder of `write_coco` with Detectron2's functions while the context lasts."""
    people = f"test_coco_{uuid.uuid4().hex}"
    names = _get_builtin_metadata("coco_person")
    images, instances = str(root / "images"), str(root / "instances.json")
    register_coco_instances(
        people,
        {key: names[key] for key in names if key.startswith("keypoint_")},
        instances,
        images,
    )
    metadata = {
        "thing_classes": ["person"],
        "thing_dataset_id_to_contiguous_id": {1: 0},
        "stuff_classes": STUFF,
        "stuff_dataset_id_to_contiguous_id": {key: label for label, key in enumerate(STUFF_IDS)},
    }
    segments = str(root / "panoptic"), str(root / "panoptic.json")
    labels = str(root / "labels")
    register_coco_panoptic_separated(people, metadata, images, *segments, labels, instances)
    names = CocoNames(people, f"{people}_separated", f"{people}_stuffonly")
    try:
        yield names
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)
