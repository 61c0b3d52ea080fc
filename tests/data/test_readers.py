"""Reading images, labels and depth: what passes, and errors that name the file."""

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from metaprompt_d2.data.readers import check_labels, read_depth, read_image, read_labels

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 17, 3), np.uint8)
LABELS = np.random.default_rng(1).integers(0, 19, (12, 17), np.uint8)


def saved(file: Path, pixels: np.ndarray, **options) -> str:
    Image.fromarray(pixels).save(file, **options)
    return str(file)


def truncated(file: Path, pixels: np.ndarray) -> str:
    saved(file, pixels)
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    return str(file)


def damaged(file: Path, pixels: np.ndarray) -> str:
    """Bytes within the compressed data are others: the checksum is wrong, pixels may be, too."""
    saved(file, pixels)
    content = bytearray(file.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 3] = bytes(255 - value for value in content[middle : middle + 3])
    file.write_bytes(content)
    return str(file)


def text(file: Path, _) -> str:
    file.write_text("no image")
    return str(file)


def empty(file: Path, _) -> str:
    file.touch()
    return str(file)


@pytest.mark.parametrize(("name", "channels"), [("RGB", [0, 1, 2]), ("BGR", [2, 1, 0])])
def test_an_image_is_read_in_the_asked_channel_order(
    tmp_path: Path, name: str, channels: list[int]
) -> None:
    image = read_image(saved(tmp_path / "image.png", PIXELS), name)
    assert image.dtype == np.uint8
    assert np.array_equal(image, PIXELS[..., channels])


def test_a_gray_image_becomes_three_channels(tmp_path: Path) -> None:
    image = read_image(saved(tmp_path / "gray.png", LABELS), "RGB")
    assert np.array_equal(image, np.repeat(LABELS[..., None], 3, axis=2))


@pytest.mark.parametrize("ending", ["png", "jpg"])
def test_exif_orientation_is_applied(tmp_path: Path, ending: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 3  # turned by 180 degrees
    file = saved(tmp_path / f"turned.{ending}", PIXELS, exif=exif)
    upright = np.asarray(Image.open(file))
    assert np.array_equal(read_image(file, "RGB"), upright[::-1, ::-1])


DEEP = np.random.default_rng(2).integers(0, 65536, (12, 17, 3), np.uint16)


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("values", [DEEP[..., 0], DEEP], ids=["gray", "color"])
def test_of_16_bits_the_upper_8_are_taken(tmp_path: Path, values: np.ndarray, ending: str) -> None:
    file = tmp_path / f"deep.{ending}"
    cv2.imwrite(str(file), values)
    expected = values >> 8 if values.ndim == 3 else np.repeat(values[..., None] >> 8, 3, axis=2)
    assert np.array_equal(read_image(str(file), "BGR"), expected)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_what_is_transparent_is_white(tmp_path: Path, mode: str) -> None:
    pixels = np.dstack([PIXELS, np.full(LABELS.shape, 255, np.uint8)])
    pixels[:5, ..., 3] = 0
    image = Image.fromarray(pixels)
    image = image.quantize(32) if mode == "P" else image.convert(mode)
    image.save(tmp_path / "sticker.png")
    read = read_image(str(tmp_path / "sticker.png"), "RGB")
    colors, alpha = np.split(np.asarray(image.convert("RGBA")), [3], axis=2)
    assert set(np.unique(alpha)) == {0, 255}
    assert np.array_equal(read, np.where(alpha == 0, 255, colors))


def test_print_colors_become_rgb(tmp_path: Path) -> None:
    smooth = cv2.resize(PIXELS, (64, 48))
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "print.jpg", quality=95)
    difference = read_image(str(tmp_path / "print.jpg"), "RGB") - smooth.astype(float)
    assert np.abs(difference).mean() < 4


@pytest.mark.parametrize("values", [DEEP[..., 0] / 65535, DEEP / 65535], ids=["gray", "color"])
def test_floating_point_images_are_refused(tmp_path: Path, values: np.ndarray) -> None:
    cv2.imwrite(str(tmp_path / "float.tif"), values.astype(np.float32))
    with pytest.raises(ValueError, match=r"image file .*float\.tif cannot be read"):
        read_image(str(tmp_path / "float.tif"), "RGB")


def test_32_bit_integers_pass_while_they_fit_16(tmp_path: Path) -> None:
    file = str(tmp_path / "wide.tif")
    Image.fromarray(DEEP[..., 0].astype(np.int32)).save(file)
    assert np.array_equal(read_image(file, "L")[..., 0], DEEP[..., 0] >> 8)
    Image.fromarray(DEEP[..., 0].astype(np.int32) * 2).save(file)
    with pytest.raises(ValueError, match=r"wide\.tif cannot .*exceed 16 bits"):
        read_image(file, "L")


