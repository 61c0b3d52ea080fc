"""Small COCO-like files of people, and a backbone and model on which poses run fast."""

import json
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import smallest_cfg

from metaprompt_d2.data import register_keypoints
from metaprompt_d2.data.datasets.coco_topdown import COCO_PERSON

PEOPLE: dict = {"categories": ["person"], "num_keypoints": 17}  # for `load_annotated_people`
SMALLEST_POSE = {
    "MODEL.META_ARCHITECTURE": "TopDownPoseEstimator",
    "MODEL.PIXEL_MEAN": [127.5, 127.5, 127.5],
    "MODEL.PIXEL_STD": [127.5, 127.5, 127.5],
    "MODEL.META_PROMPT.NUM_PROMPTS": 17,
    "MODEL.META_PROMPT.REFINE_STEPS": 1,
    "MODEL.HEATMAP_HEAD.DECONV_DIMS": (8, 8),
    "INPUT.PERSON_CROP.SIZE": (64, 48),
    "TEST.AUG.ENABLED": True,
    "SOLVER.DECAY_VECTORS": False,
}


def smallest_pose_cfg(overrides: dict | None = None) -> CfgNode:
    """A pose model on `helpers.smallest_cfg`; `overrides` win."""
    return smallest_cfg(SMALLEST_POSE | (overrides or {}))


def person(person_id: int, image_id: int = 1, **changes) -> dict:
    """An annotation with 17 keypoints within the box (10, 10, 30, 60)."""
    random = np.random.default_rng(person_id)
    keypoints = np.column_stack([random.uniform(12, 38, 17), random.uniform(12, 68, 17), [2] * 17])
    return {
        "id": person_id,
        "image_id": image_id,
        "category_id": 1,
        "bbox": [10.0, 10.0, 30.0, 60.0],
        "area": 1200.0,
        "iscrowd": 0,
        "keypoints": keypoints.round(2).ravel().tolist(),
        "num_keypoints": 17,
    } | changes


def write_people(root: Path, annotations: list[dict], *, image_ids: tuple = (1, 2)) -> Path:
    """JSON of annotations on images of 80x100 (height x width) in `root`; returns its path."""
    root.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    images = []
    for image_id in image_ids:
        name = f"{image_id:012d}.jpg"
        cv2.imwrite(str(root / name), random.integers(0, 256, (80, 100, 3), np.uint8))
        images.append({"id": image_id, "file_name": name, "height": 80, "width": 100})
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "person"}],
    }
    file = root / "people.json"
    file.write_text(json.dumps(content))
    return file


def write_detections(root: Path, detections: list[dict]) -> Path:
    file = root / "detections.json"
    file.write_text(json.dumps(detections))
    return file


def detection(image_id: int = 1, score: float = 0.9, **changes) -> dict:
    box = [10.0, 10.0, 30.0, 60.0]
    return {"image_id": image_id, "category_id": 1, "bbox": box, "score": score} | changes


@contextmanager
def registered_people(json_file: Path, detections_file: Path | None = None) -> Iterator[str]:
    """Register files, with the images next to them, while the context lasts; yields the name."""
    name = f"test_people_{uuid.uuid4().hex}"
    register_keypoints(
        name,
        str(json_file),
        str(json_file.parent),
        detections_file=None if detections_file is None else str(detections_file),
        **COCO_PERSON,
    )
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


@contextmanager
def known_categories(*names: str) -> Iterator[dict]:
    """Name categories with COCO's keypoints, while the context lasts; yields config overrides."""
    dataset = f"test_categories_{uuid.uuid4().hex}"
    MetadataCatalog.get(dataset).set(**COCO_PERSON | {"thing_classes": list(names)})
    try:
        yield {"DATASETS.TRAIN": (dataset,), "DATASETS.TEST": (dataset,)}
    finally:
        MetadataCatalog.remove(dataset)
