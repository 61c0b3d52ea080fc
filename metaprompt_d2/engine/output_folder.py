"""The output folder of a training: one training at a time, and none is overwritten unasked."""

import errno
import fcntl
import logging
import os
import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..utils.errors import InputError, input_errors

logger = logging.getLogger(__name__)

_LOCK = ".lock"
# Names under which files are written until they are complete (`utils.files.atomic_write`).
_PARTIAL = re.compile(r".+\.(\d+\.tmp|\d+-[0-9a-f]{16}\.\w+|partial-.*)")
# What a training continues with or appends to.
_RESULTS = re.compile(
    r"model_(\d{7,}|final|best)\.pth|model_best\.json|last_checkpoint|metrics\.json"
    r"|events\.out\.tfevents\..*"
)


@contextmanager
def claim_output_folder(folder: str, *, resume: bool, overwrite: bool) -> Iterator[None]:
    """Hold an output folder for a training, on the main process.

    What killed trainings left half written is removed.

    Args:
        folder: The folder; it is made.
        resume: Whether the training may continue one that the folder holds.
        overwrite: Whether checkpoints and metrics of a training in the folder are deleted.

    Raises:
        InputError: Another training uses the folder, or it holds a training and neither `resume`
            nor `overwrite` is true. Nothing has changed then.
    """
    root = Path(folder)
    with input_errors(f"OUTPUT_DIR {folder}", OSError):
        root.mkdir(parents=True, exist_ok=True)
        lock = (root / _LOCK).open("a+")
    with lock:  # closing it, also by the end of the process, releases the folder
        _lock(lock.fileno(), root)
        results = sorted(file for file in root.iterdir() if _is_result(file))
        if results and not resume:
            if not overwrite:
                raise InputError(
                    f"OUTPUT_DIR {folder} holds a training ({results[0].name}, ...): "
                    "continue it with --resume, choose another OUTPUT_DIR (train.output_dir), or "
                    "give --overwrite to delete its checkpoints and metrics"
                )
            for file in results:
                file.unlink()
        for file in [*root.iterdir(), *(root / "inference").rglob("*")]:
            if _PARTIAL.fullmatch(file.name) and not file.is_dir():
                logger.info("Removing %s, which a killed process left", file)
                file.unlink()
        yield


def _is_result(file: Path) -> bool:
    return _RESULTS.fullmatch(file.name) is not None and file.stat().st_size > 0


def _lock(file: int, folder: Path) -> None:
    """Lock a file for this process; workers that it forks don't hold the lock."""
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            logger.warning("%s cannot be locked against other trainings: %s", folder, error)
            return
        holder = (folder / _LOCK).read_text().strip()
        raise InputError(
            f"OUTPUT_DIR {folder} is in use by another training ({holder}): wait for its end, "
            "or choose another OUTPUT_DIR (train.output_dir)"
        ) from error
    os.ftruncate(file, 0)
    os.write(file, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
