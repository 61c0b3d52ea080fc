"""Geometric augmentations that the mappers of dense tasks share."""

from detectron2.config import CfgNode
from detectron2.data import transforms as T

from ..augmentation import ResizeToBox


def inference_resizing(cfg: CfgNode) -> list[ResizeToBox]:
    """Make the resizing of test images from INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST."""
    # As in Detectron2, 0 means no resizing. Test-time augmentation scales images by itself.
    if cfg.INPUT.MIN_SIZE_TEST == 0 or cfg.TEST.AUG.ENABLED:
        return []
    return [ResizeToBox(cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST)]


def random_flip(cfg: CfgNode) -> T.RandomFlip:
    """Make the flip of training images from INPUT.RANDOM_FLIP "horizontal" or "vertical"."""
    return T.RandomFlip(
        horizontal=cfg.INPUT.RANDOM_FLIP == "horizontal",
        vertical=cfg.INPUT.RANDOM_FLIP == "vertical",
    )
