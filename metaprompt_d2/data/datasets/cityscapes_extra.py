"""Cityscapes' train_extra images with coarse labels, or with labels of another model."""

import os

from cityscapesscripts.helpers.labels import trainId2label

from .sem_seg_folders import register_sem_seg_folders

__all__ = ["CITYSCAPES_CLASSES", "CITYSCAPES_COLORS", "register_cityscapes_extra"]

CITYSCAPES_CLASSES = [trainId2label[train_id].name for train_id in range(19)]
CITYSCAPES_COLORS = [trainId2label[train_id].color for train_id in range(19)]

# Folder and ending of the label maps; the second as the official MetaPrompts code names them.
_LABELS = {
    "coarse": ("gtCoarse/train_extra", "_gtCoarse_labelTrainIds.png"),
    "autolabelled": ("convert_autolabelled", "_gtFine_labelTrainIds.png"),
}


def register_cityscapes_extra(root: str) -> None:
    """Register `cityscapes_{coarse,autolabelled}_sem_seg_train_extra`, for training.

    Args:
        root: the folder that holds `cityscapes/`, usually DETECTRON2_DATASETS.
    """
    root = os.path.join(root, "cityscapes")
    for kind, (folder, suffix) in _LABELS.items():
        register_sem_seg_folders(
            f"cityscapes_{kind}_sem_seg_train_extra",
            os.path.join(root, "leftImg8bit/train_extra"),
            os.path.join(root, folder),
            CITYSCAPES_CLASSES,
            colors=CITYSCAPES_COLORS,
            image_suffix="_leftImg8bit.png",
            label_suffix=suffix,
        )
