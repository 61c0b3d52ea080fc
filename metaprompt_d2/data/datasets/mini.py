"""The mini world that `datasets/make_mini.py` draws, in the formats of three datasets."""

import os

from cityscapesscripts.helpers.labels import trainId2label
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import _get_builtin_metadata
from detectron2.data.datasets.cityscapes import load_cityscapes_semantic

from .coco_topdown import register_people
from .kitti import register_kitti_eigen


def register_mini_cityscapes(root: str) -> None:
    """Register `mini_cityscapes_fine_sem_seg_{train,val}`.

    Args:
        root: Folder that holds `mini/`, usually DETECTRON2_DATASETS.
    """
    metadata = _get_builtin_metadata("cityscapes")
    for split in ("train", "val"):
        name = f"mini_cityscapes_fine_sem_seg_{split}"
        image_dir = os.path.join(root, "mini/cityscapes/leftImg8bit", split)
        gt_dir = os.path.join(root, "mini/cityscapes/gtFine", split)
        DatasetCatalog.register(name, lambda x=image_dir, y=gt_dir: load_cityscapes_semantic(x, y))
        MetadataCatalog.get(name).set(
            image_dir=image_dir,
            gt_dir=gt_dir,
            evaluator_type="cityscapes_sem_seg",
            ignore_label=255,
            **metadata,
        )


def register_mini_kitti(root: str) -> None:
    """Register `mini_kitti_eigen_{train,test}`, without KITTI's crop: the images are smaller.

    Args:
        root: Folder that holds `mini/`, usually DETECTRON2_DATASETS.
    """
    register_kitti_eigen(os.path.join(root, "mini"), prefix="mini_", crop="none", kb_crop=False)


def register_mini_coco(root: str) -> None:
    """Register `mini_coco_person_topdown_{train,val}`, with boxes from the annotations.

    Args:
        root: Folder that holds `mini/`, usually DETECTRON2_DATASETS.
    """
    for split in ("train", "val"):
        register_people(
            f"mini_coco_person_topdown_{split}",
            os.path.join(root, f"mini/coco/annotations/person_keypoints_{split}2017.json"),
            os.path.join(root, f"mini/coco/{split}2017"),
        )


def set_cityscapes_colors() -> None:
    """Set the official colors of the Cityscapes datasets, which Detectron2 leaves out."""
    colors = [trainId2label[train_id].color for train_id in range(19)]
    for name in DatasetCatalog.list():
        if name.removeprefix("mini_").startswith("cityscapes_fine_sem_seg_"):
            metadata = MetadataCatalog.get(name)
            if not hasattr(metadata, "stuff_colors"):
                metadata.set(stuff_colors=colors)
