"""Read images, label maps and depth maps, with errors that name the file."""

import io
from collections.abc import Mapping
from typing import IO, Any

import cv2
import numpy as np
import torch
from detectron2.data import detection_utils
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, UnidentifiedImageError
from torchvision.io import ImageReadMode, decode_image

from ..utils.errors import InputError, MissingFileError

__all__ = [
    "check_labels",
    "image_pixels",
    "read_checked_labels",
    "read_depth",
    "read_image",
    "read_labels",
]

# PIL's names of a 16-bit grey PNG; "I" before Pillow 11.
_DEPTH_MODES = ("I;16", "I;16B", "I")
_TIFF = (b"II*\0", b"MM\0*")  # how these files begin
# Where a PNG may say how it is to be turned; PIL decodes it before it tells.
_PNG_ORIENTATION = (b"eXIf", b"Raw profile type", b"XML:com.adobe.xmp")


def read_image(file_name: str, image_format: str) -> np.ndarray:
    """
    Args:
        file_name: of the image, whatever PIL reads and TIFFs with 16 bits a colour.
        image_format: Detectron2's name, e.g. "RGB".

    Returns:
        (H, W, C) uint8, as `image_pixels` makes it.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file is no image that can be decoded.
    """
    try:
        with PathManager.open(file_name, "rb") as file:
            content = file.read()
        image = _open_image(io.BytesIO(content))
        pixels = _decode_plain(image, content)
        if pixels is None or image_format not in ("RGB", "BGR"):
            return image_pixels(image, image_format)
        return pixels if image_format == "RGB" else pixels[..., ::-1]
    except FileNotFoundError as error:
        raise MissingFileError(f"image file {file_name} does not exist") from error
    except Exception as error:  # PIL raises what its decoders happen to run into
        raise InputError(f"image file {file_name} cannot be read as an image: {error}") from error


def image_pixels(image: Image.Image, image_format: str) -> np.ndarray:
    """Pixels of a PIL image of any mode, as a viewer shows it.

    EXIF's orientation is applied, what is transparent is laid on white, of 16 bits the upper 8
    are taken. Colour profiles are not applied.

    Args:
        image: grey, palette, RGB, CMYK, with or without transparency.
        image_format: Detectron2's name, e.g. "RGB".

    Returns:
        (H, W, C) uint8.

    Raises:
        OSError: a damaged file.
        InputError: 32-bit values, whose white is unknown.
    """
    image.load()  # Detectron2's look at the orientation swallows what a damaged file raises
    image = detection_utils._apply_exif_orientation(image)
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
    """RGB pixels of an opened JPEG or PNG that needs no more than decoding.

    They are PIL's own, to the bit, at about half the cost for large files: PIL holds four bytes a
    pixel and copies them three times. None for other files, and for those that don't decode: of
    these PIL tells what is wrong.
    """
    if image.format not in ("JPEG", "PNG") or image.mode != "RGB" or "transparency" in image.info:
        return None
    if image.format == "PNG" and any(mark in content for mark in _PNG_ORIENTATION):
        return None
    if image.format == "JPEG" and image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        return None
    try:
        values = torch.frombuffer(bytearray(content), dtype=torch.uint8)
        pixels = decode_image(values, ImageReadMode.RGB)
    except RuntimeError:
        return None
    return pixels.permute(1, 2, 0).numpy() if pixels.dtype == torch.uint8 else None


def _open_image(file: IO[bytes]) -> Image.Image:
    """PIL's image; a TIFF with 16 bits a colour, which PIL does not know, by OpenCV."""
    try:
        return Image.open(file)
    except UnidentifiedImageError:
        file.seek(0)
        content = file.read()
        pixels = None
        if content.startswith(_TIFF):
            flags = cv2.IMREAD_COLOR | cv2.IMREAD_ANYDEPTH
            pixels = cv2.imdecode(np.frombuffer(content, np.uint8), flags)
        if pixels is None or pixels.dtype != np.uint16:
            raise InputError("it is in no format that PIL knows") from None
        return Image.fromarray(np.ascontiguousarray(pixels[..., ::-1] >> 8).astype(np.uint8))


