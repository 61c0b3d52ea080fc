"""Read and write files: whole or not at all, with errors that name the file."""

import json
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import IO, Any

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .errors import InputError, MissingFileError, input_errors


def atomic_write(path: str | os.PathLike, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, then rename it, so that it is complete or absent.

    Args:
        path: File to write. An existing file is replaced, missing folders are created.
        write: Function that writes the content to a binary stream.

    Raises:
        InputError: The file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with input_errors(f"{path} cannot be written", OSError):  # no permission, no space left
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("wb") as stream:
                write(stream)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)


def write_png(pixels: np.ndarray, file: str | os.PathLike, **texts: str) -> None:
    """Write pixels, as `PIL.Image.fromarray` takes them, and texts to a PNG, atomically."""
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    atomic_write(file, lambda stream: Image.fromarray(pixels).save(stream, "PNG", pnginfo=info))


def write_json(content: Any, file: str | os.PathLike) -> None:
    """Write a JSON file with `atomic_write`. JSON has no NaN or infinity: callers replace them."""
    text = json.dumps(content, allow_nan=False)
    atomic_write(file, lambda stream: stream.write(text.encode()))


def read_json(file_name: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't valid JSON.
    """
    try:
        with PathManager.open(os.fspath(file_name)) as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise MissingFileError(f"JSON file {file_name} does not exist") from error
    except ValueError as error:  # invalid JSON or an invalid encoding
        raise InputError(f"{file_name} cannot be read as JSON: {error}") from error


def paths_below_common_folder(files: Collection[str]) -> dict[str, str]:
    """Map each path to its part below the folder that all files share."""
    root = os.path.commonpath([os.path.dirname(file) for file in files])
    return {file: os.path.relpath(file, root) for file in files}
