"""Convert ADE20K's annotations to Detectron2's: classes from 0, and 255 for no class.

Detectron2's script of this name does the same. This one shows progress, resumes a stopped run, and
refuses label maps with other classes than the 150 of the challenge.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from label_conversion import add_workers, convert_all, dataset_root, run

from metaprompt_d2.data.readers import read_labels
from metaprompt_d2.utils.errors import InputError

NUM_CLASSES = 150
SPLITS = ("training", "validation")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=dataset_root("ADEChallengeData2016"),
        help="folder of the dataset; default: %(default)s",
    )
    add_workers(parser)
    return parser.parse_args(arguments)


def convert(file: Path) -> np.ndarray:
    """Turn 0 (no class) into 255, and 1 to 150 into 0 to 149.

    Raises:
        InputError: The file holds ids above 150.
    """
    labels = read_labels(str(file))
    if labels.max() > NUM_CLASSES or labels.min() < 0:
        raise InputError(
            f"label file {file} holds id {labels.max()}, expected 0..{NUM_CLASSES}: annotations of "
            "the scene parsing challenge (ADEChallengeData2016), not of the full ADE20K"
        )
    return labels.astype(np.uint8) - 1


def prepare(root: Path, workers: int) -> None:
    """Write `annotations_detectron2/{training,validation}`."""
    for split in SPLITS:
        source, target = root / "annotations" / split, root / "annotations_detectron2" / split
        if not source.is_dir():
            raise InputError(f"folder {source} does not exist")
        pairs = [(file, target / file.name) for file in sorted(source.glob("*.png"))]
        if not pairs:
            raise InputError(f"{source} holds no *.png")
        convert_all(pairs, convert, workers=workers, what=split)
        print(f"{len(pairs)} label maps are in {target}.")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_arguments(arguments)
    run(lambda: prepare(options.root.expanduser(), options.workers))


if __name__ == "__main__":
    main()
