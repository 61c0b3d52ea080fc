"""What the mappers share: their base class, and augmentations of dense tasks."""

import copy

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import detection_utils
from detectron2.data import transforms as T

from ..augmentation import ResizeToBox
from ..readers import read_image


class ImageMapper:
    """Base class of mappers, which tells the loaders how to load a dataset.

    Attributes:
        test_batch_size: Samples that a process takes from a test set at once.
    """

    test_batch_size = 1

    def __init__(self, is_train: bool, image_format: str):
        """
        Args:
            is_train: Whether to read ground truth and to augment.
            image_format: Image format of `detection_utils.read_image`.
        """
        self.is_train = is_train
        self.image_format = image_format

    def select(self, dataset_dicts: list[dict]) -> list[dict]:
        """Return the dicts of a test set to test on: all, unless a mapper overrides it."""
        return dataset_dicts

    def inspect(self, dataset_dicts: list[dict]) -> None:
        """Look at a training set and warn about what is suspicious: nothing, unless overridden.

        Raises:
            InputError: Training would fail on one of them.
        """

    def read(self, dataset_dict: dict) -> tuple[dict, np.ndarray]:
        """Return a copy of the dict, and its image (H, W, C) of uint8.

        Raises:
            FileNotFoundError, InputError: The file is missing or unreadable.
            SizeMismatchError: The image isn't of the dict's "height" and "width".
        """
        dataset_dict = copy.copy(dataset_dict)
        image = read_image(dataset_dict["file_name"], self.image_format)
        detection_utils.check_image_size(dataset_dict, image)
        return dataset_dict, image


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """Turn an image (H, W, C) into a tensor (C, H, W)."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def inference_resizing(cfg: CfgNode) -> list[ResizeToBox]:
    """Make the resizing of test images from INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST."""
    # As in Detectron2, 0 means no resizing. Test-time augmentation scales images by itself.
    if cfg.INPUT.MIN_SIZE_TEST == 0 or cfg.TEST.AUG.ENABLED:
        return []
    return [ResizeToBox(cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST)]


def random_flip(cfg: CfgNode) -> list[T.RandomFlip]:
    """Make the flip of training images from INPUT.RANDOM_FLIP; none for "none"."""
    direction = cfg.INPUT.RANDOM_FLIP
    if direction == "none":
        return []
    return [T.RandomFlip(horizontal=direction == "horizontal", vertical=direction == "vertical")]
