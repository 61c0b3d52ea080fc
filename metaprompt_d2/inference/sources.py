"""Find image files and videos, and read the frames of videos and cameras."""

import glob
import logging
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from ..utils.errors import InputError, MissingFileError
from ..utils.files import files_below

logger = logging.getLogger(__name__)

_IMAGES = tuple(".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
_VIDEOS = tuple(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm".split())


class Source(NamedTuple):
    """An image or video file."""

    file: str
    name: str  # unique name for output files: the path below the given folder, without suffix
    is_video: bool


def find_sources(patterns: Sequence[str | os.PathLike[str]]) -> list[Source]:
    """Find the images and videos of files, folders and glob patterns, sorted by name.

    Args:
        patterns: Files with any suffix, folders (searched recursively for suffixes of images and
            videos, also through links, without hidden files) and glob patterns.

    Raises:
        MissingFileError: Nothing matches a pattern.
        InputError: A folder has no images or videos, or two files have the same name.
    """
    found: dict[str, str] = {}  # file -> name with suffix
    for pattern in patterns:
        for file, name in _match_files(os.path.expanduser(os.fspath(pattern))):
            found.setdefault(file, name)  # files that are given twice count once
    stems = Counter(os.path.splitext(name)[0] for name in found.values())
    names: dict[str, str] = {}
    for file, name in found.items():
        stem, suffix = os.path.splitext(name)
        name = stem if stems[stem] == 1 else f"{stem}_{suffix[1:]}"
        if name in names:
            raise InputError(
                f"{names[name]} and {file} would both be predicted to {name}: "
                "give the folder that holds both, or one after the other"
            )
        names[name] = file
    sources = sorted(names.items())
    return [Source(file, name, file.lower().endswith(_VIDEOS)) for name, file in sources]


def _match_files(pattern: str) -> Iterator[tuple[str, str]]:
    """Yield the files that match a pattern and their paths below the folder that was given."""
    if os.path.isdir(pattern):
        found = list(files_below(pattern, _IMAGES + _VIDEOS))
        if not found:
            endings = " ".join(sorted(_IMAGES + _VIDEOS))
            raise InputError(f"folder {pattern} holds no file that ends in one of {endings}")
        yield from ((os.path.join(pattern, file), file) for file in found)
        return
    files = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    files = [file for file in files if os.path.isfile(file)]
    if not files:
        raise MissingFileError(f"{pattern} isn't a file or folder, or a pattern that matches one")
    yield from ((file, os.path.basename(file)) for file in files)


class Video:
    """Iterates once over the frames of a video file or a camera."""

    def __init__(self, source: str | os.PathLike[str] | int):
        """
        Args:
            source: Video file, or number of a camera.

        Raises:
            InputError: OpenCV cannot read it, or it does not exist (`MissingFileError`).
        """
        self.is_camera = isinstance(source, int)
        self.name = f"camera {source}" if self.is_camera else f"video file {source}"
        if not self.is_camera and not os.path.isfile(source):
            raise MissingFileError(f"{self.name} does not exist")
        self._capture = cv2.VideoCapture(source if isinstance(source, int) else os.fspath(source))
        if not self._capture.isOpened():
            raise InputError(f"{self.name} cannot be opened")
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = count if count > 0 else None  # None if unknown
        # Says after the last frame that frames are missing; "" if none is.
        self.damage = ""
        # MP4 and its like count their frames; for others OpenCV computes a number from the length.
        is_counted = self.name.lower().endswith((".mp4", ".m4v", ".mov"))
        self._least_share = 1.0 if is_counted else 0.95

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 BGR.

        Raises:
            InputError: No frame can be read.
        """
        count = 0
        try:
            is_read, frame = self._capture.read()
            if not is_read:
                raise InputError(f"{self.name} has no frame that can be read")
            while is_read:
                yield frame
                count += 1
                is_read, frame = self._capture.read()
        finally:
            self._capture.release()
        if self.num_frames and count < self.num_frames * self._least_share:
            self.damage = f"{self.name} ends early: {count} of {self.num_frames} frames can be read"
            logger.warning(self.damage)
