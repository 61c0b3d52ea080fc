"""Write the panoptic segmentation of streets in COCO's format, and the instances of the things."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
from cityscapesscripts.helpers.labels import id2label, labels
from pycocotools import mask as rle

MIN_AREA = 8  # pixels; what is smaller has no annotation

# Cityscapes' 19 classes under their label ids; things are those with instances.
CATEGORIES = [
    {
        "id": label.id,
        "name": label.name,
        "supercategory": label.category,
        "isthing": int(label.hasInstances),
        "color": list(label.color),
    }
    for label in labels
    if label.id >= 0 and not label.ignoreInEval
]
_THINGS = {category["id"] for category in CATEGORIES if category["isthing"]}


def segment_ids(instance_ids: np.ndarray) -> np.ndarray:
    """Return the segments (H, W): Cityscapes' instance ids, 0 for ignored classes and specks."""
    areas = np.bincount(instance_ids.ravel())
    kept = areas >= MIN_AREA
    for value in np.flatnonzero(areas).tolist():
        kept[value] &= not id2label[value // 1000 or value].ignoreInEval
    return np.where(kept[instance_ids], instance_ids, 0)


def segment_colors(instance_ids: np.ndarray) -> np.ndarray:
    """Encode the ids of segments as COCO's colors (H, W, 3) uint8: red + 256 green."""
    ids = segment_ids(instance_ids)
    return np.stack([ids % 256, ids // 256, np.zeros_like(ids)], axis=-1).astype(np.uint8)


def write_panoptic_annotations(root: Path, split: str) -> None:
    """Write `gtFine/{panoptic,instances}_<split>.json` from the label maps below `root`."""
    images, panoptic, instances = [], [], []
    for index, file in enumerate(sorted((root / "gtFine" / split).glob("*/*_instanceIds.png"))):
        ids = segment_ids(cv2.imread(str(file), cv2.IMREAD_UNCHANGED))
        stem = f"{file.parent.name}/{file.name.removesuffix('_gtFine_instanceIds.png')}"
        size = dict(zip(("height", "width"), ids.shape, strict=True))
        images.append({"id": index, "file_name": f"{stem}_leftImg8bit.png", **size})
        segments = [_segment(ids, value) for value in np.unique(ids[ids > 0]).tolist()]
        file_name = f"{stem}_gtFine_panoptic.png"
        panoptic.append({"image_id": index, "file_name": file_name, "segments_info": segments})
        for segment in segments:
            if segment["category_id"] in _THINGS:
                number = {"id": len(instances) + 1, "image_id": index}
                instances.append(segment | number | {"segmentation": _encode(ids, segment["id"])})
    things = [category for category in CATEGORIES if category["isthing"]]
    contents = {"panoptic": (panoptic, CATEGORIES), "instances": (instances, things)}
    for name, (notes, categories) in contents.items():
        content = {"images": images, "annotations": notes, "categories": categories}
        (root / "gtFine" / f"{name}_{split}.json").write_text(json.dumps(content))


def _segment(ids: np.ndarray, value: int) -> dict:
    """Describe a segment as COCO does."""
    mask = (ids == value).view(np.uint8)
    category = value // 1000 or value
    shape = {"area": int(mask.sum()), "bbox": list(cv2.boundingRect(mask))}
    return {"id": value, "category_id": category, "iscrowd": 0, **shape}


def _encode(ids: np.ndarray, value: int) -> dict:
    """Encode the mask of a segment as COCO's run lengths."""
    encoded = rle.encode(np.asfortranarray((ids == value).view(np.uint8)))
    return encoded | {"counts": encoded["counts"].decode()}
