"""Mapillary Vistas v1.2, with its 66 classes mapped to the 19 of Cityscapes.

`mapillary_classes.json` holds the ids of v1.2 for each class of Cityscapes
(docs/method.md#mapillary-and-extra-data).
"""

import os
from pathlib import Path

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from ...utils.errors import InputError
from ...utils.files import read_json
from ..readers import give_label_advice, read_labels
from .cityscapes_extra import CITYSCAPES_CLASSES, CITYSCAPES_COLORS
from .sem_seg_folders import register_sem_seg_folders

# Folder of each split.
MAPILLARY_FOLDERS = {"train": "training", "val": "validation"}
# Folder of the mapped label maps, next to the dataset's own `labels`.
MAPPED_FOLDER = "labels_cityscapes"

IGNORE = 255
_NUM_V1, _NUM_V2 = 66, 124  # number of classes in v1.2 and v2.0

# Colors in the palette of v1.2 whose ids mean something else in v2.0.
_V1_COLORS = {13: (128, 64, 128), 17: (70, 70, 70), 27: (70, 130, 180)}
_V1_COLORS |= {30: (107, 142, 35), 55: (0, 0, 142)}


_TABLE = np.full(256, IGNORE, np.uint8)
for _name, _ids in read_json(Path(__file__).with_name("mapillary_classes.json")).items():
    _TABLE[list(_ids.values())] = CITYSCAPES_CLASSES.index(_name)


def mapillary_to_cityscapes(labels: np.ndarray) -> np.ndarray:
    """Map Mapillary's classes to those of Cityscapes.

    Args:
        labels: (H, W) uint8 ids of Mapillary v1.2.

    Returns:
        (H, W) uint8 training ids of Cityscapes. Ids without a class in Cityscapes are 255, and so
        are ids that v1.2 doesn't have (the official code maps them to road).
    """
    return _TABLE[labels]


def read_mapillary_labels(file_name: str) -> np.ndarray:
    """Read a label map of Mapillary v1.2.

    Label maps of v2.0 are recognized by ids from 66 to 123, or by the colors of their palette.

    Args:
        file_name: Label map.

    Returns:
        (H, W) uint8 ids.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't a label map of v1.2.
    """
    labels = read_labels(file_name)
    if labels.dtype != np.uint8:
        raise InputError(
            f"label file {file_name} holds more than 8 bits a pixel, expected a label map of "
            "Mapillary v1.2 (an instance map, perhaps?)"
        )
    beyond = np.unique(labels[(labels >= _NUM_V1) & (labels < _NUM_V2)])
    difference = _palette_difference(file_name)
    if len(beyond):
        difference = f"holds ids {beyond.tolist()}, v1.2 has 0..{_NUM_V1 - 1}"
    if difference:
        raise InputError(
            f"label file {file_name} is of Mapillary v2.0: it {difference}. Take the label maps "
            "of v1.2 (v1.2/labels in newer downloads)"
        )
    return labels


def _palette_difference(file_name: str) -> str:
    """Say where a palette differs from v1.2's; "" if it doesn't, is gray or is missing."""
    with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
        if image.mode != "P":
            return ""
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if (palette == palette[:, :1]).all():
        return ""
    for number, color in _V1_COLORS.items():
        if number < len(palette) and (found := tuple(palette[number].tolist())) != color:
            return f"paints id {number} {found}, v1.2 {color}"
    return ""


def register_mapillary(root: str) -> None:
    """Register `mapillary_cityscapes_sem_seg_{train,val}`."""
    for split, folder in MAPILLARY_FOLDERS.items():
        split_root = os.path.join(root, "mapillary_vistas", folder)
        register_sem_seg_folders(
            f"mapillary_cityscapes_sem_seg_{split}",
            os.path.join(split_root, "images"),
            os.path.join(split_root, MAPPED_FOLDER),
            CITYSCAPES_CLASSES,
            colors=CITYSCAPES_COLORS,
            image_suffix=".jpg",
        )


give_label_advice(
    19,
    range(19, _NUM_V2),
    "If these are Mapillary's ids, datasets/prepare_mapillary_cityscapes.py maps those of v1.2 to "
    "Cityscapes' classes",
)
