"""`UniversalMapper`: read images and the masks of their segments for `UniversalSegmentor`."""

import logging
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T
from detectron2.structures import BitMasks, Instances, polygons_to_bitmask
from pycocotools import mask as rle

from ...utils.errors import InputError
from ..readers import read_checked_labels
from ..segments import list_segments, read_segments
from .base import to_tensor
from .sem_seg import SemSegMapper

logger = logging.getLogger(__name__)


class _Masks(NamedTuple):
    """The masks of an image, before its augmentation.

    Attributes:
        classes: Class of each mask.
        class_map: (H, W) classes and ignored pixels, for the choice of crops; None if unknown.
        transform: Function from transforms and the new (height, width) to the new masks.
    """

    classes: list[int]
    class_map: np.ndarray | None
    transform: Callable[[T.TransformList, tuple[int, int]], list[np.ndarray]]


class UniversalMapper(SemSegMapper):
    """Reads an image and, in training, its ground truth as one mask for each segment.

    What the dict has decides which ground truth this is:

    1. "pan_seg_file_name" and "segments_info": one mask for each segment, thing or stuff;
    2. "annotations": one mask for each polygon or RLE annotation;
    3. "sem_seg_file_name": one mask for each class.

    Crowds, padding and ignored pixels are in no mask, and masks that a crop leaves empty are
    dropped, as in Mask2Former.
    """

    @configurable
    def __init__(self, is_train: bool, *, max_masks: int = 100, **shared: Any):
        """
        Args:
            is_train: As in `ImageMapper`.
            max_masks: Number of masks that the model can predict; `inspect` warns about more.
            shared: Arguments of `SemSegMapper`.
        """
        super().__init__(is_train, **shared)
        self.max_masks = max_masks

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        queries = cfg.MODEL.MASK2FORMER.NUM_OBJECT_QUERIES
        return super().from_config(cfg, is_train) | {"max_masks": queries}

    def inspect(self, dataset_dicts: list[dict]) -> None:
        """Warn if images have more masks than the model can predict, or all masks one class.

        Raises:
            InputError: A dict lacks its "segments_info", or a label map is missing or unreadable.
        """
        listed = [
            (item, masks) for item in dataset_dicts if (masks := _listed_masks(item)) is not None
        ]
        if not listed:
            return super().inspect(dataset_dicts)
        crowded = [item["file_name"] for item, masks in listed if len(masks) > self.max_masks]
        if crowded:
            logger.warning(
                "%d of %d images such as %s have more segments than the model has queries (%d), so "
                "that some segments aren't learned: raise MODEL.MASK2FORMER.NUM_OBJECT_QUERIES",
                *(len(crowded), len(listed), crowded[0], self.max_masks),
            )
        found = {mask["category_id"] for _, masks in listed for mask in masks}
        if len(found) <= 1 < self.num_classes:
            logger.warning(
                "%d images such as %s have segments of the classes %s only, of %d classes",
                *(len(listed), listed[0][0]["file_name"], sorted(found), self.num_classes),
            )
        return None

    def __call__(self, dataset_dict: dict) -> dict:
        """Map a dataset dict to the model's input.

        Args:
            dataset_dict: Dict with "file_name" and, in training, ground truth.

        Returns:
            The dict with "image": (C, H, W) uint8 (float32 where padded) and, in training,
            "instances": `Instances` of that size with "gt_classes" (N,) int64 and "gt_masks",
            `BitMasks` (N, H, W). N may be 0.

        Raises:
            FileNotFoundError, InputError: A file is missing, unreadable or doesn't fit.
        """
        dataset_dict, image = self.read(dataset_dict)
        height, width = image.shape[:2]
        masks = self._masks(dataset_dict, (height, width)) if self.is_train else None
        augmented = T.AugInput(image, sem_seg=masks.class_map if masks else None)
        transforms = self.augmentations(augmented)
        dataset_dict["image"] = to_tensor(augmented.image)
        dataset_dict.pop("annotations", None)  # of the file's image; the model doesn't read them
        if masks is not None:
            size = augmented.image.shape[:2]
            dataset_dict["instances"] = _instances(
                masks.classes, masks.transform(transforms, size), size
            )
        return dataset_dict

    def _masks(self, item: dict, size: tuple[int, int]) -> _Masks:
        if "pan_seg_file_name" in item:
            return self._masks_of_segments(item, size)
        if "annotations" in item:
            return self._masks_of_annotations(item, size)
        known = {"num_classes": self.num_classes, "ignore_value": self.ignore_value}
        labels = read_checked_labels(item, size, **known)
        if self.ignore_value > 255:  # padding would wrap in 8 bits
            labels = labels.astype(np.int32)
        classes = np.setdiff1d(labels, [self.ignore_value]).tolist()
        return _Masks(classes, labels, partial(_split, labels, classes))

    def _masks_of_segments(self, item: dict, size: tuple[int, int]) -> _Masks:
        numbers, segments = read_segments(item, size), item["segments_info"]
        classes = [self._class_of(info, f"segment {info['id']}", item) for info in segments]
        kept = [n for n, info in enumerate(segments) if not info.get("iscrowd")]
        class_map = np.array([*classes, self.ignore_value], np.int32)[numbers]
        # Padding gets the ignore value, so that it stands for no segment; the others follow it.
        first = self.ignore_value + 1
        transform = partial(_split, numbers + first, [first + number for number in kept])
        return _Masks([classes[number] for number in kept], class_map, transform)

    def _masks_of_annotations(self, item: dict, size: tuple[int, int]) -> _Masks:
        noted = enumerate(item["annotations"])
        kept = {f"annotation {n}": note for n, note in noted if not note.get("iscrowd")}
        classes = [self._class_of(note, name, item) for name, note in kept.items()]
        masks = [_mask_of(note, name, item, size) for name, note in kept.items()]
        return _Masks(classes, None, partial(_transform_masks, masks))

    def _class_of(self, info: dict, name: str, item: dict) -> int:
        """Return the class of a segment, and refuse one that the model doesn't have."""
        found = info["category_id"]
        if not 0 <= found < self.num_classes:
            raise InputError(
                f"{name} of image {item['file_name']} has the class {found}, expected "
                f"0..{self.num_classes - 1} (MODEL.SEM_SEG_HEAD.NUM_CLASSES is {self.num_classes})"
            )
        return found


