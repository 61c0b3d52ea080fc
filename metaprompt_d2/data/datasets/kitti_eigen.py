"""KITTI (outdoor, laser scans) with Eigen's split for depth: 23158 training, 652 test pairs."""

import os

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...utils.errors import MissingFileError
from .depth_lists import Pair, find_list, pair_dicts, read_list, resolve_pairs
from .eigen_split import TEST_FRAMES, TRAIN_DRIVES

__all__ = [
    "DRIVES",
    "LISTS",
    "find_image_folder",
    "find_pairs",
    "find_truth_folder",
    "load_kitti_eigen",
    "register_kitti_eigen",
]

DEPTH_SCALE = 256.0  # the files hold 256ths of a metre

# Names of a split's list below the root; the first found wins.
LISTS = {
    "train": ("train_list.txt", "eigen_train_files_with_gt.txt"),
    "test": ("test_list.txt", "eigen_test_files_with_gt.txt"),
}

_IMAGE_BASES = ("", "raw_data")
_TRUTH_BASES = ("data_depth_annotated/train", "data_depth_annotated/val", "data_depth_annotated")

DRIVES = {"train": TRAIN_DRIVES, "test": tuple(TEST_FRAMES)}


def register_kitti_eigen(root: str) -> None:
    """Register `kitti_eigen_{train,test}`.

    Args:
        root: the folder that holds `kitti/`, usually DETECTRON2_DATASETS.
    """
    root = os.path.join(root, "kitti")
    for split in LISTS:
        name = f"kitti_eigen_{split}"
        DatasetCatalog.register(
            name, lambda split=split: load_kitti_eigen(root, split, kb_crop=True)
        )
        MetadataCatalog.get(name).set(
            data_root=root,
            evaluator_type="depth",
            crop="garg",
            min_depth=1e-3,
            max_depth=80.0,
        )


def load_kitti_eigen(root: str, split: str, *, kb_crop: bool) -> list[dict]:
    """The pairs of `<root>/{train,test}_list.txt` (or BTS's lists), else of the drives' folders.

    Without a list the split is Eigen's, of the left colour camera: all frames of 33 drives for
    training, 697 frames of 28 other drives for testing, less those without image or ground truth
    (652 remain for testing).

    Args:
        root: holds the lists, `raw_data/` and `data_depth_annotated/`.
        split: "train" or "test".
        kb_crop: what the dicts say of KITTI's benchmark crop; the mapper crops where it is true.

    Returns:
        `pair_dicts` with "kb_crop", and with "image_id" `<drive>_<frame>`.

    Raises:
        MissingFileError: neither list nor folders, or no pair in the folders.
        ValueError: of `read_list`.
    """
    list_file = find_list(root, LISTS[split])
    if list_file is None:
        pairs = _pairs_of_drives(root, split)
    else:
        pairs = resolve_pairs(root, read_list(list_file), _IMAGE_BASES, ("", *_TRUTH_BASES))
    return pair_dicts(pairs, DEPTH_SCALE, _image_id, kb_crop=kb_crop)


def _image_id(file_name: str) -> str:
    """`.../<drive>/image_02/data/<frame>.png` -> `<drive>_<frame>`; other cameras are named."""
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
    """Look for a drive's frames, of the left colour camera, that belong to a split.

    Args:
        root: of the dataset.
        split: "train" or "test".
        drive: one of `DRIVES[split]`.

    Returns:
        the complete paths of its pairs, and those of ground truth files that have no image.
    """
    truth_folder, image_folder = find_truth_folder(root, drive), find_image_folder(root, drive)
    if truth_folder is None:
        return [], []
    images = set(PathManager.ls(image_folder)) if image_folder else set()
    pairs, alone = [], []
    for frame in sorted(PathManager.ls(truth_folder)):
        stem, ending = os.path.splitext(frame)
        if ending != ".png" or not stem.isdigit():
            continue
        if split == "test" and int(stem) not in TEST_FRAMES[drive]:
            continue
        truth = os.path.join(truth_folder, frame)
        image = next((file for file in (frame, f"{stem}.jpg") if file in images), None)
        if image is None:
            alone.append(truth)
        else:
            pairs.append((os.path.join(image_folder, image), truth))
    return pairs, alone


def find_image_folder(root: str, drive: str) -> str | None:
    """Folder of a drive's images; None where it is missing."""
    path = f"{drive[:10]}/{drive}/image_02/data"
    return _first_folder(root, _IMAGE_BASES, path)


def find_truth_folder(root: str, drive: str) -> str | None:
    """Folder of a drive's depth maps; None where it is missing."""
    path = f"{drive}/proj_depth/groundtruth/image_02"
    return _first_folder(root, _TRUTH_BASES, path)


def _first_folder(root: str, bases: tuple[str, ...], path: str) -> str | None:
    folders = (os.path.join(root, base, path) for base in bases)
    return next((folder for folder in folders if PathManager.isdir(folder)), None)