def test_an_image_that_would_fill_the_memory_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = saved(tmp_path / "bomb.png", PIXELS)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    with pytest.raises(ValueError, match=r"bomb\.png cannot be read as an image: Image size"):
        read_image(file, "RGB")


@pytest.mark.parametrize(
    ("ending", "options"),
    [
        ("png", {}),
        ("jpg", {"quality": 80, "subsampling": 0}),
        ("jpg", {"quality": 95, "subsampling": 2, "progressive": True}),
    ],
)
def test_plain_files_have_pils_pixels(tmp_path: Path, ending: str, options: dict) -> None:
    pixels = PIXELS.repeat(5, axis=0).repeat(5, axis=1)
    file = saved(tmp_path / f"street.{ending}", pixels, **options)
    image = read_image(file, "RGB")
    assert np.array_equal(image, np.asarray(Image.open(file)))
    assert image.flags.c_contiguous and image.flags.writeable


def test_a_png_may_have_one_transparent_color(tmp_path: Path) -> None:
    color = tuple(map(int, PIXELS[2, 3]))
    file = saved(tmp_path / "clear.png", PIXELS, transparency=color)
    expected = PIXELS.copy()
    expected[(color == PIXELS).all(axis=-1)] = 255
    assert np.array_equal(read_image(file, "RGB"), expected)


@pytest.mark.parametrize("spoil", [truncated, damaged, text, empty])
def test_an_unreadable_image_is_named(tmp_path: Path, spoil) -> None:
    file = spoil(tmp_path / "street.png", PIXELS)
    with pytest.raises(ValueError, match=r"image file .*street\.png cannot be read"):
        read_image(file, "RGB")


@pytest.mark.parametrize("spoil", [truncated, damaged, text, empty])
def test_an_unreadable_label_map_is_named(tmp_path: Path, spoil) -> None:
    file = spoil(tmp_path / "truth.png", LABELS)
    with pytest.raises(ValueError, match=r"label file .*truth\.png cannot be read"):
        read_labels(file)


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"image file .*gone\.png does not exist"):
        read_image(str(tmp_path / "gone.png"), "RGB")
    with pytest.raises(FileNotFoundError, match=r"label file .*gone\.png does not exist"):
        read_labels(str(tmp_path / "gone.png"))


def test_labels_keep_their_values(tmp_path: Path) -> None:
    labels = read_labels(saved(tmp_path / "labels.png", LABELS))
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, LABELS)


def test_a_palettes_indices_are_the_labels(tmp_path: Path) -> None:
    image = Image.fromarray(LABELS).convert("P")
    image.putdata(LABELS.flatten().tolist())
    image.putpalette([(7 * i) % 256 for i in range(3 * 256)])
    image.save(tmp_path / "palette.png")
    assert Image.open(tmp_path / "palette.png").mode == "P"
    assert np.array_equal(read_labels(str(tmp_path / "palette.png")), LABELS)


def test_wide_labels_are_read_as_int32(tmp_path: Path) -> None:
    wide = LABELS.astype(np.uint16) * 1000
    labels = read_labels(saved(tmp_path / "wide.png", wide))
    assert labels.dtype == np.int32
    assert np.array_equal(labels, wide)


def test_a_colored_label_map_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"label file .*color\.png has 3 channels"):
        read_labels(saved(tmp_path / "color.png", PIXELS))


def check(
    labels: np.ndarray,
    size: tuple[int, int] = (12, 17),
    *,
    ignore_value: int = 255,
    num_classes: int = 19,
) -> None:
    item = {"file_name": "street.png", "sem_seg_file_name": "truth.png"}
    check_labels(labels, item, size, num_classes=num_classes, ignore_value=ignore_value)


def test_labels_with_fractions_are_no_ids(tmp_path: Path) -> None:
    file = saved(tmp_path / "labels.tif", LABELS + np.float32(0.5))
    with pytest.raises(ValueError, match=r"labels\.tif holds floating-point values"):
        read_labels(file)


def test_known_and_ignored_ids_pass() -> None:
    labels = LABELS.copy()
    check(labels)
    labels[0] = 255
    check(labels)
    check(np.full((12, 17), 255, np.uint8))


def test_a_label_map_of_another_size_than_its_image_is_refused_with_both_names() -> None:
    with pytest.raises(ValueError, match=r"truth\.png is 12x17.*street\.png is 17x12"):
        check(LABELS, (17, 12))


