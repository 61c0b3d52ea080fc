"""Make label maps with training ids for Cityscapes' train_extra images.

By default they are made from the coarse annotations (gtCoarse). With `--autolabelled FOLDER` they
are made from label maps that a model predicted: PNGs named like the images, in a folder for each
city. A stopped run resumes when the script is run again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from cityscapesscripts.helpers.labels import labels as city_labels
from label_conversion import Pair, add_workers, convert_all, dataset_root, run

from metaprompt_d2.data.readers import read_labels
from metaprompt_d2.utils.errors import InputError

IMAGES = "leftImg8bit/train_extra"
IMAGE_SUFFIX = "_leftImg8bit.png"
COARSE, COARSE_SUFFIX = "gtCoarse/train_extra", "_gtCoarse_labelIds.png"
AUTOLABELLED, AUTOLABELLED_SUFFIX = "convert_autolabelled", "_gtFine_labelTrainIds.png"
NUM_CLASSES, IGNORE = 19, 255


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=dataset_root("cityscapes"),
        help="folder of the dataset; default: %(default)s",
    )
    parser.add_argument("--autolabelled", type=Path, help="folder of predicted label maps")
    parser.add_argument(
        "--ids",
        choices=("label", "train"),
        default="label",
        help="what predicted label maps hold: label ids (0..33) or training ids (0..18, 255)",
    )
    add_workers(parser)
    return parser.parse_args(arguments)


def _table() -> np.ndarray:
    table = np.full(256, IGNORE, np.uint8)
    for label in city_labels:
        if 0 <= label.trainId < NUM_CLASSES:
            table[label.id] = label.trainId
    return table


TABLE = _table()
KNOWN_LABEL_IDS = [label.id for label in city_labels if label.id >= 0] + [IGNORE]
KNOWN_TRAIN_IDS = [*range(NUM_CLASSES), IGNORE]


def from_label_ids(file: Path) -> np.ndarray:
    """Read a label map with label ids, and turn them into training ids.

    Raises:
        InputError: The file holds ids that Cityscapes doesn't have.
    """
    labels = _checked(file, KNOWN_LABEL_IDS, "label ids 0..33")
    return TABLE[labels]


def from_train_ids(file: Path) -> np.ndarray:
    """Read a label map with training ids.

    Raises:
        InputError: The file holds other ids.
    """
    return _checked(file, KNOWN_TRAIN_IDS, "training ids 0..18 or 255; --ids label converts others")


def _checked(file: Path, known: list[int], expected: str) -> np.ndarray:
    labels = read_labels(str(file))
    unknown = sorted(set(np.unique(labels).tolist()) - set(known))
    if unknown:
        raise InputError(f"label file {file} holds ids {unknown}, expected {expected}")
    return labels.astype(np.uint8)


def coarse_pairs(root: Path) -> list[Pair]:
    """Pair the coarse annotations with the label maps to write.

    Raises:
        InputError: The coarse annotations are missing.
    """
    files = sorted((root / COARSE).glob(f"*/*{COARSE_SUFFIX}"))
    if not files:
        raise InputError(f"{root / COARSE} holds no <city>/*{COARSE_SUFFIX}")
    return [(file, Path(str(file).replace("_labelIds", "_labelTrainIds"))) for file in files]


def autolabelled_pairs(root: Path, folder: Path) -> list[Pair]:
    """Pair predicted label maps with the label maps to write.

    A label map belongs to the image whose name it starts with.

    Raises:
        InputError: Images or their label maps are missing, or an image has several label maps.
    """
    images = sorted((root / IMAGES).glob(f"*/*{IMAGE_SUFFIX}"))
    if not images:
        raise InputError(f"{root / IMAGES} holds no <city>/*{IMAGE_SUFFIX}")
    found: dict[str, list[Path]] = {}
    for file in sorted(folder.glob("*/*.png")):
        city, sequence, frame = (file.stem.split("_") + ["", ""])[:3]
        found.setdefault(f"{file.parent.name}/{city}_{sequence}_{frame}", []).append(file)
    pairs = []
    for image in images:
        stem = f"{image.parent.name}/{image.name.removesuffix(IMAGE_SUFFIX)}"
        files = found.get(stem, [])
        if len(files) > 1:
            raise InputError(f"{image} has several label maps: {files[0]}, {files[1]}")
        target = root / AUTOLABELLED / f"{stem}{AUTOLABELLED_SUFFIX}"
        pairs += [(file, target) for file in files]
    if not pairs:
        raise InputError(f"no label map in {folder} is named as an image of {root / IMAGES}")
    if len(pairs) < len(images):
        print(f"{len(images) - len(pairs)} of {len(images)} images have no label map in {folder}.")
    return pairs


def prepare(options: argparse.Namespace) -> None:
    """Convert the label maps that the command line names."""
    root = options.root.expanduser()
    if options.autolabelled is None:
        pairs, convert, what = coarse_pairs(root), from_label_ids, "coarse"
    else:
        pairs = autolabelled_pairs(root, options.autolabelled.expanduser())
        convert = from_label_ids if options.ids == "label" else from_train_ids
        what = "autolabelled"
    convert_all(pairs, convert, workers=options.workers, what=what)
    print(f"{len(pairs)} label maps are in {pairs[0][1].parents[1]}.")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_arguments(arguments)
    run(lambda: prepare(options))


if __name__ == "__main__":
    main()
