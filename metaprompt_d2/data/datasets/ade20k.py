"""ADE20K: panoptic segmentation, and the benchmark's test images without public ground truth."""

import os

from detectron2.data import MetadataCatalog

from ..readers import give_label_advice
from .panoptic import register_panoptic
from .sem_seg_folders import register_sem_seg_folders

# The other 100 of the 150 classes are things: those of the instance challenge, as in Mask2Former's
# register_ade20k_panoptic.py (github.com/facebookresearch/Mask2Former).
_STUFF = {
    *(0, 1, 2, 3, 4, 5, 6, 9, 11, 13, 16, 17, 21, 25, 26, 28, 29, 34, 40, 46, 48, 51, 52, 54, 59),
    *(60, 61, 63, 68, 77, 79, 84, 91, 94, 96, 99, 100, 101, 105, 106, 109, 113, 114, 117, 122, 128),
    *(131, 140, 141, 145),
}


def register_ade20k_panoptic(root: str) -> None:
    """Register `ade20k_panoptic_seg_{train,val}`.

    Mask2Former's own code registers `ade20k_panoptic_{train,val}`, so that these names are left to
    it. The names of the files are Mask2Former's.
    """
    names = MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
    categories = [
        {"id": index, "name": name, "isthing": index not in _STUFF}
        for index, name in enumerate(names)
    ]
    root = os.path.join(root, "ADEChallengeData2016")
    for split, folder in (("train", "training"), ("val", "validation")):
        register_panoptic(
            f"ade20k_panoptic_seg_{split}",
            os.path.join(root, f"ade20k_panoptic_{split}.json"),
            os.path.join(root, f"ade20k_panoptic_{split}"),
            os.path.join(root, "images", folder),
            categories=categories,
            sem_seg_root=os.path.join(root, "annotations_detectron2", folder),
        )


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
