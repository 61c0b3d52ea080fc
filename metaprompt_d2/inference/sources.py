"""What a user points at: image files, folders, patterns, videos, a camera."""

import glob
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from ..utils.errors import InputError, MissingFileError

__all__ = ["Source", "Video", "find_sources"]

_IMAGES = set(".avif .bmp .gif .jfif .jp2 .jpeg .jpg .pgm .png .ppm .tif .tiff .webp".split())
_VIDEOS = set(".avi .m4v .mkv .mov .mp4 .mpeg .mpg .webm".split())


class Source(NamedTuple):
    """An image or a video."""

    file: str
    name: str  # for what is made of it: without ending, below its folder, unlike all others
    is_video: bool


def find_sources(patterns: Sequence[str | os.PathLike]) -> list[Source]:
    """
    Args:
        patterns: files (of any ending), folders (searched with their sub-folders for the endings of
            images and videos; hidden files are left out) and glob patterns.

    Raises:
        MissingFileError: a pattern that nothing matches.
        InputError: a folder without images and videos, or two files of one name.
    """
    found: dict[str, str] = {}  # file -> name with ending
    for pattern in map(os.fspath, patterns):
        for file, name in _matches(os.path.expanduser(pattern)):
            found.setdefault(file, name)  # a file that is named twice counts once
    stems = Counter(os.path.splitext(name)[0] for name in found.values())
    names: dict[str, str] = {}
    for file, name in found.items():
        stem, ending = os.path.splitext(name)
        name = stem if stems[stem] == 1 else f"{stem}_{ending[1:]}"
        if name in names:
            raise InputError(
                f"{names[name]} and {file} would both be predicted to {name}: "
                "give the folder that holds both, or one after the other"
            )
        names[name] = file
    return [Source(file, name, _ending(file) in _VIDEOS) for name, file in sorted(names.items())]


def _ending(file: str) -> str:
    return os.path.splitext(file)[1].lower()


def _matches(pattern: str) -> Iterator[tuple[str, str]]:
    """Files and their paths below the folder that was named."""
    if os.path.isdir(pattern):
        inside = [file for file in Path(pattern).rglob("*") if not file.name.startswith(".")]
        files = [file for file in inside if _ending(file.name) in _IMAGES | _VIDEOS]
        if not files:
            endings = " ".join(sorted(_IMAGES | _VIDEOS))
            raise InputError(f"folder {pattern} holds no file that ends in one of {endings}")
        yield from ((str(file), str(file.relative_to(pattern))) for file in sorted(files))
        return
    files = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern, recursive=True))
    files = [file for file in files if os.path.isfile(file)]
    if not files:
        raise MissingFileError(f"{pattern} is no file or folder, and no pattern that matches one")
    yield from ((file, os.path.basename(file)) for file in files)


class Video:
    """Frames of a video file or a camera, one after the other."""

    def __init__(self, source: str | os.PathLike | int):
        """
        Args:
            source: a file, or a camera's number.

        Raises:
            MissingFileError: there is no such file.
            InputError: OpenCV cannot read it.
        """
        self.is_camera = is_camera = isinstance(source, int)
        self.name = f"camera {source}" if is_camera else f"video file {os.fspath(source)}"
        if not is_camera and not os.path.isfile(source):
            raise MissingFileError(f"{self.name} does not exist")
        self._capture = cv2.VideoCapture(source if is_camera else os.fspath(source))
        if not self._capture.isOpened():
            raise InputError(f"{self.name} cannot be opened")
        self.frames_per_second = self._capture.get(cv2.CAP_PROP_FPS) or 25.0
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.num_frames = count if count > 0 else None  # None: not known

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yield (H, W, 3) uint8 BGR, once.

        Raises:
            InputError: not one frame can be read.
        """
        try:
            number = 0
            while True:
                there, frame = self._capture.read()
                if not there:
                    break
                yield frame
                number += 1
            if not number:
                raise InputError(f"{self.name} has no frame that can be read")
        finally:
            self._capture.release()
