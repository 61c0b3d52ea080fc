"""Mapillary Vistas v1.2, whose 66 classes are mapped to the 19 of Cityscapes."""

import os

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image

from ...utils.errors import InputError
from ..readers import read_labels
from .cityscapes_extra import CITYSCAPES_CLASSES, CITYSCAPES_COLORS
from .sem_seg_folders import register_sem_seg_folders

__all__ = [
    "MAPILLARY_FOLDERS",
    "mapillary_to_cityscapes",
    "read_mapillary_labels",
    "register_mapillary",
]

# Folder of each split.
MAPILLARY_FOLDERS = {"train": "training", "val": "validation"}
# Mapped label maps, beside the data set's own `labels`.
MAPPED_FOLDER = "labels_cityscapes"

IGNORE = 255
# Ids of Mapillary v1.2 for each of Cityscapes' training ids (method section 3.7).
_IDS = (
    (13, 24, 41),  # road: road, lane marking, manhole
    (2, 15),  # sidewalk: curb, sidewalk
    (17,),  # building
    (6,),  # wall
    (3,),  # fence
    (45, 47),  # pole: pole, utility pole
    (48,),  # traffic light
    (50,),  # traffic sign: its front
    (30,),  # vegetation
    (29,),  # terrain
    (27,),  # sky
    (19,),  # person
    (20, 21, 22),  # rider: bicyclist, motorcyclist, other
    (55,),  # car
    (61,),  # truck
    (54,),  # bus
    (58,),  # train: on rails
    (57,),  # motorcycle
    (52,),  # bicycle
)
_NUM_V1, _NUM_V2 = 66, 124  # classes of the versions

# Colours that v1.2's palette has for ids which mean something else in v2.0.
_V1_COLORS = {
    13: (128, 64, 128),
    17: (70, 70, 70),
    27: (70, 130, 180),
    30: (107, 142, 35),
    55: (0, 0, 142),
}


def _table() -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    for train_id, ids in enumerate(_IDS):
        table[list(ids)] = train_id
    return table


_TABLE = _table()


def mapillary_to_cityscapes(labels: np.ndarray) -> np.ndarray:
    """
    Args:
        labels: (H, W) uint8 ids of Mapillary v1.2.

    Returns:
        (H, W) uint8 training ids of Cityscapes. Ids without a class there, and those that v1.2
        does not know (the official code makes them road), are 255.
    """
    return _TABLE[labels]


def read_mapillary_labels(file_name: str) -> np.ndarray:
    """
    Args:
        file_name: of a v1.2 label map.

    Returns:
        (H, W) uint8 ids.

    Raises:
        FileNotFoundError: there is no such file.
        InputError: the file is no label map, or one of Mapillary v2.0: told by ids from 66 to 123,
            and by the colours of its palette.
    """
    labels = read_labels(file_name)
    if labels.dtype != np.uint8:
        raise InputError(
            f"label file {file_name} holds more than 8 bits a pixel, expected a label map of "
            "Mapillary v1.2 (an instance map, perhaps?)"
        )
    beyond = np.unique(labels[(labels >= _NUM_V1) & (labels < _NUM_V2)])
    if len(beyond):
        _refuse(file_name, f"holds ids {beyond.tolist()}, v1.2 has 0..{_NUM_V1 - 1}")
    for number, color in _other_colors(file_name).items():
        _refuse(file_name, f"paints id {number} {color}, v1.2 {_V1_COLORS[number]}")
    return labels


def _refuse(file_name: str, why: str) -> None:
    raise InputError(
        f"label file {file_name} is of Mapillary v2.0: it {why}. Take the label maps of v1.2 "
        "(v1.2/labels in newer downloads)"
    )


def _other_colors(file_name: str) -> dict[int, tuple[int, ...]]:
    """Colours of a palette that are not v1.2's; none where the palette is grey or missing."""
    with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
        if image.mode != "P":
            return {}
        palette = np.array(image.getpalette("RGB"), np.uint8).reshape(-1, 3)
    if (palette == palette[:, :1]).all():
        return {}
    return {
        number: tuple(palette[number].tolist())
        for number, color in _V1_COLORS.items()
        if number < len(palette) and tuple(palette[number]) != color
    }


def register_mapillary(root: str) -> None:
    """Register `mapillary_cityscapes_sem_seg_{train,val}`: Mapillary with Cityscapes' classes.

    Args:
        root: the folder that holds `mapillary_vistas/`, usually DETECTRON2_DATASETS.
    """
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
