"""Register segmentation datasets that consist of two folders, images and label maps."""

import logging
import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...config.ranges import ignore_value_expected
from ...utils.errors import InputError, MissingFileError
from ...utils.files import files_below

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_SHOWN = 3  # file names per message


def register_sem_seg_folders(
    name: str,
    image_dir: str,
    label_dir: str | None,
    classes: Sequence[str],
    *,
    colors: Sequence[Sequence[int]] | None = None,
    ignore_label: int = 255,
    image_suffix: str | Sequence[str] = IMAGE_SUFFIXES,
    label_suffix: str = ".png",
    evaluator_type: str = "sem_seg",
) -> None:
    """Register a dataset for training and evaluation.

    Args:
        name: Name for DATASETS.TRAIN and DATASETS.TEST.
        image_dir, label_dir: Folders, as in `load_sem_seg_folders`. They are read when the dataset
            is used.
        classes: Names of the classes; label maps hold 0 to len(classes) - 1.
        colors: Color of each class in pictures, as (red, green, blue) from 0 to 255.
        ignore_label: Id of the pixels that are neither trained nor scored.
        image_suffix, label_suffix: Suffixes, as in `load_sem_seg_folders`.
        evaluator_type: Name of the evaluators in `EVALUATORS_REGISTRY`.

    Raises:
        InputError: The name is taken, the classes aren't a list of names, the ignore label is a
            class or doesn't fit label maps, or the colors don't fit the classes.
    """
    if name in DatasetCatalog.list():
        raise InputError(f"a dataset named {name!r} is registered already")
    if isinstance(classes, str) or not classes or len(set(classes)) != len(classes):
        raise InputError(f"classes of dataset {name!r} are {classes!r}, expected a list of names")
    if 0 <= ignore_label < len(classes):
        raise InputError(
            f"ignore_label {ignore_label} of dataset {name!r} is the class {classes[ignore_label]}"
        )
    if expected := ignore_value_expected(ignore_label, len(classes)):
        raise InputError(f"ignore_label of dataset {name!r} is {ignore_label}, expected {expected}")
    if colors is not None and [len(color) for color in colors] != [3] * len(classes):
        raise InputError(f"dataset {name!r} needs one (r, g, b) color for each class")
    suffixes: dict[str, Any] = {"image_suffix": image_suffix, "label_suffix": label_suffix}
    DatasetCatalog.register(name, partial(load_sem_seg_folders, image_dir, label_dir, **suffixes))
    metadata: dict[str, Any] = {"evaluator_type": evaluator_type, "ignore_label": ignore_label}
    metadata |= {"image_dir": str(image_dir), "stuff_classes": list(classes)}
    if label_dir is not None:
        metadata["gt_dir"] = str(label_dir)
    if colors is not None:
        metadata["stuff_colors"] = [tuple(color) for color in colors]
    MetadataCatalog.get(name).set(**metadata)


def load_sem_seg_folders(
    image_dir: str,
    label_dir: str | None,
    *,
    image_suffix: str | Sequence[str] = IMAGE_SUFFIXES,
    label_suffix: str = ".png",
) -> list[dict]:
    """Pair images and label maps of the same path without the suffix, in all sub-folders.

    Args:
        image_dir: Folder of the images.
        label_dir: Folder of the single-channel label maps; None for images without ground truth.
        image_suffix: Suffix or suffixes of the images, in upper or lower case. If several match a
            name, the longest one is removed.
        label_suffix: Suffix of the label maps.

    Returns:
        Dicts with "file_name" and, if there is ground truth, "sem_seg_file_name", sorted by path.
        Images without a label map are left out with a warning. The mapper finds out the sizes when
        it opens the files.

    Raises:
        MissingFileError: A folder is missing, or holds no image (with a label map).
        InputError: The names of two images differ only in the suffix.
    """
    suffixes = (image_suffix,) if isinstance(image_suffix, str) else tuple(image_suffix)
    images = _by_stem(str(image_dir), suffixes)
    if not images:
        raise MissingFileError(f"{image_dir} holds no file *{', *'.join(suffixes)}")
    if label_dir is None:
        return [{"file_name": images[stem]} for stem in sorted(images)]
    labels = _by_stem(str(label_dir), (label_suffix,))
    alone = sorted(images.keys() - labels.keys())
    if len(alone) == len(images):
        raise MissingFileError(
            f"no image of {image_dir} has a label map in {label_dir}; expected, for instance, "
            f"{os.path.join(label_dir, alone[0] + label_suffix)}"
        )
    if alone:
        names = ", ".join(images[stem] for stem in alone[:_SHOWN])
        logger.warning(
            f"{len(alone)} of {len(images)} images have no label map in {label_dir} and are left "
            f"out: {names}{', ...' if len(alone) > _SHOWN else ''}"
        )
    return [
        {"file_name": images[stem], "sem_seg_file_name": labels[stem]}
        for stem in sorted(images.keys() & labels.keys())
    ]


def _by_stem(folder: str, suffixes: Sequence[str]) -> dict[str, str]:
    """Return the files that aren't hidden, by their path in the folder without the suffix."""
    if not PathManager.isdir(folder):
        raise MissingFileError(f"folder {folder} does not exist")
    files: dict[str, str] = {}
    endings = [suffix.lower() for suffix in suffixes]
    for relative in files_below(folder, endings):
        file = os.path.join(folder, relative)
        fitting = [len(ending) for ending in endings if relative.lower().endswith(ending)]
        stem = relative[: -max(fitting)]
        if stem in files:
            raise InputError(
                f"{files[stem]} and {file} differ in their ending only; image_suffix or "
                "label_suffix can tell which one is meant"
            )
        files[stem] = file
    return files
