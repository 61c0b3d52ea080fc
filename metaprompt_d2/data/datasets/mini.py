"""The mini world that `datasets/make_mini.py` draws, in the formats of three datasets."""

import os
from functools import partial

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.cityscapes import load_cityscapes_semantic

from .coco_topdown import COCO_PERSON
from .keypoints import register_keypoints
from .kitti import register_kitti_eigen


def register_mini_cityscapes(root: str) -> None:
    """Register `mini_cityscapes_fine_sem_seg_{train,val}`."""
    common = {"evaluator_type": "cityscapes_sem_seg", "ignore_label": 255}
    common |= _get_builtin_metadata("cityscapes")
    for split in ("train", "val"):
        name = f"mini_cityscapes_fine_sem_seg_{split}"
        image_dir = os.path.join(root, "mini/cityscapes/leftImg8bit", split)
        gt_dir = os.path.join(root, "mini/cityscapes/gtFine", split)
        DatasetCatalog.register(name, partial(load_cityscapes_semantic, image_dir, gt_dir))
        MetadataCatalog.get(name).set(image_dir=image_dir, gt_dir=gt_dir, **common)


def register_mini_kitti(root: str) -> None:
    """Register `mini_kitti_eigen_{train,test}`, without KITTI's crop: the images are smaller."""
    register_kitti_eigen(os.path.join(root, "mini"), prefix="mini_", crop="none", kb_crop=False)


def register_mini_coco(root: str) -> None:
    """Register `mini_coco_person_topdown_{train,val}`, with boxes from the annotations."""
    for split in ("train", "val"):
        register_keypoints(
            f"mini_coco_person_topdown_{split}",
            os.path.join(root, f"mini/coco/annotations/person_keypoints_{split}2017.json"),
            os.path.join(root, f"mini/coco/{split}2017"),
            **COCO_PERSON,
        )
