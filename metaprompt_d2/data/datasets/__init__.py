"""Datasets under the root `DETECTRON2_DATASETS`; importing registers them."""

import os

from .mini import register_mini_cityscapes, set_cityscapes_colors

_ROOT = os.path.expanduser(os.getenv("DETECTRON2_DATASETS", "datasets"))

register_mini_cityscapes(_ROOT)
set_cityscapes_colors()
