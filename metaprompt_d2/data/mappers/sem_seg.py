"""`SemSegMapper`: read images and labels for `SlidingWindowSegmentor`."""

import logging

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from ...config.ranges import ignore_value_expected
from ...utils.errors import InputError
from ..augmentation import CropOfSeveralClasses, PadToSize, ResizeToBox
from ..color_augmentation import ColorAugSSD
from ..readers import read_checked_labels, read_labels
from .base import ImageMapper, inference_resizing, random_flip, to_tensor

logger = logging.getLogger(__name__)

_INSPECTED = 20  # label maps


class SemSegMapper(ImageMapper):
    """Reads an image and, in training, its label map, and augments both alike."""

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str = "RGB",
        num_classes: int,
        ignore_value: int = 255,
    ):
        """
        Args:
            is_train, image_format: As in `ImageMapper`.
            augmentations: Augmentations in their order.
            num_classes: Number of classes K; label maps hold 0..K-1 and `ignore_value`.
            ignore_value: Label of ignored pixels.

        Raises:
            InputError: The ignore value is a class, or doesn't fit label maps.
        """
        if expected := ignore_value_expected(ignore_value, num_classes):
            raise InputError(f"ignore_value is {ignore_value}, expected {expected}")
        super().__init__(is_train, image_format)
        self.augmentations = T.AugmentationList(augmentations)
        self.num_classes = num_classes
        self.ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        return {
            "is_train": is_train,
            "augmentations": _train_augmentations(cfg) if is_train else inference_resizing(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

    def inspect(self, dataset_dicts: list[dict]) -> None:
        """Warn if some label maps, evenly spaced, hold one class and ignored pixels alone.

        Raises:
            InputError: A label map is missing or cannot be read.
        """
        files = [item["sem_seg_file_name"] for item in dataset_dicts if "sem_seg_file_name" in item]
        chosen = files[:: max(len(files) // _INSPECTED, 1)][:_INSPECTED]
        found = {value for file in chosen for value in np.unique(read_labels(file)).tolist()}
        if chosen and len(found - {self.ignore_value}) <= 1 < self.num_classes:
            logger.warning(
                "%d label maps such as %s hold only %s, and %d is ignored: there is at most one "
                "class to learn. In label maps the classes are 0..%d (masks of 0 and 255 don't "
                "hold two classes)",
                *(len(chosen), chosen[0], sorted(found), self.ignore_value, self.num_classes - 1),
            )

    def __call__(self, dataset_dict: dict) -> dict:
        """Map a dataset dict to the model's input.

        Args:
            dataset_dict: Dict with "file_name" and, in training, "sem_seg_file_name".

        Returns:
            The dict with "image": (C, H, W) uint8 (float32 where padded) and, in training,
            "sem_seg": (H, W) int64.

        Raises:
            FileNotFoundError, InputError: A file is missing, unreadable or doesn't fit.
        """
        dataset_dict, image = self.read(dataset_dict)
        labels = None
        if self.is_train:
            known = {"num_classes": self.num_classes, "ignore_value": self.ignore_value}
            labels = read_checked_labels(dataset_dict, image.shape[:2], **known)
            if self.ignore_value > 255:  # padding would wrap in 8 bits
                labels = labels.astype(np.int32)
        augmented = T.AugInput(image, sem_seg=labels)
        self.augmentations(augmented)
        dataset_dict["image"] = to_tensor(augmented.image)
        if labels is not None:
            dataset_dict["sem_seg"] = torch.from_numpy(augmented.sem_seg.astype(np.int64))
        return dataset_dict


def _train_augmentations(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    """Make the augmentations of images with segmentation from the keys under INPUT.

    With MIN_SIZE_TRAIN (1024,), MAX_SIZE_TRAIN 1024, SCALE_RANGE (0.1, 2.0) and an absolute crop of
    1024x1024 this is Mask2Former's large-scale jitter.
    """
    crop, ignore_value = cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    box = cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN[0]
    augmentations: list[T.Augmentation | T.Transform] = [ResizeToBox(*box, cfg.INPUT.SCALE_RANGE)]
    if crop.ENABLED:
        area = crop.SINGLE_CATEGORY_MAX_AREA
        augmentations.append(CropOfSeveralClasses(crop.TYPE, crop.SIZE, area, ignore_value))
    augmentations += random_flip(cfg)
    if cfg.INPUT.COLOR_AUG_SSD:
        augmentations.append(ColorAugSSD(cfg.INPUT.FORMAT))
    if crop.ENABLED and crop.TYPE == "absolute":
        augmentations.append(PadToSize(crop.SIZE, cfg.MODEL.PIXEL_MEAN, ignore_value))
    return augmentations
