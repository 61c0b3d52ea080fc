"""Datasets under the root `DETECTRON2_DATASETS`; importing this package registers them.

The functions `register_*` take this root, under which the folders of datasets lie.
"""

import os

from .ade20k import register_ade20k_panoptic, register_ade20k_test
from .ap10k import register_ap10k
from .cityscapes_extra import register_cityscapes_extra, set_cityscapes_colors
from .coco_topdown import register_coco_topdown
from .coco_wholebody import register_coco_wholebody
from .crowdpose import register_crowdpose
from .kitti import register_kitti_benchmark, register_kitti_eigen
from .mapillary import register_mapillary
from .mini import (
    register_mini_cityscapes,
    register_mini_coco,
    register_mini_kitti,
    register_mini_panoptic,
)
from .nyu_depth_v2 import register_nyu_depth_v2

_ROOT = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))

register_mini_cityscapes(_ROOT)
register_mini_panoptic(_ROOT)
register_mini_kitti(_ROOT)
register_mini_coco(_ROOT)
register_nyu_depth_v2(_ROOT)
register_kitti_eigen(_ROOT)
register_kitti_benchmark(_ROOT)
register_ade20k_panoptic(_ROOT)
register_ade20k_test(_ROOT)
register_cityscapes_extra(_ROOT)
register_mapillary(_ROOT)
register_coco_topdown(_ROOT)
register_coco_wholebody(_ROOT)
register_ap10k(_ROOT)
register_crowdpose(_ROOT)
set_cityscapes_colors()