def read_labels(file_name: str) -> np.ndarray:
    """
    Args:
        file_name: of a single-channel label map. A palette's indices are the labels.

    Returns:
        (H, W) uint8 or int32.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file is no image, has several channels, or values that are no integers.
    """
    try:
        with PathManager.open(file_name, "rb") as file:
            labels = np.asarray(Image.open(file))
    except FileNotFoundError as error:
        raise MissingFileError(f"label file {file_name} does not exist") from error
    except Exception as error:  # PIL raises what its decoders happen to run into
        raise InputError(f"label file {file_name} cannot be read as an image: {error}") from error
    if labels.ndim != 2:
        raise InputError(
            f"label file {file_name} has {labels.shape[2]} channels, expected one with class ids"
        )
    if labels.dtype.kind == "f":
        raise InputError(f"label file {file_name} holds floating-point values, expected class ids")
    # OpenCV resizes neither bool nor uint16-as-int32 maps of other types.
    return labels if labels.dtype == np.uint8 else labels.astype(np.int32)


def read_checked_labels(
    item: Mapping[str, Any], image_size: tuple[int, int], *, num_classes: int, ignore_value: int
) -> np.ndarray:
    """The label map of an image, which must fit it and hold known ids only.

    Args:
        item: dataset dict with "file_name" and "sem_seg_file_name".
        image_size: (height, width).
        num_classes, ignore_value: as in `check_labels`.

    Returns:
        (H, W) uint8 or int32.

    Raises:
        MissingFileError, InputError: as `read_labels` and `check_labels`, or no label map.
    """
    label_file = item.get("sem_seg_file_name")
    if label_file is None:
        raise InputError(
            f"image {item['file_name']} has no label map: its dict lacks 'sem_seg_file_name'"
        )
    labels = read_labels(label_file)
    check_labels(
        labels,
        image_size,
        num_classes=num_classes,
        ignore_value=ignore_value,
        label_file=label_file,
        image_file=item["file_name"],
    )
    return labels


def read_depth(file_name: str, scale: float) -> np.ndarray:
    """
    Args:
        file_name: of a 16-bit single-channel PNG.
        scale: the file's values are metres times this.

    Returns:
        (H, W) float32 metres, 0 = no value.

    Raises:
        MissingFileError: there is no such file.
        InputError: the file is no image, or not one of 16 bits and one channel.
    """
    try:
        with PathManager.open(file_name, "rb") as file, Image.open(file) as image:
            mode, values = image.mode, np.asarray(image)
    except FileNotFoundError as error:
        raise MissingFileError(f"depth file {file_name} does not exist") from error
    except Exception as error:  # PIL raises what its decoders happen to run into
        raise InputError(f"depth file {file_name} cannot be read as an image: {error}") from error
    if mode not in _DEPTH_MODES:
        found = f"{values.shape[2]} channels" if values.ndim == 3 else f"8 bits (mode {mode})"
        raise InputError(
            f"depth file {file_name} has {found}, expected a 16-bit PNG with one channel: "
            f"metres times {scale:g}"
        )
    return values.astype(np.float32) / np.float32(scale)


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
        InputError: naming the files and what was expected.
    """
    if labels.shape != tuple(image_size):
        raise InputError(
            f"label file {label_file} is {labels.shape[0]}x{labels.shape[1]} (height x width), "
            f"its image {image_file} is {image_size[0]}x{image_size[1]}"
        )
    known = labels < num_classes
    if labels.dtype != np.uint8:
        known &= labels >= 0
    known |= labels == ignore_value
    if known.all():
        return
    unknown = np.unique(labels[~known])
    raise InputError(
        f"label file {label_file} holds ids {unknown.tolist()}, expected 0..{num_classes - 1} "
        f"({num_classes} classes) or {ignore_value} (ignore){_advice(unknown, num_classes)}"
    )


def _advice(unknown: np.ndarray, num_classes: int) -> str:
    """Which conversion a label map of a known data set lacks; "" if none is known."""
    if num_classes == 19 and unknown.min() >= 19 and unknown.max() <= 33:
        return (
            ". These look like Cityscapes' label ids; csCreateTrainIdLabelImgs (of "
            "cityscapesscripts) makes *_labelTrainIds.png, datasets/prepare_cityscapes_extra.py "
            "those of train_extra"
        )
    if num_classes == 19 and unknown.min() >= 19 and unknown.max() <= 123:
        return (
            ". If these are Mapillary's ids, datasets/prepare_mapillary_cityscapes.py maps those "
            "of v1.2 to Cityscapes' classes"
        )
    if num_classes == 150 and unknown.tolist() == [150]:
        return (
            ". If these are ADE20K's annotations as downloaded, which count classes from 1, "
            "datasets/prepare_ade20k_sem_seg.py shifts them"
        )
    return ""
