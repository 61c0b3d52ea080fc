"""Shared parts of the scripts that prepare datasets."""

from __future__ import annotations

import argparse
import os
import signal
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from metaprompt_d2.utils.errors import one_line_errors
from metaprompt_d2.utils.files import write_png

Pair = tuple[Path, Path]  # label map to read, label map to write


def dataset_root(folder: str) -> Path:
    """Return `$DETECTRON2_DATASETS/<folder>`, or `<folder>` next to these scripts."""
    root = os.environ.get("DETECTRON2_DATASETS")
    return (Path(root).expanduser() if root else Path(__file__).resolve().parent) / folder


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the option --workers."""
    parser.add_argument(
        "--workers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="files to convert at the same time; default: %(default)s",
    )


def convert_all(
    pairs: Sequence[Pair], convert: Callable[[Path], np.ndarray], *, workers: int, what: str
) -> int:
    """Convert the label maps whose result doesn't exist yet, with a progress bar.

    Args:
        pairs: Pairs of files: the label map to read and the one to write.
        convert: Function that reads a file and returns the (H, W) uint8 labels to write.
        workers: Number of threads.
        what: Name of the label maps in the progress bar.

    Returns:
        The number of converted files.

    Raises:
        InputError: A file cannot be converted.
    """
    cv2.setNumThreads(1)
    waiting = [pair for pair in pairs if not pair[1].is_file()]

    def one(pair: Pair) -> None:
        source, target = pair
        write_png(convert(source), target)

    pool = ThreadPoolExecutor(max(workers, 1))
    try:
        done = pool.map(one, waiting)
        bar = tqdm(total=len(pairs), initial=len(pairs) - len(waiting), unit="map", desc=what)
        with bar:
            for _ in islice(done, len(waiting)):
                bar.update()
    finally:
        pool.shutdown(cancel_futures=True)
    return len(waiting)


def run(convert: Callable[[], None]) -> None:
    """Run a script's work; wrong input and SIGTERM end it with one line."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with one_line_errors():
        convert()
