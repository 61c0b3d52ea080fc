"""Read and write files: whole or not at all, with errors that name the file."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .errors import InputError, MissingFileError


def atomic_write(path: str | os.PathLike, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, then rename it, so that it is complete or absent.

    Args:
        path: File to write or replace.
        write: Function that writes the content to a binary stream.

    Raises:
        InputError: The file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            write(stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except OSError as error:  # no permission, no space left
        raise InputError(f"{path} cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def write_png(pixels: np.ndarray, file: str | os.PathLike, **texts: str) -> None:
    """Write pixels as `PIL.Image.fromarray` accepts and texts to a PNG, with missing folders."""
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    file = Path(file)
    file.parent.mkdir(parents=True, exist_ok=True)
    atomic_write(file, lambda stream: Image.fromarray(pixels).save(stream, "PNG", pnginfo=info))


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
