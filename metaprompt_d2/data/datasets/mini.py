"""The mini world that `datasets/make_mini.py` draws, in the formats of several datasets."""

import os
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data.datasets.builtin_meta import CITYSCAPES_CATEGORIES, _get_builtin_metadata
from detectron2.data.datasets.cityscapes import load_cityscapes_semantic

from ...codecs import KeypointSchema
from .coco_topdown import COCO_PERSON
from .keypoint_names import pair_sides
from .keypoints import register_keypoints
from .kitti import register_kitti_eigen
from .panoptic import register_panoptic

# The category of the mini world's animals, as its annotations have it.
_DOG: dict[str, Any] = {
    "keypoints": [
        *("nose", "left_ear", "right_ear", "neck", "tail"),
        *("left_front_paw", "right_front_paw", "left_hind_paw", "right_hind_paw"),
    ],
    "skeleton": [[1, 4], [1, 2], [1, 3], [4, 5], [4, 6], [4, 7], [5, 8], [5, 9]],
}
# Metadata of the dog, for `register_keypoints`.
MINI_DOG: dict[str, Any] = {
    "thing_classes": ["dog"],
    "keypoint_names": _DOG["keypoints"],
    "keypoint_connection_rules": list(KeypointSchema.from_category(_DOG).connections),
    "keypoint_flip_map": pair_sides(_DOG["keypoints"]),
    # AP-10K's, with COCO's ears.
    "keypoint_oks_sigmas": [0.026, 0.035, 0.035, 0.035, 0.035, 0.062, 0.062, 0.089, 0.089],
}


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


def register_mini_panoptic(root: str) -> None:
    """Register `mini_panoptic_{train,val}`: the streets of Cityscapes' layout with segments.

    Their label maps are those of `mini_cityscapes_fine_sem_seg_{train,val}`.
    """
    folder = os.path.join(root, "mini/cityscapes")
    for split in ("train", "val"):
        labels = os.path.join(folder, "gtFine", split)
        register_panoptic(
            f"mini_panoptic_{split}",
            os.path.join(folder, f"gtFine/panoptic_{split}.json"),
            labels,
            os.path.join(folder, "leftImg8bit", split),
            categories=CITYSCAPES_CATEGORIES,
            instances_json=os.path.join(folder, f"gtFine/instances_{split}.json"),
            sem_seg_root=labels,
            sem_seg_name=lambda name: name.replace("_panoptic.png", "_labelTrainIds.png"),
        )


def register_mini_kitti(root: str) -> None:
    """Register `mini_kitti_eigen_{train,test}`, without KITTI's crop: the images are smaller."""
    register_kitti_eigen(os.path.join(root, "mini"), prefix="mini_", crop="none", kb_crop=False)


def register_mini_coco(root: str, prefix: str = "mini_") -> None:
    """Register `<prefix>coco_{person,animal}_topdown_{train,val}`, with boxes from annotations."""
    kinds = {"person": ("coco", COCO_PERSON), "animal": ("coco_animals", MINI_DOG)}
    for kind, (folder, metadata) in kinds.items():
        for split in ("train", "val"):
            file_name = f"mini/{folder}/annotations/{kind}_keypoints_{split}2017.json"
            register_keypoints(
                f"{prefix}coco_{kind}_topdown_{split}",
                os.path.join(root, file_name),
                os.path.join(root, f"mini/{folder}/{split}2017"),
                **metadata,
            )