@pytest.mark.parametrize(
    ("ids", "ignore_value", "listed"),
    [([19, 33], 255, r"\[19, 33\]"), ([-1], 255, r"\[-1\]"), ([255], 254, r"\[255\]")],
)
def test_unknown_ids_are_listed_with_the_files_name(
    ids: list[int], ignore_value: int, listed: str
) -> None:
    labels = LABELS.astype(np.int32)
    labels[3, : len(ids)] = ids
    with pytest.raises(ValueError, match=rf"truth\.png holds ids {listed}, expected 0\.\.18"):
        check(labels, ignore_value=ignore_value)


@pytest.mark.parametrize(
    ("ids", "num_classes", "advice"),
    [
        ([19, 33], 19, "csCreateTrainIdLabelImgs"),
        ([23], 19, "prepare_cityscapes_extra"),
        ([24, 65], 19, "prepare_mapillary_cityscapes"),
        ([150], 150, "prepare_ade20k_sem_seg"),
    ],
)
def test_ids_of_a_known_kind_are_refused_with_the_conversion(
    ids: list[int], num_classes: int, advice: str
) -> None:
    labels = np.zeros_like(LABELS)
    labels[3, : len(ids)] = ids
    with pytest.raises(ValueError, match=advice):
        check(labels, num_classes=num_classes)


@pytest.mark.parametrize(("ids", "num_classes"), [([200], 19), ([19], 11), ([151], 150)])
def test_other_ids_are_refused_without_a_guess(ids: list[int], num_classes: int) -> None:
    labels = np.zeros_like(LABELS)
    labels[3, : len(ids)] = ids
    with pytest.raises(ValueError, match=r"\(ignore\)$"):
        check(labels, num_classes=num_classes)


def test_a_negative_ignore_value_is_known() -> None:
    labels = LABELS.astype(np.int32)
    labels[0] = -1
    check(labels, ignore_value=-1)


# ------------------------------------------------------------------ depth

DEPTH = np.random.default_rng(2).integers(0, 65536, (12, 17)).astype(np.uint16)
DEPTH[0] = 0


@pytest.mark.parametrize("scale", [256.0, 1000.0])
def test_depth_is_in_meters(tmp_path: Path, scale: float) -> None:
    depth = read_depth(saved(tmp_path / "depth.png", DEPTH), scale)
    assert depth.dtype == np.float32
    np.testing.assert_allclose(depth, DEPTH / scale, rtol=1e-7)
    assert not depth[0].any()


@pytest.mark.parametrize(
    ("pixels", "found"),
    [
        (LABELS, "8 bits"),
        (PIXELS, "3 channels"),
        (np.dstack([PIXELS, LABELS]), "4 channels"),
    ],
)
def test_a_depth_map_of_another_kind_is_refused_by_name(
    tmp_path: Path, pixels: np.ndarray, found: str
) -> None:
    file = saved(tmp_path / "depth.png", pixels)
    with pytest.raises(ValueError, match=rf"depth\.png has {found}.*, expected a 16-bit PNG"):
        read_depth(file, 256.0)


def test_a_16_bit_color_image_is_not_a_depth_map(tmp_path: Path) -> None:
    file = str(tmp_path / "depth.png")
    cv2.imwrite(file, np.zeros((4, 5, 3), np.uint16))
    with pytest.raises(ValueError, match=r"depth\.png has 3 channels"):
        read_depth(file, 256.0)


@pytest.mark.parametrize("spoil", [truncated, damaged, text, empty])
def test_an_unreadable_depth_map_is_named(tmp_path: Path, spoil) -> None:
    file = spoil(tmp_path / "depth.png", DEPTH)
    with pytest.raises(ValueError, match=r"depth file .*depth\.png cannot be read"):
        read_depth(file, 256.0)


def test_a_missing_depth_map_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"depth file .*gone\.png does not exist"):
        read_depth(str(tmp_path / "gone.png"), 256.0)


def test_an_image_that_claims_a_huge_size_is_refused_by_name(tmp_path: Path) -> None:
    """PIL's error of decompression bombs is of no type that others of its errors have."""
    file = tmp_path / "huge.png"
    Image.new("L", (4, 4)).save(file)
    content = file.read_bytes()
    header = b"IHDR" + struct.pack(">II", 60_000, 60_000) + content[24:29]
    crc = struct.pack(">I", zlib.crc32(header))
    file.write_bytes(content[:12] + header + crc + content[33:])
    for read in (lambda: read_image(str(file), "RGB"), lambda: read_labels(str(file))):
        with pytest.raises(ValueError, match=r"huge\.png cannot be read as an image"):
            read()