def _listed_masks(item: dict) -> list[dict] | None:
    """Return the segments or annotations of a dict without crowds, None if it has a label map."""
    if "pan_seg_file_name" in item:
        masks = list_segments(item)
    elif "annotations" in item:
        masks = item["annotations"]
    else:
        return None
    return [mask for mask in masks if not mask.get("iscrowd")]


def _mask_of(
    note: dict, name: str, item: dict, size: tuple[int, int]
) -> np.ndarray | list[np.ndarray]:
    """Return the mask (H, W) of an annotation, or the corners (P, 2) of its polygons."""
    found = note.get("segmentation")
    if isinstance(found, list) and all(len(part) >= 6 and len(part) % 2 == 0 for part in found):
        return [np.asarray(part, float).reshape(-1, 2) for part in found]
    if not isinstance(found, dict):
        raise InputError(
            f"{name} of image {item['file_name']} has no mask, expected 'segmentation' with "
            "polygons of 3 or more corners, or an RLE"
        )
    if tuple(found["size"]) != tuple(size):
        raise InputError(
            f"{name} of image {item['file_name']} has a mask of {found['size'][0]}x"
            f"{found['size'][1]} (height x width), its image is {size[0]}x{size[1]}"
        )
    return rle.decode(found)


def _split(
    labels: np.ndarray, values: Sequence[int], transforms: T.TransformList, size: tuple[int, int]
) -> list[np.ndarray]:
    """Transform a label map, and return the mask of each of its values."""
    transformed = transforms.apply_segmentation(labels)
    return [transformed == value for value in values]


def _transform_masks(
    masks: Sequence[np.ndarray | list[np.ndarray]],
    transforms: T.TransformList,
    size: tuple[int, int],
) -> list[np.ndarray]:
    """Transform masks; polygons are moved before they are filled, as in Detectron2."""
    return [
        # Parts of polygons outside of the image are not filled, so that no crop has to cut them.
        polygons_to_bitmask([transforms.apply_coords(part.copy()).ravel() for part in mask], *size)
        if isinstance(mask, list)
        else transforms.apply_segmentation(mask).astype(bool)
        for mask in masks
    ]


def _instances(
    classes: Sequence[int], masks: Sequence[np.ndarray], size: tuple[int, int]
) -> Instances:
    """Put masks (N, H, W) and their classes together, without empty masks."""
    kept = [number for number, mask in enumerate(masks) if mask.any()]
    stacked = np.stack([masks[number] for number in kept]) if kept else np.zeros((0, *size), bool)
    instances = Instances(size)
    instances.gt_classes = torch.tensor([classes[number] for number in kept], dtype=torch.int64)
    instances.gt_masks = BitMasks(torch.from_numpy(stacked))
    return instances
