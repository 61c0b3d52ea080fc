"""The test images of ADE20K's benchmark, whose ground truth is not public."""

import os

from detectron2.data import MetadataCatalog

from ..readers import give_label_advice
from .sem_seg_folders import register_sem_seg_folders


def register_ade20k_test(root: str) -> None:
    """Register `ade20k_sem_seg_test`; Detectron2 itself registers train and val."""
    register_sem_seg_folders(
        "ade20k_sem_seg_test",
        os.path.join(root, "ADEChallengeData2016/images/testing"),
        None,
        MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes,
        image_suffix=".jpg",
    )


give_label_advice(
    150,
    range(150, 151),
    "If these are ADE20K's annotations as downloaded, which count classes from 1, "
    "datasets/prepare_ade20k_sem_seg.py shifts them",
)
