"""NYU Depth v2 (indoor, Kinect) with its usual split for depth: 24231 training, 654 test pairs."""

import logging
import os
from functools import partial

from detectron2.utils.file_io import PathManager

from ...utils.errors import MissingFileError
from .depth_lists import Pair, find_list, pair_dicts, read_list, register_depth, resolve_pairs

logger = logging.getLogger(__name__)

DEPTH_SCALE = 1000.0  # from meters to the values in the files

# Folder that the paths of a split start from, and names of its list; the first one found is read.
_FOLDERS = {"train": "sync", "test": "official_splits/test"}
_LISTS = {
    "train": ("train_list.txt", "nyudepthv2_train_files_with_gt.txt"),
    "test": ("test_list.txt", "nyudepthv2_test_files_with_gt.txt"),
}


def register_nyu_depth_v2(root: str) -> None:
    """Register `nyu_depth_v2_{train,test}`."""
    root = os.path.join(root, "nyu_depth_v2")
    for split in _FOLDERS:
        load = partial(load_nyu_depth_v2, root, split)
        register_depth(f"nyu_depth_v2_{split}", load, data_root=root, crop="nyu", max_depth=10.0)


def load_nyu_depth_v2(root: str, split: str) -> list[dict]:
    """Load the pairs of `<root>/{train,test}_list.txt` or BTS's lists.

    Without a list, every `rgb_*` with its `sync_depth_*.png` in `sync/<scene>/` is for training,
    and in `official_splits/test/<scene type>/` for testing.

    Args:
        root: Folder that holds the lists, `sync/` and `official_splits/`.
        split: "train" or "test".

    Returns:
        Dicts of `pair_dicts`, with the "image_id" `<scene>_<rgb file>` without the suffix.

    Raises:
        MissingFileError: There is neither a list nor the folder, or the folder holds no pair.
        InputError: As in `read_list`.
    """
    list_file = find_list(root, _LISTS[split])
    if list_file is None:
        pairs = _pairs_in(os.path.join(root, _FOLDERS[split]), _LISTS[split])
    else:
        pairs = resolve_pairs(root, read_list(list_file), *[(_FOLDERS[split], "")] * 2)
    return pair_dicts(pairs, DEPTH_SCALE, _image_id)


def _image_id(file_name: str) -> str:
    scene, file = file_name.split("/")[-2:]
    return f"{scene}_{os.path.splitext(file)[0]}"


def _pairs_in(folder: str, lists: tuple[str, ...]) -> list[Pair]:
    """Find `rgb_00001.jpg` and `sync_depth_00001.png` in all sub-folders."""
    if not PathManager.isdir(folder):
        raise MissingFileError(f"neither a list ({' or '.join(lists)}) nor the folder {folder}")
    pairs, alone = [], 0
    for scene in sorted(PathManager.ls(folder)):
        scene_folder = os.path.join(folder, scene)
        files = set(PathManager.ls(scene_folder)) if PathManager.isdir(scene_folder) else set()
        for image in sorted(file for file in files if file.startswith("rgb_")):
            depth = f"sync_depth_{os.path.splitext(image)[0].removeprefix('rgb_')}.png"
            if depth in files:
                pairs.append((os.path.join(scene_folder, image), os.path.join(scene_folder, depth)))
            else:
                alone += 1
    if not pairs:
        raise MissingFileError(
            f"{folder} holds no pair <scene>/rgb_<number>.jpg with <scene>/sync_depth_<number>.png"
        )
    if alone:
        logger.info("%s: %d images have no depth and are left out", folder, alone)
    return pairs
