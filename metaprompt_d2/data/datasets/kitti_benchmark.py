"""The 500 test images of KITTI's depth prediction benchmark, whose ground truth isn't public."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...utils.errors import MissingFileError


def register_kitti_benchmark(root: str) -> None:
    """Register `kitti_depth_prediction_test`.

    Args:
        root: Folder that holds `kitti/`, usually DETECTRON2_DATASETS.
    """
    name = "kitti_depth_prediction_test"
    folder = "kitti/depth_selection/test_depth_prediction_anonymous/image"
    image_dir = os.path.join(root, folder)
    DatasetCatalog.register(name, lambda: load_kitti_benchmark(image_dir))
    MetadataCatalog.get(name).set(image_dir=image_dir, evaluator_type="depth", max_depth=80.0)


def load_kitti_benchmark(image_dir: str) -> list[dict]:
    """Load the dicts of all PNGs in a folder, without ground truth.

    The benchmark's images are already cropped to 352x1216 pixels.

    Raises:
        MissingFileError: The folder doesn't exist or holds no PNG.
    """
    files = sorted(PathManager.ls(image_dir)) if PathManager.isdir(image_dir) else []
    stems = [file.removesuffix(".png") for file in files if file.endswith(".png")]
    if not stems:
        raise MissingFileError(f"{image_dir} holds no PNG")
    return [
        {"file_name": os.path.join(image_dir, f"{stem}.png"), "image_id": stem} for stem in stems
    ]
