"""Open image files with PIL, and read the values that stand in them."""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import numpy as np
from detectron2.utils.file_io import PathManager
from PIL import ExifTags, Image, ImageFile, PngImagePlugin

from ..utils.errors import InputError, MissingFileError

# PIL refuses a PNG with a color profile or text above 1 MB, though pixels don't depend on them.
# Its limit for all texts of a file (64 MB) stays.
PngImagePlugin.MAX_TEXT_CHUNK = PngImagePlugin.MAX_TEXT_MEMORY

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def limit_pixels(largest: int) -> None:
    """Set the size above which this process refuses to open images.

    Args:
        largest: Number of pixels; 0 leaves PIL's limit (178956970 pixels by default) as it is.
    """
    if largest:
        Image.MAX_IMAGE_PIXELS = -(-largest // 2)  # PIL warns above it and refuses twice as many


@contextmanager
def opened(kind: str, file_name: str) -> Iterator[IO[bytes]]:
    """Open an image file, and name it in every error that reading and decoding it raise."""
    try:
        with PathManager.open(file_name, "rb") as file:
            yield file
    except FileNotFoundError as error:
        raise MissingFileError(f"{kind} file {file_name} does not exist") from error
    except Image.DecompressionBombError as error:
        raise InputError(
            f"{kind} file {file_name} cannot be read as an image: {error} The key "
            "INPUT.MAX_IMAGE_PIXELS (train.max_image_pixels in LazyConfigs) allows larger ones"
        ) from error
    except Exception as error:  # PIL raises what its decoders happen to run into
        raise InputError(f"{kind} file {file_name} cannot be read as an image: {error}") from error


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 (upright) if there is none or EXIF is damaged."""
    try:
        found = image.getexif().get(ExifTags.Base.Orientation, 1)
    except (SyntaxError, struct.error, ValueError, TypeError, OSError):
        return 1
    return found if found in _TURNS else 1


def upright(image: Image.Image) -> Image.Image:
    """Turn an image as its EXIF orientation says.

    PIL's `exif_transpose` also rewrites the rest of EXIF, which fails where that is damaged.
    """
    turn = _TURNS.get(orientation(image))
    return image if turn is None else image.transpose(turn)


def _layout(image: ImageFile.ImageFile) -> tuple[str, str, str, tuple]:
    """Return PIL's decoder, layout of the channels, packing of the bits, and further arguments."""
    decoder, *_, arguments = image.tile[0] if image.tile else ("", ())
    arguments = arguments if isinstance(arguments, tuple) else (arguments,)
    layout, _, packing = str(arguments[0] if arguments else image.mode).partition(";")
    return decoder, layout, packing, arguments


def is_read_as_stored(image: ImageFile.ImageFile) -> bool:
    """Say whether PIL gives the stored values of an opened gray image, which isn't decoded yet."""
    decoder, layout, packing, _ = _layout(image)
    return not (decoder.startswith("ppm") or (layout in ("1", "L") and packing))


def stored_values(image: ImageFile.ImageFile) -> tuple[np.ndarray, str]:
    """Read the values of an opened file as they are stored, of every bit depth.

    PIL itself stretches gray values of less than 8 bits, and those of a PGM with its own maximum,
    to the whole range of 8 or 16 bits, and inverts those of which 0 is white.

    Args:
        image: Image that isn't decoded yet.

    Returns:
        (H, W) or (H, W, C) values, indices if there is a palette; and words for the kind of values,
        such as "4 bits".
    """
    decoder, layout, packing, arguments = _layout(image)
    values = np.asarray(image)
    if values.ndim == 3:
        return values, f"{2 if layout == 'LA' else values.shape[2]} channels"
    if values.dtype.kind == "f":
        return values, "floating-point values"
    if decoder.startswith("ppm") and image.mode in ("L", "I"):
        largest = int(arguments[-1])
        stretch = {"L": 255, "I": 65535}[image.mode] / largest
        return np.rint(values / stretch).astype(values.dtype), f"values up to {largest}"
    bits = 1 if image.mode == "1" else 8 * values.dtype.itemsize
    if layout == "L" and packing[:1] in ("2", "4"):
        bits = int(packing[0])
        values = values // (255 // (2**bits - 1))
    elif layout == "P" and packing[:1].isdigit():
        bits = int(packing[0])
    if layout in ("1", "L") and "I" in packing:  # 0 is white
        values = ~values if bits == 1 else 2**bits - 1 - values
    return values, "1 bit" if bits == 1 else f"{bits} bits"
