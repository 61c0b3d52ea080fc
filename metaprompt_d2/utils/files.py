"""Read and write files: whole or not at all, with errors that name the file."""

import json
import os
import secrets
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .errors import InputError, MissingFileError, input_errors


def create_temporary(path: Path, ending: str = ".tmp") -> Path:
    """Create an empty file next to a path, in which the content of the path is to be written.

    Nobody can foresee its name, and it is never a file or link that exists already.

    Args:
        path: File that is to be written. Missing folders are created.
        ending: Ending of the temporary name.

    Raises:
        OSError: The file cannot be created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f"{path.stem[:40]}.{os.getpid()}-{secrets.token_hex(8)}{ending}"
    temporary = path.with_name(name)
    temporary.open("xb").close()
    return temporary


def atomic_write(path: str | os.PathLike, write: Callable[[IO[bytes]], object]) -> None:
    """Write a file under a temporary name, then rename it, so that it is complete or absent.

    Args:
        path: File to write. An existing file is replaced, and so is a link, but not what it points
            to. Missing folders are created.
        write: Function that writes the content to a binary stream.

    Raises:
        InputError: The file cannot be written, for instance because the disk is full.
    """
    path = Path(path)
    with input_errors(f"{path} cannot be written", OSError):  # no permission, no space left
        temporary = create_temporary(path)
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
    """Read a JSON file in UTF-8 or UTF-16, with or without a byte order mark.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't valid JSON.
    """
    try:
        with PathManager.open(os.fspath(file_name), "rb") as file:
            return json.load(file)
    except FileNotFoundError as error:
        raise MissingFileError(f"JSON file {file_name} does not exist") from error
    except ValueError as error:  # invalid JSON or an invalid encoding
        raise InputError(f"{file_name} cannot be read as JSON: {error}") from error


def files_below(folder: str, suffixes: Sequence[str]) -> Iterator[str]:
    """Yield the files in a folder and its sub-folders, also those that are links.

    Hidden files and folders are left out, and links that lead back to a folder they lie in.

    Args:
        folder: Folder to search.
        suffixes: Endings in lower case, of which a file's name needs one in any case.

    Yields:
        Paths relative to the folder; those of each folder are sorted.
    """

    def search(below: str, parents: tuple[str, ...]) -> Iterator[str]:
        here = os.path.join(folder, below)
        parents = (*parents, os.path.realpath(here))
        for name in sorted(PathManager.ls(here)):
            path, full = os.path.join(below, name), os.path.join(here, name)
            if name.startswith("."):
                continue
            if name.lower().endswith(tuple(suffixes)):
                yield path
            elif PathManager.isdir(full) and os.path.realpath(full) not in parents:
                yield from search(path, parents)

    return search("", ())


def paths_below_common_folder(files: Collection[str]) -> dict[str, str]:
    """Map each path to its part below the folder that all files share, without any ".."."""
    full = {file: os.path.abspath(file) for file in files}
    root = os.path.commonpath([os.path.dirname(path) for path in full.values()])
    return {file: os.path.relpath(path, root) for file, path in full.items()}


def png_names(files: Collection[str], *, keeps_folders: bool = True) -> dict[str, str]:
    """Map each image file of a dataset to the name of its prediction.

    Args:
        files: Image files.
        keeps_folders: Whether the names have the folders below the one that all files share.

    Raises:
        InputError: Two files have the same name.
    """
    first: dict[str, str] = {}
    for file, path in paths_below_common_folder(files).items():
        png = Path(path).with_suffix(".png")
        name = str(png) if keeps_folders else png.name
        if name in first:
            raise InputError(f"{first[name]} and {file} would both be predicted to {name}")
        first[name] = file
    return {file: name for name, file in first.items()}


def path_inside(folder: str | os.PathLike, name: str) -> Path:
    """Join a folder and a name that comes from a file, a list or a dataset.

    Raises:
        InputError: The name leads out of the folder.
    """
    path = os.path.normpath(name)
    if os.path.isabs(path) or path in (".", "..") or path.startswith(os.path.join("..", "")):
        raise InputError(f"the name {name!r} leads out of the output folder {folder}")
    return Path(folder, path)
