"""Map the labels of Mapillary Vistas v1.2 to the 19 classes of Cityscapes.

A stopped run resumes when the script is run again. Label maps of v2.0 are refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from label_conversion import add_workers, convert_all, dataset_root, run

from metaprompt_d2.data.datasets.mapillary import (
    MAPILLARY_FOLDERS,
    MAPPED_FOLDER,
    mapillary_to_cityscapes,
    read_mapillary_labels,
)
from metaprompt_d2.utils.errors import InputError

# Folder of the label maps in a split's folder, in newer and older downloads.
SOURCES = ("v1.2/labels", "labels")


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=dataset_root("mapillary_vistas"),
        help="folder of the dataset; default: %(default)s",
    )
    add_workers(parser)
    return parser.parse_args(arguments)


def find_source(folder: Path) -> Path:
    """Find the label maps of v1.2 in a split's folder.

    Raises:
        InputError: There are none.
    """
    for source in SOURCES:
        if (folder / source).is_dir():
            return folder / source
    other = "; v2.0/labels cannot be used" if (folder / "v2.0/labels").is_dir() else ""
    raise InputError(f"{folder} has neither of the folders {', '.join(SOURCES)}{other}")


def prepare(root: Path, workers: int) -> None:
    """Write `{training,validation}/labels_cityscapes`."""
    for folder in MAPILLARY_FOLDERS.values():
        source, target = find_source(root / folder), root / folder / MAPPED_FOLDER
        pairs = [(file, target / file.name) for file in sorted(source.glob("*.png"))]
        if not pairs:
            raise InputError(f"{source} holds no *.png")
        convert_all(
            pairs,
            lambda file: mapillary_to_cityscapes(read_mapillary_labels(str(file))),
            workers=workers,
            what=folder,
        )
        print(f"{len(pairs)} label maps are in {target}.")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_arguments(arguments)
    run(lambda: prepare(options.root.expanduser(), options.workers))


if __name__ == "__main__":
    main()
