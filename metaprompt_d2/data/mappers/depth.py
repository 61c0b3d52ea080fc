"""`DepthMapper`: read images and depth for `DepthEstimator`."""

import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import transforms as T

from ...utils.errors import InputError
from ..augmentation import ResizeToBox
from ..depth_augmentation import (
    BrightnessContrast,
    CutDepth,
    DepthAugInput,
    EveryNth,
    Gamma,
    HueSaturationValue,
    KBCrop,
    RandomWindow,
)
from ..readers import read_depth
from .base import ImageMapper, inference_resizing, random_flip, to_tensor


class DepthMapper(ImageMapper):
    """Reads an image and, in training, its depth map, and augments both alike.

    Images are cut to KITTI's benchmark crop where "kb_crop" in the dataset dict is True: KITTI is
    trained, predicted and scored on this crop. The recipes don't resize images.
    """

    @configurable
    def __init__(
        self,
        is_train: bool,
        *,
        augmentations: list[T.Augmentation | T.Transform],
        image_format: str = "RGB",
    ):
        """
        Args:
            is_train, image_format: As in `ImageMapper`.
            augmentations: Augmentations in their order, after KITTI's crop.
        """
        super().__init__(is_train, image_format)
        self.augmentations = T.AugmentationList(augmentations)

    @classmethod
    def from_config(cls, cfg: CfgNode, is_train: bool = True) -> dict:
        return {
            "is_train": is_train,
            "augmentations": _train_augmentations(cfg) if is_train else inference_resizing(cfg),
            "image_format": cfg.INPUT.FORMAT,
        }

    def __call__(self, dataset_dict: dict) -> dict:
        """Map a dataset dict to the model's input.

        Args:
            dataset_dict: Dict with "file_name"; in training "depth_file_name" and "depth_scale";
                and optionally "kb_crop".

        Returns:
            The dict with "image": (C, H, W) uint8; "height" and "width" of the file's image after
            KITTI's crop; and, in training, "depth": (H, W) float32 in meters, 0 = no value.

        Raises:
            FileNotFoundError, InputError: A file is missing, unreadable or doesn't fit.
        """
        dataset_dict, image = self.read(dataset_dict)
        augmented = self._input(dataset_dict, image)
        try:
            if dataset_dict.get("kb_crop", False):
                KBCrop()(augmented)
            dataset_dict["height"], dataset_dict["width"] = augmented.image.shape[:2]
            self.augmentations(augmented)
        except InputError as error:
            raise InputError(f"image file {dataset_dict['file_name']}: {error}") from error
        dataset_dict["image"] = to_tensor(augmented.image)
        if augmented.depth is not None:
            dataset_dict["depth"] = torch.from_numpy(np.ascontiguousarray(augmented.depth))
        return dataset_dict

    def _input(self, item: dict, image: np.ndarray) -> DepthAugInput:
        if not self.is_train:
            return DepthAugInput(image)
        if "depth_file_name" not in item:
            raise InputError(
                f"image file {item['file_name']} has no ground truth to train on: its dataset dict "
                "lacks depth_file_name"
            )
        depth_file, scale = item["depth_file_name"], item["depth_scale"]
        depth = read_depth(depth_file, scale)
        if depth.shape != image.shape[:2]:
            raise InputError(
                f"depth file {depth_file} is {depth.shape[0]}x{depth.shape[1]} (height x width), "
                f"its image {item['file_name']} is {image.shape[0]}x{image.shape[1]}"
            )
        return DepthAugInput(image, depth=depth, depth_scale=scale)


def _train_augmentations(cfg: CfgNode) -> list[T.Augmentation]:
    aug, crop = cfg.INPUT.DEPTH_AUG, cfg.INPUT.CROP
    augmentations = _cut_depth(aug)
    if cfg.INPUT.MIN_SIZE_TRAIN[0]:
        augmentations.insert(0, ResizeToBox(cfg.INPUT.MAX_SIZE_TRAIN, cfg.INPUT.MIN_SIZE_TRAIN[0]))
    augmentations += random_flip(cfg)
    if crop.ENABLED:
        if crop.TYPE != "absolute":
            raise InputError(f"INPUT.CROP.TYPE is {crop.TYPE!r}, depth needs 'absolute'")
        augmentations.append(RandomWindow(tuple(crop.SIZE)))
    hsv = HueSaturationValue(aug.HUE, aug.SATURATION, aug.VALUE, cfg.INPUT.FORMAT)
    return [
        *augmentations,
        *_sometimes(BrightnessContrast(aug.BRIGHTNESS, aug.CONTRAST), aug.BRIGHTNESS_CONTRAST_PROB),
        *_sometimes(Gamma(aug.GAMMA_RANGE), aug.GAMMA_PROB),
        *_sometimes(hsv, aug.HSV_PROB),
    ]


def _cut_depth(aug: CfgNode) -> list[T.Augmentation]:
    cut_depth = CutDepth(aug.CUT_DEPTH_MAX_DEPTH, wrap_around=aug.CUT_DEPTH_WRAP_AROUND)
    if aug.CUT_DEPTH_EVERY:
        return [EveryNth(cut_depth, aug.CUT_DEPTH_EVERY)]
    return _sometimes(cut_depth, aug.CUT_DEPTH_PROB)


def _sometimes(augmentation: T.Augmentation, probability: float) -> list[T.Augmentation]:
    """Apply an augmentation with a probability; nothing for 0."""
    if not 0 <= probability <= 1:
        raise InputError(f"probability is {probability}, expected a number from 0 to 1")
    return [T.RandomApply(augmentation, probability)] if probability else []
