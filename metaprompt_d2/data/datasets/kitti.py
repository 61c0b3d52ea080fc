"""KITTI (outdoor, laser scans): Eigen's split for depth, and the depth prediction benchmark.

Eigen's split (Eigen et al., 2014) is in `kitti_eigen_split.json`: the 33 training drives, which are
those of the categories city, residential and road that aren't tested, and the 697 test frames of 28
drives. 23158 training and 652 test pairs have ground truth.
"""

import os
from functools import partial
from pathlib import Path

from detectron2.utils.file_io import PathManager

from ...utils.errors import MissingFileError
from ...utils.files import read_json
from .depth_lists import Pair, find_list, pair_dicts, read_list, register_depth, resolve_pairs

DEPTH_SCALE = 256.0  # from meters to the values in the files

# Names of the list of a split in the root folder; the first one found is read.
LISTS = {
    "train": ("train_list.txt", "eigen_train_files_with_gt.txt"),
    "test": ("test_list.txt", "eigen_test_files_with_gt.txt"),
}

_IMAGE_BASES = ("", "raw_data")
_TRUTH_BASES = ("data_depth_annotated/train", "data_depth_annotated/val", "data_depth_annotated")

_SPLIT = read_json(Path(__file__).with_name("kitti_eigen_split.json"))
TEST_FRAMES: dict[str, list[int]] = _SPLIT["test"]
DRIVES: dict[str, list[str]] = {split: list(drives) for split, drives in _SPLIT.items()}


def register_kitti_eigen(
    root: str, *, prefix: str = "", crop: str = "garg", kb_crop: bool = True
) -> None:
    """Register `<prefix>kitti_eigen_{train,test}`.

    Args:
        root: Folder that holds `kitti/`.
        prefix: Start of the names.
        crop: Crop that depth is evaluated on.
        kb_crop: As in `load_kitti_eigen`.
    """
    root = os.path.join(root, "kitti")
    for split in LISTS:
        load = partial(load_kitti_eigen, root, split, kb_crop=kb_crop)
        name = f"{prefix}kitti_eigen_{split}"
        register_depth(name, load, data_root=root, crop=crop, max_depth=80.0)


def load_kitti_eigen(root: str, split: str, *, kb_crop: bool) -> list[dict]:
    """Load the pairs of `<root>/{train,test}_list.txt` or BTS's lists.

    Without a list the split is Eigen's, for the left color camera, without the frames that lack an
    image or ground truth.

    Args:
        root: Folder that holds the lists, `raw_data/` and `data_depth_annotated/`.
        split: "train" or "test".
        kb_crop: Value of "kb_crop" in the dicts: whether mappers cut images to KITTI's crop.

    Returns:
        Dicts of `pair_dicts`, with "kb_crop" and with the "image_id" `<drive>_<frame>`.

    Raises:
        MissingFileError: There is neither a list nor the folders, or the folders hold no pair.
        InputError: As in `read_list`.
    """
    list_file = find_list(root, LISTS[split])
    if list_file is None:
        pairs = _pairs_of_drives(root, split)
    else:
        pairs = resolve_pairs(root, read_list(list_file), _IMAGE_BASES, ("", *_TRUTH_BASES))
    return pair_dicts(pairs, DEPTH_SCALE, _image_id, kb_crop=kb_crop)


def _image_id(file_name: str) -> str:
    """Turn `.../<drive>/image_02/data/<frame>.png` into `<drive>_<frame>`; name other cameras."""
    *_, drive, camera, _, file = file_name.split("/")
    frame = os.path.splitext(file)[0]
    return f"{drive}_{frame}" if camera == "image_02" else f"{drive}_{camera}_{frame}"


def _pairs_of_drives(root: str, split: str) -> list[Pair]:
    if not PathManager.isdir(os.path.join(root, "data_depth_annotated")):
        raise MissingFileError(
            f"neither a list ({' or '.join(LISTS[split])}) nor the folder data_depth_annotated "
            f"in {root}"
        )
    pairs = [pair for drive in DRIVES[split] for pair in find_pairs(root, split, drive)[0]]
    if not pairs:
        raise MissingFileError(
            f"{root} holds no frame of the {len(DRIVES[split])} drives of Eigen's {split} split "
            "with both image (raw_data) and ground truth (data_depth_annotated)"
        )
    return pairs


def find_pairs(root: str, split: str, drive: str) -> tuple[list[Pair], list[str]]:
    """Find the frames of a drive's left color camera that belong to a split.

    Args:
        root: Folder of the dataset.
        split: "train" or "test".
        drive: One of `DRIVES[split]`.

    Returns:
        The complete paths of the pairs, and of the ground truth files without an image.
    """
    truth_folder, image_folder = find_truth_folder(root, drive), find_image_folder(root, drive)
    if truth_folder is None:
        return [], []
    images = set(PathManager.ls(image_folder)) if image_folder is not None else set()
    pairs, alone = [], []
    for frame in sorted(PathManager.ls(truth_folder)):
        stem, ending = os.path.splitext(frame)
        is_frame = ending == ".png" and stem.isdigit()
        if not is_frame or (split == "test" and int(stem) not in TEST_FRAMES[drive]):
            continue
        truth = os.path.join(truth_folder, frame)
        image = next((file for file in (frame, f"{stem}.jpg") if file in images), None)
        if image_folder is None or image is None:
            alone.append(truth)
        else:
            pairs.append((os.path.join(image_folder, image), truth))
    return pairs, alone


def find_image_folder(root: str, drive: str) -> str | None:
    """Return the folder of a drive's images, or None if it is missing."""
    return _first_folder(root, _IMAGE_BASES, f"{drive[:10]}/{drive}/image_02/data")


def find_truth_folder(root: str, drive: str) -> str | None:
    """Return the folder of a drive's depth maps, or None if it is missing."""
    return _first_folder(root, _TRUTH_BASES, f"{drive}/proj_depth/groundtruth/image_02")


def _first_folder(root: str, bases: tuple[str, ...], path: str) -> str | None:
    folders = (os.path.join(root, base, path) for base in bases)
    return next((folder for folder in folders if PathManager.isdir(folder)), None)


def register_kitti_benchmark(root: str) -> None:
    """Register `kitti_depth_prediction_test`: 500 images, whose ground truth isn't public."""
    folder = "kitti/depth_selection/test_depth_prediction_anonymous/image"
    image_dir = os.path.join(root, folder)
    load = partial(load_kitti_benchmark, image_dir)
    register_depth("kitti_depth_prediction_test", load, image_dir=image_dir, max_depth=80.0)


def load_kitti_benchmark(image_dir: str) -> list[dict]:
    """Load the dicts of all PNGs in a folder. They are cropped to 352x1216 pixels already.

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
