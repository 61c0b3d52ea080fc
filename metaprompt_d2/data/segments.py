"""Panoptic ground truth: the segments of an image, as a PNG of their ids and a list of them."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from ..utils.errors import InputError
from .image_files import opened, stored_values

_VOID = 0  # id of pixels without a segment


def read_segment_ids(file_name: str) -> np.ndarray:
    """Read the ids of a panoptic PNG: red + 256 green + 65536 blue.

    Args:
        file_name: Image with three channels of 8 bits.

    Returns:
        (H, W) int32; 0 for pixels without a segment.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't an image with three channels of 8 bits.
    """
    with opened("panoptic", file_name) as file:
        colors, found = stored_values(Image.open(file))
    if colors.dtype != np.uint8 or colors.ndim != 3 or colors.shape[2] != 3:
        raise InputError(
            f"panoptic file {file_name} has {found}, expected 3 channels of 8 bits with the ids of "
            "segments"
        )
    red, green, blue = np.moveaxis(colors, 2, 0).astype(np.int32)
    return red + 256 * green + 65536 * blue


def list_segments(item: Mapping[str, Any]) -> list[dict]:
    """Return the "segments_info" of a dataset dict.

    Raises:
        InputError: The dict has none.
    """
    if "segments_info" not in item:
        raise InputError(
            f"panoptic file {item['pan_seg_file_name']} of image {item['file_name']} has no "
            "segments: its dict lacks 'segments_info'"
        )
    return item["segments_info"]


def read_segments(item: Mapping[str, Any], image_size: Sequence[int]) -> np.ndarray:
    """Read the panoptic PNG of an image, and check it against the list of its segments.

    Args:
        item: Dataset dict with "file_name", "pan_seg_file_name" and "segments_info".
        image_size: Size of the image as (height, width) in pixels.

    Returns:
        (H, W) int32: positions in "segments_info", -1 for pixels without a segment.

    Raises:
        MissingFileError: The PNG doesn't exist.
        InputError: As in `read_segment_ids`; the PNG has another size than the image; or the PNG
            and the list don't have the same segments; stuff without pixels may be listed, though.
            The message names the files and the ids.
    """
    file, segments = item["pan_seg_file_name"], list_segments(item)
    ids = read_segment_ids(file)
    if ids.shape != tuple(image_size):
        raise InputError(
            f"panoptic file {file} is {ids.shape[0]}x{ids.shape[1]} (height x width), its image "
            f"{item['file_name']} is {image_size[0]}x{image_size[1]}"
        )
    numbers = np.full(ids.shape, -1, np.int32)
    absent = []
    for number, segment in enumerate(segments):
        mask = ids == segment["id"]
        np.copyto(numbers, number, where=mask)
        # ADE20K's files list stuff that things cover completely.
        if segment.get("isthing", True) and not mask.any():
            absent.append(segment["id"])
    if absent:
        raise InputError(
            f"panoptic file {file} lacks the segments {absent} that its segments_info lists"
        )
    unknown = np.unique(ids[(numbers < 0) & (ids != _VOID)]).tolist()
    if unknown:
        raise InputError(
            f"panoptic file {file} holds the segments {unknown}, which its segments_info doesn't "
            f"list ({_VOID} stands for no segment)"
        )
    return numbers
