"""Read images, label maps and depth maps from files, with errors that name the file."""

import numpy as np
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import Image, UnidentifiedImageError

__all__ = ["check_labels", "read_depth", "read_image", "read_labels"]

# Pillow's names of one channel of 16 bits, which some of its versions widen to 32.
_SIXTEEN_BITS = ("I;16", "I;16B", "I")


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """
    Args:
        file_name: of the image; its EXIF orientation is applied.
        image_format: Detectron2's name, e.g. "RGB".

    Returns:
        (H, W, C) uint8.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image that PIL can decode.
    """
    try:
        return detection_utils.read_image(file_name, format=image_format)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image file {file_name} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"image file {file_name} cannot be read as an image: {error}") from error


def read_labels(file_name: str) -> np.ndarray:
    """
    Args:
        file_name: of a single-channel label map. A palette's indices are the labels.

    Returns:
        (H, W) uint8 or int32.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image or has several channels.
    """
    try:
        with PathManager.open(file_name, "rb") as file:
            labels = np.asarray(Image.open(file))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"label file {file_name} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"label file {file_name} cannot be read as an image: {error}") from error
    if labels.ndim != 2:
        raise ValueError(
            f"label file {file_name} has {labels.shape[2]} channels, expected one with class ids"
        )
    # OpenCV resizes neither bool nor uint16-as-int32 maps of other types.
    return labels if labels.dtype == np.uint8 else labels.astype(np.int32)


def read_depth(file_name: str, scale: float) -> np.ndarray:
    """
    Args:
        file_name: of a single-channel 16-bit PNG, 0 = no value.
        scale: what the file holds for one metre: 1000 for NYU Depth v2, 256 for KITTI.

    Returns:
        (H, W) float32, metres.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is no image, or has several channels or other than 16 bits.
    """
    try:
        with PathManager.open(file_name, "rb") as file:
            image = Image.open(file)
            mode, values = image.mode, np.asarray(image, np.float32)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"depth file {file_name} does not exist") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"depth file {file_name} cannot be read as an image: {error}") from error
    if mode not in _SIXTEEN_BITS:
        channels = 1 if values.ndim == 2 else values.shape[2]
        raise ValueError(
            f"depth file {file_name} has {channels} channels in Pillow's mode {mode!r}, expected "
            "one of 16 bits"
        )
    return values / np.float32(scale)


def check_labels(
    labels: np.ndarray,
    image_size: tuple[int, int],
    *,
    num_classes: int,
    ignore_value: int,
    label_file: str,
    image_file: str,
) -> None:
    """A label map must fit its image and hold known ids only.

    Args:
        labels: (H, W).
        image_size: (height, width).
        num_classes, ignore_value: known ids are 0..num_classes-1 and ignore_value.
        label_file, image_file: for the message.

    Raises:
        ValueError: naming the files and what was expected.
    """
    if labels.shape != tuple(image_size):
        raise ValueError(
            f"label file {label_file} is {labels.shape[0]}x{labels.shape[1]} (height x width), "
            f"its image {image_file} is {image_size[0]}x{image_size[1]}"
        )
    if labels.max() < num_classes and labels.min() >= 0:
        return
    ids = np.unique(labels)
    unknown = ids[((ids < 0) | (ids >= num_classes)) & (ids != ignore_value)]
    if len(unknown):
        raise ValueError(
            f"label file {label_file} holds ids {unknown.tolist()}, expected 0..{num_classes - 1} "
            f"({num_classes} classes) or {ignore_value} (ignore)"
        )
