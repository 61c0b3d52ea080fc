"""Draw a small synthetic world: streets as Cityscapes, KITTI depth and COCO, dogs as COCO data."""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import os
import shutil
import signal
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import cv2
from mini_world.formats import (
    make_folders,
    write_coco_annotations,
    write_kitti_lists,
    write_park,
    write_street,
)
from mini_world.panoptic import write_panoptic_annotations
from mini_world.park import render_park
from mini_world.scene import render_scene
from tqdm import tqdm

FORMAT_VERSION = 4
RECORD = "mini.json"  # marks a folder as made by this script
OWN = {RECORD, "cityscapes", "coco", "coco_animals", "kitti"}  # all that this script makes
SPLITS = ("train", "val")
# The kinds of scenes, by the folder of their annotations.
SCENES = {"coco": (render_scene, write_street), "coco_animals": (render_park, write_park)}


def default_output() -> Path:
    """Return `$DETECTRON2_DATASETS/mini`, or `mini` next to this script."""
    root = os.environ.get("DETECTRON2_DATASETS")
    return Path(root).expanduser() / "mini" if root else Path(__file__).resolve().parent / "mini"


def _count(text: str) -> int:
    """Parse a number of scenes."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def _size(text: str) -> int:
    """Parse an image side in pixels."""
    value = int(text)
    if value < 64 or value % 8:
        raise argparse.ArgumentTypeError(f"must be a multiple of 8 and at least 64, got {value}")
    return value


def _seed(text: str) -> int:
    """Parse a seed."""
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"must not be negative, got {value}")
    return value


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, or end the program with a message."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )

    def add(option: str, kind: Callable[[str], Any], default: Any, text: str) -> None:
        text += "; default: %(default)s"
        parser.add_argument(option, type=kind, default=default, help=text)

    add("--output", Path, default_output(), "folder to write")
    add("--num-train", _count, 240, "number of training scenes of streets; half as many show dogs")
    add("--num-val", _count, 60, "number of validation scenes of streets; half as many show dogs")
    add("--seed", _seed, 0, "seed of all scenes")
    add("--height", _size, 256, "height of the images in pixels, a multiple of 8")
    add("--width", _size, 512, "width of the images in pixels, a multiple of 8")
    text = "replace the dataset in the output folder, if this script made all of the folder"
    parser.add_argument("--overwrite", action="store_true", help=text)
    return parser.parse_args(arguments)


def _record(options: argparse.Namespace) -> dict:
    """Return what identifies a dataset: equal records mean equal files."""
    return {
        "format_version": FORMAT_VERSION,
        "num_train": options.num_train,
        "num_val": options.num_val,
        "seed": options.seed,
        "height": options.height,
        "width": options.width,
    }


def _existing(output: Path) -> dict | None:
    """Return the record of a complete dataset in `output`, or None."""
    try:
        return json.loads((output / RECORD).read_text())
    except (OSError, ValueError):
        return None


def _foreign(output: Path, record: dict | None) -> str:
    """Say what in `output` this script did not make; "" if there is nothing."""
    if not output.is_dir():
        return "it is a file"
    names = sorted(file.name for file in output.iterdir())
    if names and (not isinstance(record, dict) or "format_version" not in record):
        return f"{', '.join(names[:3])} without the file {RECORD} of a finished run"
    return ", ".join([name for name in names if name not in OWN][:3])


def _make_scene(
    job: tuple[str, str, int], root: Path, seed: int, height: int, width: int
) -> list[dict]:
    """Render and write the scene of a job (kind, split, index)."""
    cv2.setNumThreads(1)  # the processes share the cores already
    kind, split, index = job
    render, write = SCENES[kind]
    scene = render((seed, SPLITS.index(split), index), height, width)
    return write(root, split, index, scene)


def write_dataset(root: Path, options: argparse.Namespace) -> None:
    """Write the whole dataset to the new folder `root`."""
    make_folders(root)
    streets = {"train": options.num_train, "val": options.num_val}
    counts = {"coco": streets, "coco_animals": {k: -(-count // 2) for k, count in streets.items()}}
    jobs = [
        (kind, split, index)
        for kind, numbers in counts.items()
        for split in SPLITS
        for index in range(numbers[split])
    ]
    size = {"height": options.height, "width": options.width}
    make = partial(_make_scene, root=root, seed=options.seed, **size)
    processes = min(os.cpu_count() or 1, len(jobs))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        made = iter(tqdm(pool.imap(make, jobs, chunksize=2), total=len(jobs), unit="scene"))
        for kind, numbers in counts.items():
            for split in SPLITS:
                scenes = list(itertools.islice(made, numbers[split]))
                write_coco_annotations(root / kind, split, scenes, **size)
    write_kitti_lists(root / "kitti", streets)
    for split in SPLITS:
        write_panoptic_annotations(root / "cityscapes", split)
    (root / RECORD).write_text(json.dumps(_record(options), indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_arguments(arguments)
    output: Path = options.output.expanduser().absolute()
    if output.exists():
        existing = _existing(output)
        if existing == _record(options) and not options.overwrite:
            print(f"{output} is already complete; nothing to do.")
            return
        if foreign := _foreign(output, existing):
            sys.exit(
                f"error: {output} holds something else than a dataset of this script: {foreign}. "
                "Choose another --output, or remove it yourself."
            )
        if existing is not None and not options.overwrite:
            sys.exit(
                f"error: {output} holds a dataset of other options; choose another --output, or "
                "pass --overwrite to replace it."
            )
    # A stopped run leaves at most this folder, and never part of a dataset in `output`.
    partial_output = output.with_name(f".{output.name}.partial-{os.getpid()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        partial_output.mkdir(parents=True)
    except OSError as error:  # nothing of this run is there to remove
        sys.exit(f"error: {error}")
    try:
        write_dataset(partial_output, options)
        _replace(output, partial_output)
    except OSError as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(partial_output, ignore_errors=True)
    print(f"Wrote {options.num_train} + {options.num_val} scenes to {output}.")


def _replace(output: Path, finished: Path) -> None:
    """Replace `output` by the finished folder."""
    old = finished.with_name(f"{finished.name}-old")
    if output.exists() or output.is_symlink():
        output.rename(old)
    finished.rename(output)
    if old.is_dir() and not old.is_symlink():
        shutil.rmtree(old)
    else:
        old.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
