"""Resizing of test images, alike for all dense tasks."""

from detectron2.config import CfgNode

from ..augmentation import ResizeToBox

__all__ = ["inference_resizing"]


def inference_resizing(cfg: CfgNode) -> list[ResizeToBox]:
    """What INPUT.MIN_SIZE_TEST and INPUT.MAX_SIZE_TEST ask for."""
    # 0 is Detectron2's way to say: no resizing. Test-time augmentation scales images itself.
    if cfg.INPUT.MIN_SIZE_TEST == 0 or cfg.TEST.AUG.ENABLED:
        return []
    return [ResizeToBox(cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST)]
