"""Draws a small synthetic street world and writes it as Cityscapes, KITTI depth and COCO data."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import shutil
import signal
import sys
from functools import partial
from pathlib import Path

import cv2
from mini_world.formats import make_folders, write_indices, write_scene
from mini_world.scene import render_scene
from tqdm import tqdm

FORMAT_VERSION = 2
RECORD = "mini.json"
SPLITS = ("train", "val")


def default_output() -> Path:
    """`$DETECTRON2_DATASETS/mini`, or `mini` next to this script."""
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
    """Parse the command line; ends the program with a message if something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--output", type=Path, default=default_output(), help="default: %(default)s"
    )
    parser.add_argument("--num-train", type=_count, default=240, help="scenes to train on")
    parser.add_argument("--num-val", type=_count, default=60, help="scenes to validate on")
    parser.add_argument("--seed", type=_seed, default=0)
    parser.add_argument("--height", type=_size, default=256, help="pixels, a multiple of 8")
    parser.add_argument("--width", type=_size, default=512, help="pixels, a multiple of 8")
    parser.add_argument("--overwrite", action="store_true", help="replace what is in the output")
    return parser.parse_args(arguments)


def _record(options: argparse.Namespace) -> dict:
    """What identifies a data set: equal records mean equal files."""
    return {
        "format_version": FORMAT_VERSION,
        "num_train": options.num_train,
        "num_val": options.num_val,
        "seed": options.seed,
        "height": options.height,
        "width": options.width,
    }


def _existing(output: Path) -> dict | None:
    """The record of a complete data set in `output`, None if there is none."""
    try:
        return json.loads((output / RECORD).read_text())
    except (OSError, ValueError):
        return None


def _make_scene(job: tuple[str, int], root: Path, seed: int, height: int, width: int) -> list[dict]:
    """Render and write one scene; job is (split, index)."""
    cv2.setNumThreads(1)  # the processes share the cores already
    split, index = job
    scene = render_scene((seed, SPLITS.index(split), index), height, width)
    return write_scene(root, split, index, scene)


def write_dataset(root: Path, options: argparse.Namespace) -> None:
    """Write the whole data set below the new folder `root`."""
    make_folders(root)
    counts = {"train": options.num_train, "val": options.num_val}
    jobs = [(split, index) for split in SPLITS for index in range(counts[split])]
    make = partial(
        _make_scene, root=root, seed=options.seed, height=options.height, width=options.width
    )
    processes = min(os.cpu_count() or 1, len(jobs))
    with multiprocessing.get_context("spawn").Pool(processes) as pool:
        made = list(tqdm(pool.imap(make, jobs, chunksize=2), total=len(jobs), unit="scene"))
    annotations = {"train": made[: counts["train"]], "val": made[counts["train"] :]}
    write_indices(root, annotations, options.height, options.width)
    (root / RECORD).write_text(json.dumps(_record(options), indent=2) + "\n")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    options = parse_arguments(arguments)
    output: Path = options.output.expanduser().absolute()
    if output.exists() and not options.overwrite:
        if _existing(output) == _record(options):
            print(f"{output} is already complete; nothing to do.")
            return
        if not output.is_dir() or any(output.iterdir()):
            sys.exit(
                f"error: {output} holds something else than this data set; choose another "
                "--output, or pass --overwrite to replace it."
            )
    # A run that is stopped leaves at most this folder, never a part of a data set in `output`.
    partial_output = output.with_name(f".{output.name}.partial-{os.getpid()}")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    try:
        partial_output.mkdir(parents=True)
        write_dataset(partial_output, options)
        _replace(output, partial_output)
    except OSError as error:
        sys.exit(f"error: {error}")
    finally:
        shutil.rmtree(partial_output, ignore_errors=True)
    print(f"Wrote {options.num_train} + {options.num_val} scenes to {output}.")


def _replace(output: Path, finished: Path) -> None:
    """Move the finished folder to `output`, in place of what is there."""
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
