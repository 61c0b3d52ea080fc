"""Cityscapes' train_extra images with coarse labels, or with labels predicted by a model."""

import os

from cityscapesscripts.helpers.labels import trainId2label
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..readers import give_label_advice
from .sem_seg_folders import register_sem_seg_folders

CITYSCAPES_CLASSES = [trainId2label[train_id].name for train_id in range(19)]
CITYSCAPES_COLORS = [trainId2label[train_id].color for train_id in range(19)]

# Folder and suffix of the label maps. The official MetaPrompts code uses the second pair.
_LABELS = {
    "coarse": ("gtCoarse/train_extra", "_gtCoarse_labelTrainIds.png"),
    "autolabelled": ("convert_autolabelled", "_gtFine_labelTrainIds.png"),
}


def register_cityscapes_extra(root: str) -> None:
    """Register `cityscapes_{coarse,autolabelled}_sem_seg_train_extra` for training."""
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


def set_cityscapes_colors() -> None:
    """Set the official colors of the Cityscapes datasets, which Detectron2 leaves out."""
    for name in DatasetCatalog.list():
        if name.removeprefix("mini_").startswith("cityscapes_fine_sem_seg_"):
            metadata = MetadataCatalog.get(name)
            if not hasattr(metadata, "stuff_colors"):
                metadata.set(stuff_colors=CITYSCAPES_COLORS)


give_label_advice(
    19,
    range(19, 34),
    "These look like Cityscapes' label ids; csCreateTrainIdLabelImgs (of cityscapesscripts) makes "
    "*_labelTrainIds.png, datasets/prepare_cityscapes_extra.py those of train_extra",
)
