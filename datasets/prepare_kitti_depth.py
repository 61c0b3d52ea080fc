"""Check KITTI's raw images and depth maps for Eigen's split, and write the lists of pairs.

An existing list is checked and kept, because it may be the official one.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

from label_conversion import dataset_root
from tqdm import tqdm

from metaprompt_d2.data.datasets.depth_lists import Pair, find_list
from metaprompt_d2.data.datasets.kitti import (
    DRIVES,
    LISTS,
    find_image_folder,
    find_pairs,
    find_truth_folder,
    load_kitti_eigen,
)
from metaprompt_d2.utils.errors import one_line_errors
from metaprompt_d2.utils.files import atomic_write

PUBLISHED = {"train": 23158, "test": 652}  # number of pairs
SHOWN = 5  # file names per message


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--root",
        type=Path,
        default=dataset_root("kitti"),
        help="folder of the dataset; default: %(default)s",
    )
    parser.add_argument(
        "--allow-missing", action="store_true", help="write lists of the existing files"
    )
    return parser.parse_args(arguments)


def _report(split: str, what: str, missing: list[str]) -> None:
    """Print how many files are missing, and the first ones."""
    if missing:
        rest = ", ..." if len(missing) > SHOWN else ""
        print(f"{split}: {len(missing)} {what}: {', '.join(missing[:SHOWN])}{rest}")


def check_list(root: Path, split: str, list_file: str) -> bool:
    """Report the missing files of an existing list; return whether there are none."""
    dicts = load_kitti_eigen(str(root), split, kb_crop=True)
    files = [item[key] for item in dicts for key in ("file_name", "depth_file_name")]
    missing = [file for file in tqdm(files, unit="file", desc=split) if not os.path.isfile(file)]
    advice = "; delete it to write it again" if len(dicts) < PUBLISHED[split] else ""
    print(
        f"{split}: {list_file} lists {len(dicts)} pairs ({PUBLISHED[split]} are published{advice})"
    )
    _report(split, "listed files are missing", missing)
    return not missing


def check_drives(root: Path, split: str) -> tuple[list[Pair], bool]:
    """Report what a split lacks; return its pairs, and whether nothing is missing."""
    no_images, no_truth, no_image, pairs = [], [], [], []
    for drive in tqdm(DRIVES[split], unit="drive", desc=split):
        if find_image_folder(str(root), drive) is None:
            no_images.append(drive)
        if find_truth_folder(str(root), drive) is None:
            no_truth.append(drive)
        found, alone = find_pairs(str(root), split, drive)
        pairs += found
        if drive not in no_images:
            no_image += alone
    print(f"{split}: {len(pairs)} pairs ({PUBLISHED[split]} are published)")
    of = f"of {len(DRIVES[split])} drives have no"
    _report(split, f"{of} raw_data/<date>/<drive>/image_02/data", no_images)
    _report(
        split,
        f"{of} data_depth_annotated/<train or val>/<drive>/proj_depth/groundtruth/image_02",
        no_truth,
    )
    _report(split, "depth maps have no image", no_image)
    return pairs, not (no_images or no_truth or no_image)


def write_list(file: Path, root: Path, pairs: list[Pair]) -> None:
    """Write the pairs, with paths relative to `root`."""
    lines = [" ".join(f"/{Path(path).relative_to(root).as_posix()}" for path in p) for p in pairs]
    atomic_write(file, lambda stream: stream.write(("\n".join(lines) + "\n").encode()))
    print(f"Wrote {file}.")


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Run the command line; the exit status is 1 if something is missing."""
    options = parse_arguments(arguments)
    root: Path = options.root.expanduser().absolute()
    if not root.is_dir():
        sys.exit(f"error: the folder {root} does not exist; datasets/README.md shows what is in it")
    incomplete = []
    for split, names in LISTS.items():
        list_file = find_list(str(root), names)
        if list_file is not None:
            complete = check_list(root, split, list_file)
        else:
            pairs, complete = check_drives(root, split)
            if pairs and (complete or options.allow_missing):
                write_list(root / names[0], root, pairs)
        if not complete:
            incomplete.append(split)
    if incomplete:
        sys.exit(
            f"error: files of {' and '.join(incomplete)} are missing, see above; --allow-missing "
            "writes lists of what is there"
        )


if __name__ == "__main__":
    main()
