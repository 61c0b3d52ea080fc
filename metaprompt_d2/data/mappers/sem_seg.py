"""`SemSegMapper`: read images and labels for `SlidingWindowSegmentor`."""

import copy

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import detection_utils
from detectron2.data import transforms as T

from ..augmentation import CropOfSeveralClasses, PadToSize, ResizeToBox
from ..color_augmentation import ColorAugSSD
from ..readers import read_checked_labels, read_image
from .resizing import inference_resizing, random_flip


class SemSegMapper:
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
            is_train: Whether to read and augment labels too.
            augmentations: Augmentations in their order.
            image_format: Image format of `detection_utils.read_image`.
            num_classes: Number of classes K; label maps hold 0..K-1 and `ignore_value`.
            ignore_value: Label of ignored pixels.
        """
        self.is_train = is_train
        self.augmentations = T.AugmentationList(augmentations)
        self.image_format = image_format
        self.num_classes = num_classes
        self.ignore_value = ignore_value

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        build = _train_augmentations if is_train else inference_resizing
        return {
            "is_train": is_train,
            "augmentations": build(cfg),
            "image_format": cfg.INPUT.FORMAT,
            "num_classes": cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES,
            "ignore_value": cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        }

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
        dataset_dict = copy.copy(dataset_dict)
        image = read_image(dataset_dict["file_name"], self.image_format)
        detection_utils.check_image_size(dataset_dict, image)
        labels = None
        if self.is_train:
            labels = read_checked_labels(
                dataset_dict,
                (image.shape[0], image.shape[1]),
                num_classes=self.num_classes,
                ignore_value=self.ignore_value,
            )
        augmented = T.AugInput(image, sem_seg=labels)
        self.augmentations(augmented)
        image = np.ascontiguousarray(augmented.image.transpose(2, 0, 1))
        dataset_dict["image"] = torch.from_numpy(image)
        if labels is not None:
            dataset_dict["sem_seg"] = torch.from_numpy(augmented.sem_seg.astype(np.int64))
        return dataset_dict


def _train_augmentations(cfg: CfgNode) -> list[T.Augmentation | T.Transform]:
    crop, ignore_value = cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE
    box = cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN[0]
    augmentations: list[T.Augmentation | T.Transform] = [ResizeToBox(*box, cfg.INPUT.SCALE_RANGE)]
    if crop.ENABLED:
        augmentations.append(
            CropOfSeveralClasses(crop.TYPE, crop.SIZE, crop.SINGLE_CATEGORY_MAX_AREA, ignore_value)
        )
    if cfg.INPUT.RANDOM_FLIP != "none":
        augmentations.append(random_flip(cfg))
    if cfg.INPUT.COLOR_AUG_SSD:
        augmentations.append(ColorAugSSD(cfg.INPUT.FORMAT))
    if crop.ENABLED and crop.TYPE == "absolute":
        augmentations.append(PadToSize(crop.SIZE, cfg.MODEL.PIXEL_MEAN, ignore_value))
    return augmentations
