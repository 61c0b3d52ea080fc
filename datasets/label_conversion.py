"""What the scripts that convert label maps share: progress, several threads, restarts."""

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
    """`$DETECTRON2_DATASETS/<folder>`, or `<folder>` next to these scripts."""
    root = os.environ.get("DETECTRON2_DATASETS")
    return (Path(root).expanduser() if root else Path(__file__).resolve().parent) / folder


def add_workers(parser: argparse.ArgumentParser) -> None:
    """Add the option of the number of threads."""
    parser.add_argument(
        "--workers",
        type=int,
        default=min(8, os.cpu_count() or 1),
        help="files converted at once; default: %(default)s",
    )


def convert_all(
    pairs: Sequence[Pair], convert: Callable[[Path], np.ndarray], *, workers: int, what: str
) -> int:
    """Convert every label map whose result is not there yet; returns the number of those.

    Args:
        pairs: of files.
        convert: reads a file and gives the (H, W) uint8 labels to write.
        workers: threads.
        what: to call it in the progress bar.

    Raises:
        OSError, ValueError: of the first file that cannot be converted.
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
    """Run a script's work; errors and signals end it with a message."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))
    with one_line_errors():
        convert()
