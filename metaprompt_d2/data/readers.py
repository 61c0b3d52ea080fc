"""Read images, label maps and depth maps, with errors that name the file."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.data import detection_utils
from PIL import Image, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_image

from ..utils.errors import InputError
from .image_files import opened, orientation, stored_values, upright

# PIL's modes of a 16-bit gray PNG; "I" before Pillow 11.
_DEPTH_MODES = ("I;16", "I;16B", "I")
_TIFF = (b"II*\0", b"MM\0*")  # first bytes
# Chunks of a PNG that may hold an orientation. PIL would have to decode the file to read them.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")

_LABEL_ADVICE: list[tuple[int, range, str]] = []


def give_label_advice(num_classes: int, ids: range, advice: str) -> None:
    """Register what `read_checked_labels` says about the label maps of a dataset as downloaded.

    Args:
        num_classes: Number of classes of the model.
        ids: Ids that the dataset has before its conversion, and the model doesn't know.
        advice: Sentence for the error message about such ids; the first one that fits is shown.
    """
    _LABEL_ADVICE.append((num_classes, ids, advice))


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """Read an image.

    Args:
        file_name: Image file: any format that PIL reads, or a TIFF with 16 bits per channel.
        image_format: Detectron2's name of the format, such as "RGB".

    Returns:
        (H, W, C) uint8, as from `image_pixels`.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file cannot be decoded.
    """
    with opened("image", file_name) as file:
        content = file.read()
        image = _open_image(content)
        pixels = _decode_plain(image, content)
        if pixels is None or image_format not in ("RGB", "BGR"):
            return image_pixels(image, image_format)
        return pixels if image_format == "RGB" else pixels[..., ::-1]


def image_pixels(image: Image.Image, image_format: str) -> np.ndarray:
    """Return the pixels of a PIL image of any mode, as a viewer shows it.

    The EXIF orientation is applied (unless EXIF is damaged), transparent pixels are blended with
    white, and of 16 bits the upper 8 are taken. Color profiles are not applied.

    Args:
        image: Gray, palette, RGB or CMYK image, with or without transparency.
        image_format: Detectron2's name of the format, such as "RGB".

    Returns:
        (H, W, C) uint8.

    Raises:
        OSError: The file is damaged.
        InputError: The image has 32-bit values, whose white is unknown.
    """
    image.load()
    image = upright(image)
    if image.mode in _DEPTH_MODES:
        values = np.asarray(image)
        if values.min(initial=0) < 0 or values.max(initial=0) > 65535:
            raise InputError("its values exceed 16 bits")
        image = Image.fromarray((values >> 8).astype(np.uint8))
    elif image.mode == "F":
        raise InputError("it holds floating-point values, expected integers of 8 or 16 bits")
    elif image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return detection_utils.convert_PIL_to_numpy(image, image_format)


def _decode_plain(image: Image.Image, content: bytes) -> np.ndarray | None:
    """Decode a JPEG or PNG with torchvision if it needs nothing but decoding.

    The pixels equal PIL's to the bit. For large files this takes about half the time, because PIL
    holds four bytes per pixel and copies them three times.

    Returns:
        (H, W, 3) RGB; None for other files, and for files that don't decode, because PIL's error
        messages say more.
    """
    if image.format not in ("JPEG", "PNG") or image.mode != "RGB" or "transparency" in image.info:
        return None
    if image.format == "PNG" and any(mark in content for mark in _PNG_ORIENTATION):
        return None
    if image.format == "JPEG" and orientation(image) != 1:
        return None
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
    try:
        pixels = decode_image(values, ImageReadMode.RGB)
    except RuntimeError:
        return None
    return pixels.permute(1, 2, 0).numpy() if pixels.dtype == torch.uint8 else None


def _open_image(content: bytes) -> Image.Image:
    """Open an image with PIL, or with OpenCV if it is a TIFF with 16 bits per channel."""
    try:
        return Image.open(io.BytesIO(content))
    except UnidentifiedImageError:
        pixels = None
        if content.startswith(_TIFF):
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is None or pixels.dtype != np.uint16:
            raise InputError("it is in no format that PIL knows") from None
        return Image.fromarray((pixels[..., ::-1] // 256).astype(np.uint8))


def read_labels(file_name: str) -> np.ndarray:
    """Read a label map.

    Args:
        file_name: Single-channel image of any bit depth. The labels are the values that the file
            stores; if it has a palette, the indices.

    Returns:
        (H, W) uint8 or int32.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't an image, or it has several channels or values that aren't
            integers.
    """
    with opened("label", file_name) as file:
        labels, found = stored_values(Image.open(file))
    if labels.ndim != 2:
        raise InputError(f"label file {file_name} has {found}, expected one with class ids")
    if labels.dtype.kind == "f":
        raise InputError(f"label file {file_name} holds {found}, expected class ids")
    # OpenCV resizes neither bool nor uint32 maps.
    return labels if labels.dtype == np.uint8 else labels.astype(np.int32)


def read_checked_labels(
    item: Mapping[str, Any], image_size: Sequence[int], *, num_classes: int, ignore_value: int
) -> np.ndarray:
    """Read the label map of an image, and check its size and ids.

    Args:
        item: Dataset dict with "file_name" and "sem_seg_file_name".
        image_size: Size of the image as (height, width) in pixels.
        num_classes, ignore_value: Known ids: 0 to num_classes - 1, and ignore_value.

    Returns:
        (H, W) uint8 or int32.

    Raises:
        MissingFileError: The label map doesn't exist.
        InputError: As in `read_labels`, the dict names no label map, or the map has another size
            than the image or unknown ids. The message names the files and what was expected.
    """
    label_file = item.get("sem_seg_file_name")
    if label_file is None:
        raise InputError(
            f"image {item['file_name']} has no label map: its dict lacks 'sem_seg_file_name'"
        )
    labels = read_labels(label_file)
    check_labels(labels, item, image_size, num_classes=num_classes, ignore_value=ignore_value)
    return labels


def read_depth(file_name: str, scale: float) -> np.ndarray:
    """Read a depth map.

    Args:
        file_name: 16-bit PNG with one channel (or TIFF, or PGM with a maximum above 255).
        scale: Factor from meters to the values in the file.

    Returns:
        (H, W) float32 meters; 0 for missing values.

    Raises:
        MissingFileError: The file doesn't exist.
        InputError: The file isn't an image with 16 bits and one channel.
    """
    with opened("depth", file_name) as file:
        image = Image.open(file)
        values, found = stored_values(image)
    if image.mode not in _DEPTH_MODES:
        raise InputError(
            f"depth file {file_name} has {found}, expected a 16-bit PNG with one channel: "
            f"meters times {scale:g}"
        )
    return values.astype(np.float32) / np.float32(scale)


def check_labels(
    labels: np.ndarray,
    item: Mapping[str, Any],
    image_size: Sequence[int],
    *,
    num_classes: int,
    ignore_value: int,
) -> None:
    """Check labels (H, W) as `read_checked_labels` does."""
    label_file = item["sem_seg_file_name"]
    if labels.shape != tuple(image_size):
        raise InputError(
            f"label file {label_file} is {labels.shape[0]}x{labels.shape[1]} (height x width), "
            f"its image {item['file_name']} is {image_size[0]}x{image_size[1]}"
        )
    known = labels < num_classes
    if labels.dtype != np.uint8:
        known &= labels >= 0
    known |= labels == ignore_value
    if known.all():
        return
    unknown = np.unique(labels[~known]).tolist()
    fitting = (
        f". {advice}"
        for classes, ids, advice in _LABEL_ADVICE
        if classes == num_classes and set(unknown) <= set(ids)
    )
    advice = next(fitting, "")
    raise InputError(
        f"label file {label_file} holds ids {unknown}, expected 0..{num_classes - 1} "
        f"({num_classes} classes) or {ignore_value} (ignore){advice}"
    )
