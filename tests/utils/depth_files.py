"""Small depth datasets in the layouts of NYU Depth v2 and KITTI."""

from pathlib import Path

import cv2
import numpy as np


def write_depth(file: Path, values: np.ndarray) -> None:
    """Write the file's own values as a 16-bit PNG."""
    file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(file), values.astype(np.uint16))


def write_pair(image_file: Path, depth_file: Path, height: int = 12, width: int = 16) -> None:
    """A random image and random depth values from 1 on."""
    random = np.random.default_rng(0)
    image_file.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(image_file), random.integers(0, 256, (height, width, 3), np.uint8))
    write_depth(depth_file, random.integers(1, 2000, (height, width)))


def write_nyu_pair(folder: Path, scene: str, number: int) -> None:
    """`<folder>/<scene>/rgb_00001.jpg` and its depth."""
    stem = f"{number:05d}"
    write_pair(folder / scene / f"rgb_{stem}.jpg", folder / scene / f"sync_depth_{stem}.png")


def kitti_files(root: Path, drive: str, frame: int, split: str) -> tuple[Path, Path]:
    """Image and depth map of a frame of the left color camera."""
    name = f"{frame:010d}.png"
    return (
        root / f"raw_data/{drive[:10]}/{drive}/image_02/data/{name}",
        root / f"data_depth_annotated/{split}/{drive}/proj_depth/groundtruth/image_02/{name}",
    )


def write_kitti_frame(root: Path, drive: str, frame: int, split: str = "train") -> None:
    """An image and its depth map, small."""
    write_pair(*kitti_files(root, drive, frame, split))
