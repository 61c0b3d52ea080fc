"""The images of ADE20K's benchmark, whose ground truth is not public."""

import os

from detectron2.data import MetadataCatalog

from .sem_seg_folders import register_sem_seg_folders

__all__ = ["register_ade20k_test"]


def register_ade20k_test(root: str) -> None:
    """Register `ade20k_sem_seg_test` beside Detectron2's own `ade20k_sem_seg_{train,val}`.

    Args:
        root: the folder that holds `ADEChallengeData2016/`, usually DETECTRON2_DATASETS.
    """
    register_sem_seg_folders(
        "ade20k_sem_seg_test",
        os.path.join(root, "ADEChallengeData2016/images/testing"),
        None,
        MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes,
        image_suffix=".jpg",
    )
