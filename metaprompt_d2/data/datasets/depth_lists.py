"""What depth datasets share: lists of image and depth files, dicts and registration."""

import logging
import os
import re
import shlex
from collections.abc import Callable, Sequence
from functools import cache

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils.file_io import PathManager

from ...utils.errors import InputError, input_errors

logger = logging.getLogger(__name__)

Pair = tuple[str, str]  # image file, depth file

# Two columns whose paths may hold spaces, and a focal length: an image's suffix ends each path.
_SUFFIX = r"\.(?:bmp|jpe?g|pgm|png|ppm|tiff?)"
_SPACED = re.compile(rf"(\S.*?{_SUFFIX})\s+(\S.*?{_SUFFIX}|None)(?:\s+(\S+))?", re.IGNORECASE)


def find_list(root: str, names: Sequence[str]) -> str | None:
    """Return the first of some list files that exists in the folder `root`, or None."""
    files = (os.path.join(root, name) for name in names)
    return next((file for file in files if PathManager.isfile(file)), None)


def read_list(file_name: str) -> list[Pair]:
    """Read a list with two columns (image, depth) or three (image, depth, focal length).

    Leading slashes are dropped. Entries whose depth is "None" are left out; their number is logged.

    Args:
        file_name: Text file in UTF-8, with columns separated by blanks. Paths may hold spaces if
            tabs separate the columns, if the paths are in double quotes, or if they end as images
            do.

    Returns:
        The paths as listed: relative to a folder that depends on the dataset.

    Raises:
        InputError: The file isn't text, a line has another number of columns or no focal length in
            the third one, or the file lists no pair. The message names the file and the line.
    """
    pairs, without_depth = [], 0
    not_text = input_errors(f"{file_name} isn't a text file", UnicodeDecodeError)
    with not_text, PathManager.open(file_name, "rb") as file:
        lines = file.read().decode("utf-8-sig").splitlines()  # Windows' editors write a mark first
    for number, line in enumerate(lines, start=1):
        place = f"{file_name}, line {number}"
        columns = _split(line.strip(), place)
        if not columns:
            continue
        _check_columns(columns, place)
        if columns[1] == "None":
            without_depth += 1
        else:
            pairs.append((columns[0].lstrip("/"), columns[1].lstrip("/")))
    if without_depth:
        logger.info("%s: %d entries have no depth and are left out", file_name, without_depth)
    if not pairs:
        raise InputError(f"{file_name} lists no image with depth")
    return pairs


def _split(line: str, place: str) -> list[str]:
    """Split a line into columns, of which the first two may hold spaces."""
    if '"' in line:
        lexer = shlex.shlex(line, posix=True)
        lexer.whitespace_split, lexer.commenters, lexer.escape, lexer.quotes = True, "", "", '"'
        with input_errors(place, ValueError):  # a quote that isn't closed
            return list(lexer)
    columns = line.split()
    if len(columns) in (0, 2) or (len(columns) == 3 and _is_number(columns[2])):
        return columns
    if "\t" in line:
        return [column.strip() for column in line.split("\t") if column.strip()]
    spaced = _SPACED.fullmatch(line)
    return columns if spaced is None else [column for column in spaced.groups() if column]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _check_columns(columns: list[str], place: str) -> None:
    if len(columns) not in (2, 3):
        raise InputError(
            f"{place}: {len(columns)} columns, expected two (image, depth) or three "
            "(image, depth, focal length); put paths with spaces in double quotes"
        )
    if len(columns) == 3 and not _is_number(columns[2]):
        raise InputError(f"{place}: the third column is {columns[2]!r}, expected a focal length")


def resolve_pairs(
    root: str, pairs: list[Pair], image_bases: Sequence[str], depth_bases: Sequence[str]
) -> list[Pair]:
    """Make listed paths complete; lists differ in the folder that their paths start from.

    Args:
        root: Folder of the dataset.
        pairs: Pairs of `read_list`.
        image_bases, depth_bases: Folders below `root` that paths may start from. A path starts from
            the first one that holds its leading folder, or from the first one if none does.
    """
    find_image, find_depth = _finder(root, image_bases), _finder(root, depth_bases)
    return [(find_image(image), find_depth(depth)) for image, depth in pairs]


def _finder(root: str, bases: Sequence[str]) -> Callable[[str], str]:
    folders = [os.path.join(root, base) for base in bases]

    @cache  # lists have tens of thousands of lines, but few leading folders
    def find_base(first: str) -> str:
        holding = (folder for folder in folders if PathManager.exists(os.path.join(folder, first)))
        return next(holding, folders[0])

    return lambda path: os.path.join(find_base(path.split("/")[0]), path)


def pair_dicts(
    pairs: list[Pair], depth_scale: float, image_id: Callable[[str], str], **common: object
) -> list[dict]:
    """Make dicts with "file_name", "depth_file_name", "depth_scale", "image_id" and `common`.

    Args:
        pairs: Pairs of complete paths.
        depth_scale: Factor from meters to the values in the depth files.
        image_id: Function from an image file to its id. Ids must be unique, because predictions
            are saved under them.
        common: Further items of all dicts.
    """
    return [
        {"file_name": image, "depth_file_name": depth, "depth_scale": depth_scale}
        | {"image_id": image_id(image), **common}
        for image, depth in pairs
    ]


def register_depth(name: str, load: Callable[[], list[dict]], **metadata: object) -> None:
    """Register a dataset with the metadata of all depth datasets.

    Args:
        name: Name of the dataset.
        load: Function that returns its dicts.
        metadata: Further metadata: "max_depth" in meters, "crop", folders.
    """
    DatasetCatalog.register(name, load)
    MetadataCatalog.get(name).set(evaluator_type="depth", min_depth=1e-3, **metadata)
