"""The values that a file stores are read, of every bit depth, color type and format."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from raw_images import CHANNELS, DEPTHS, GRAY, PALETTE, chunk, pbm, pgm, png, tiff

from metaprompt_d2.data import image_files
from metaprompt_d2.data.readers import read_depth, read_image, read_labels

SIZE = (13, 19)  # rows that don't fill their last byte


def values_of(bits: int, seed: int = 0, channels: int = 1) -> np.ndarray:
    """Random values; the largest and the smallest are among them."""
    values = np.random.default_rng(seed).integers(0, 2**bits, (*SIZE, channels))
    values[0, 0], values[-1, -1] = 2**bits - 1, 0
    return values if channels > 1 else values[..., 0]


KINDS = [(color, bits) for color, depths in DEPTHS.items() for bits in depths]


@pytest.mark.parametrize(("color", "bits"), KINDS)
def test_a_png_of_every_depth_and_color_type(tmp_path: Path, color: int, bits: int) -> None:
    file = tmp_path / "map.png"
    channels = CHANNELS[color]
    values = values_of(bits, channels=channels)
    file.write_bytes(png(values, bits, color))
    if channels > 1:
        for read in (read_labels, lambda name: read_depth(name, 256.0)):
            with pytest.raises(ValueError, match=rf"map\.png has {channels} channels"):
                read(str(file))
        return
    labels = read_labels(str(file))
    assert labels.dtype == (np.int32 if bits == 16 or (color, bits) == (GRAY, 1) else np.uint8)
    assert np.array_equal(labels, values)
    if bits == 16:
        assert np.array_equal(read_depth(str(file), 500.0), values.astype(np.float32) / 500)
    else:
        with pytest.raises(ValueError, match=rf"map\.png has {bits} bits?, expected a 16-bit PNG"):
            read_depth(str(file), 500.0)


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16, 32])
@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_tiff_of_every_depth(tmp_path: Path, bits: int, white_is_zero: bool) -> None:
    if bits == 32 and white_is_zero:
        pytest.skip("PIL knows no such TIFF")
    values = values_of(min(bits, 24))
    file = tmp_path / "map.tif"
    file.write_bytes(tiff(values, bits, white_is_zero=white_is_zero))
    assert np.array_equal(read_labels(str(file)), values)
    if bits >= 16:
        assert np.array_equal(read_depth(str(file), 1.0), values.astype(np.float32))


def test_a_tiff_of_floating_point_numbers_is_called_that(tmp_path: Path) -> None:
    file = tmp_path / "map.tif"
    file.write_bytes(tiff(values_of(4) + 0.5, 32, kind=3))
    for read in (read_labels, lambda name: read_depth(name, 256.0)):
        with pytest.raises(ValueError, match=r"map\.tif (has|holds) floating-point values, expect"):
            read(str(file))


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("largest", [1, 3, 18, 150, 254, 255, 256, 1000, 4095, 65534, 65535])
def test_a_pgm_with_its_own_maximum(tmp_path: Path, largest: int, plain: bool) -> None:
    values = np.random.default_rng(largest).integers(0, largest + 1, SIZE)
    values[0, :2] = 0, largest
    file = tmp_path / "map.pgm"
    file.write_bytes(pgm(values, largest, plain=plain))
    assert np.array_equal(read_labels(str(file)), values)
    if largest > 255:
        assert np.array_equal(read_depth(str(file), 8.0), values.astype(np.float32) / 8)


def test_a_pbm(tmp_path: Path) -> None:
    (tmp_path / "map.pbm").write_bytes(pbm(values_of(1)))
    assert np.array_equal(read_labels(str(tmp_path / "map.pbm")), values_of(1))


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
def test_as_an_image_gray_keeps_its_meaning(tmp_path: Path, bits: int) -> None:
    """Of a photo the largest value is white, whatever its depth."""
    (tmp_path / "photo.png").write_bytes(png(values_of(bits), bits, GRAY))
    expected = np.rint(values_of(bits) * (255 / (2**bits - 1)))[..., None].repeat(3, axis=2)
    assert np.array_equal(read_image(str(tmp_path / "photo.png"), "RGB"), expected)


# ------------------------------------------------------------------ what pixels don't depend on

BIG = zlib.compress(b"x" * 3_000_000)
PROFILE = chunk(b"iCCP", b"profile\0\0" + BIG)
TEXT = chunk(b"zTXt", b"comment\0\0" + BIG)
LONG_TEXT = chunk(b"iTXt", b"comment\0\1\0\0\0" + BIG)


@pytest.mark.parametrize("extra", [PROFILE, TEXT, LONG_TEXT, PROFILE + TEXT])
def test_large_profiles_and_texts_of_a_png_are_passed_over(tmp_path: Path, extra: bytes) -> None:
    photo, labels, depth = values_of(8, channels=3), values_of(4), values_of(16)
    contents = {"photo": png(photo, 8, 2, extra), "labels": png(labels, 4, PALETTE, extra)}
    contents["depth"] = png(depth, 16, GRAY, extra)
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    assert np.array_equal(read_image(str(tmp_path / "photo"), "RGB"), photo)
    assert np.array_equal(read_labels(str(tmp_path / "labels")), labels)
    assert np.array_equal(read_depth(str(tmp_path / "depth"), 1.0), depth.astype(np.float32))


@pytest.mark.filterwarnings("ignore:Image size")
def test_the_limit_of_pixels_can_be_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    file = tmp_path / "map.png"
    file.write_bytes(png(values_of(8), 8, GRAY))
    for read in (read_labels, lambda name: read_image(name, "RGB")):
        with pytest.raises(ValueError, match=r"map\.png .*INPUT\.MAX_IMAGE_PIXELS .*allows larger"):
            read(str(file))
    image_files.limit_pixels(0)
    assert Image.MAX_IMAGE_PIXELS == 50
    image_files.limit_pixels(SIZE[0] * SIZE[1])
    assert np.array_equal(read_labels(str(file)), values_of(8))
    image_files.limit_pixels(SIZE[0] * SIZE[1] - 2)
    with pytest.raises(ValueError, match="MAX_IMAGE_PIXELS"):
        read_labels(str(file))


PHOTO = cv2.resize(values_of(8, channels=3).astype(np.uint8), (24, 16))


def exif_block(random: np.random.Generator) -> bytes:
    """EXIF that says "turned by 180 degrees", damaged behind that entry."""
    exif = Image.Exif()
    exif[0x0112], exif[0x011A], exif[0x9003] = 3, 72.0, "2020:01:01 00:00:00"
    block = bytearray(exif.tobytes())
    for _ in range(random.integers(1, 40)):
        block[random.integers(36, len(block))] = random.integers(256)
    return bytes(block)


@pytest.mark.parametrize("ending", ["jpg", "png", "webp"])
@pytest.mark.parametrize("seed", range(10))
def test_damaged_exif_keeps_no_image_from_being_read(
    tmp_path: Path, ending: str, seed: int
) -> None:
    random = np.random.default_rng(seed)
    whole = exif_block(random)
    for block in (whole, whole[: random.integers(7, 30)], whole[:6] + random.bytes(40)):
        file = tmp_path / f"photo.{ending}"
        Image.fromarray(PHOTO).save(file, exif=block, quality=95)
        with Image.open(file) as image:
            upright = np.asarray(image.convert("RGB"))
        found = read_image(str(file), "RGB")
        if block is whole:
            assert np.array_equal(found, upright[::-1, ::-1])
        else:
            assert sorted(found.shape) == sorted(upright.shape)


def test_exif_of_impossible_values_is_passed_over(tmp_path: Path) -> None:
    """A rational number with a text's type: PIL could read it, but not write it again."""
    entries = [(0x010F, 5, 1, 50), (0x0112, 3, 1, 3 << 16), (0x0128, 2, 1, 0)]
    block = b"Exif\0\0MM\0*" + struct.pack(">IH", 8, len(entries))
    block += b"".join(struct.pack(">HHII", *entry) for entry in entries) + bytes(40)
    file = tmp_path / "photo.jpg"
    Image.fromarray(PHOTO).save(file, exif=block, quality=95)
    upright = np.asarray(Image.open(file))
    assert np.array_equal(read_image(str(file), "RGB"), upright[::-1, ::-1])
