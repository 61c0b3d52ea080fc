"""Depth's augmentations against arithmetic written out again, and depth in step with the image."""

from collections.abc import Callable

import cv2
import numpy as np
import pytest
from detectron2.data import transforms as T
from fvcore.transforms.transform import NoOpTransform
from hypothesis import given
from hypothesis import strategies as st

from metaprompt_d2.data import (
    BrightnessContrast,
    CutDepth,
    DepthAugInput,
    EveryNth,
    Gamma,
    HueSaturationValue,
    KBCrop,
    RandomWindow,
)

HEIGHT, WIDTH = 20, 30
SEEDS = st.integers(0, 2**32 - 1)


def random_image(height: int = HEIGHT, width: int = WIDTH) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def all_values() -> np.ndarray:
    """A gray image that holds each value once."""
    return np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)


def augmented(
    augmentation: T.Augmentation | T.AugmentationList, data: DepthAugInput, seed: int
) -> DepthAugInput:
    np.random.seed(seed)
    augmentation(data)
    return data


def fixed_draws(monkeypatch: pytest.MonkeyPatch, *draws: float) -> None:
    """Let `_rand_range` return these, in this order, whatever the range."""
    waiting = list(draws)

    def draw(self, low=1.0, high=None, size=None):
        count = int(np.prod(size)) if size else 1
        values = [waiting.pop(0) for _ in range(count)]
        return np.array(values) if size else values[0]

    monkeypatch.setattr(T.Augmentation, "_rand_range", draw)


# ------------------------------------------------------------------ CutDepth


def pasted_columns(transform: T.ColorTransform) -> slice:
    left, strip = (transform.op.keywords[name] for name in ("left", "strip"))
    return slice(left, left + strip.shape[1])


@pytest.mark.parametrize(
    ("a", "b", "columns"),
    [
        # W = 30: left = int(30 a), width = int(max((30 - 30 a) * b * 0.75, 1))
        (0.0, 0.999, range(0, 22)),  # 30 * 0.999 * 0.75 = 22.48
        (0.51, 0.5, range(15, 20)),  # 15.3; (30 - 15.3) * 0.375 = 5.51
        (0.99, 0.9, range(29, 30)),  # 29.7; 0.3 * 0.675 = 0.2: one column at least
        (0.3, 0.0, range(9, 10)),
    ],
)
def test_cut_depths_strip_by_hand(
    monkeypatch: pytest.MonkeyPatch, a: float, b: float, columns: range
) -> None:
    fixed_draws(monkeypatch, a, b)
    image = random_image() // 2 + 100
    data = DepthAugInput(image.copy(), depth=np.zeros((HEIGHT, WIDTH), np.float32))
    CutDepth(10.0)(data)
    covered = [not data.image[:, column].any() for column in range(WIDTH)]
    assert covered == [column in columns for column in range(WIDTH)]
    rest = [column for column in range(WIDTH) if column not in columns]
    assert np.array_equal(data.image[:, rest], image[:, rest])


@pytest.mark.parametrize(
    ("meters", "pasted"), [(0.0, 0), (2.5, 63), (5.0, 127), (10.0, 255), (12.0, 255), (300.0, 255)]
)
def test_cut_depth_pastes_depth_as_shares_of_255(meters: float, pasted: int) -> None:
    data = DepthAugInput(random_image(), depth=np.full((HEIGHT, WIDTH), meters, np.float32))
    columns = pasted_columns(CutDepth(10.0)(data))
    assert (data.image[:, columns] == pasted).all()


@pytest.mark.parametrize("scale", [256.0, 1000.0])
def test_wrapped_around_values_are_the_files_modulo_256(scale: float) -> None:
    file = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert [2500 % 256, 10000 % 256] == [196, 16]  # the values seen in the official code
    meters = file.astype(np.float32) / np.float32(scale)
    seen = np.zeros((256, 256), bool)
    for seed in range(30):
        data = DepthAugInput(np.zeros((256, 256, 3), np.uint8), depth=meters, depth_scale=scale)
        np.random.seed(seed)
        columns = pasted_columns(CutDepth(10.0, wrap_around=True)(data))
        assert np.array_equal(data.image[:, columns], (file % 256)[:, columns, None].repeat(3, 2))
        seen[:, columns] = True
    assert seen.mean() > 0.9


def test_cut_depth_leaves_its_inputs_alone() -> None:
    image, depth = random_image(), np.ones((HEIGHT, WIDTH), np.float32)
    before = image.copy()
    data = DepthAugInput(image, depth=depth)
    CutDepth(10.0)(data)
    assert np.array_equal(image, before)
    assert not np.array_equal(data.image, before)
    assert (data.depth == 1).all()


def test_cut_depths_strip_is_distributed_as_published() -> None:
    depth, image = np.zeros((1, 1000), np.float32), np.zeros((1, 1000, 3), np.uint8)
    transforms = [CutDepth(10.0).get_transform(image, depth, 1.0) for _ in range(2000)]
    columns = [pasted_columns(transform) for transform in transforms]
    lefts = np.array([column.start for column in columns])
    extents = np.array([column.stop - column.start for column in columns])
    assert abs(lefts.mean() - 500) < 30  # deviation 289 / sqrt(2000) = 6.5
    assert abs(extents.mean() - 187.5) < 18  # 1000 * 1/2 * 1/2 * 3/4; deviation 153 / 45 = 3.4
    assert (lefts + extents <= 1000).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"max_depth": 0.0}, r"max_depth is 0\.0"),
        ({"max_depth": 1.0, "max_share": 1.5}, "max_share is 1.5"),
    ],
)
def test_impossible_strips_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        CutDepth(**arguments)


def test_every_nth_counts_from_the_first() -> None:
    augmentation = EveryNth(CutDepth(10.0), 4)
    depth = np.zeros((HEIGHT, WIDTH), np.float32)
    changed = [
        not isinstance(augmentation(DepthAugInput(random_image(), depth=depth)), NoOpTransform)
        for _ in range(9)
    ]
    assert changed == [True, False, False, False] * 2 + [True]


# ------------------------------------------------------------------ crops


@pytest.mark.parametrize(
    ("size", "top", "left"),
    [
        ((375, 1242), 23, 13),
        ((370, 1224), 18, 4),
        ((370, 1226), 18, 5),
        ((374, 1238), 22, 11),
        ((376, 1241), 24, 12),  # int(25 / 2)
        ((352, 1216), 0, 0),
    ],
)
def test_kittis_benchmark_crop_by_hand(size: tuple[int, int], top: int, left: int) -> None:
    image = random_image(*size)
    depth = np.random.default_rng(1).random(size).astype(np.float32)
    data = DepthAugInput(image, depth=depth)
    KBCrop()(data)
    assert data.image.shape == (352, 1216, 3)
    assert np.array_equal(data.image, image[top:, left : left + 1216])
    assert np.array_equal(data.depth, depth[top:, left : left + 1216])
    assert top + 352 == size[0]


@pytest.mark.parametrize("size", [(351, 1242), (375, 1215)])
def test_an_image_below_the_benchmark_crop_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=rf"{size[0]}x{size[1]}.*KITTI's crop of 352x1216"):
        KBCrop()(DepthAugInput(random_image(*size)))


def test_every_window_comes_equally_often() -> None:
    image = random_image(6, 7)
    starts = []
    for _ in range(1200):
        transform = RandomWindow((4, 6)).get_transform(image)
        assert transform.apply_image(image).shape == (4, 6, 3)
        starts.append((transform.y0, transform.x0))
    places, counts = np.unique(starts, axis=0, return_counts=True)
    assert len(places) == 3 * 2
    assert counts.min() > 140  # 200 expected, deviation 13


def test_a_window_of_the_images_size_is_the_image() -> None:
    image = random_image()
    assert np.array_equal(
        RandomWindow((HEIGHT, WIDTH)).get_transform(image).apply_image(image), image
    )


@pytest.mark.parametrize("size", [(HEIGHT + 1, 4), (4, WIDTH + 1)])
def test_a_window_larger_than_the_image_is_refused(size: tuple[int, int]) -> None:
    with pytest.raises(
        ValueError, match=rf"is 20x30 .*INPUT\.CROP\.SIZE needs {size[0]}x{size[1]}"
    ):
        RandomWindow(size).get_transform(random_image())


# ------------------------------------------------------------------ colors


@pytest.mark.parametrize(("contrast", "brightness"), [(0.13, -0.07), (-0.2, 0.2), (0.2, 0.2)])
def test_brightness_and_contrast_by_formula(
    monkeypatch: pytest.MonkeyPatch, contrast: float, brightness: float
) -> None:
    fixed_draws(monkeypatch, contrast, brightness)
    data = DepthAugInput(all_values())
    BrightnessContrast(0.2, 0.2)(data)
    expected = [int(min(max(i * (1 + contrast) + 255 * brightness, 0), 255)) for i in range(256)]
    assert data.image.reshape(256, 3).tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("gamma", [0.8, 0.93, 1.0, 1.2])
def test_gamma_by_formula(gamma: float) -> None:
    data = DepthAugInput(all_values())
    Gamma((gamma, gamma))(data)
    expected = [int((i / 255) ** gamma * 255) for i in range(256)]
    assert data.image.reshape(256, 3).tolist() == [[value] * 3 for value in expected]


@pytest.mark.parametrize("shifts", [(-13.7, 22.2, -9.1), (20.0, -30.0, 20.0), (0.0, 0.0, 0.0)])
@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_hue_saturation_and_value_by_formula(
    monkeypatch: pytest.MonkeyPatch, shifts: tuple, image_format: str
) -> None:
    fixed_draws(monkeypatch, *shifts)
    image = random_image()
    data = DepthAugInput(image)
    HueSaturationValue(20, 30, 20, image_format)(data)
    rgb = image if image_format == "RGB" else image[..., ::-1]
    hsv = cv2.cvtColor(np.ascontiguousarray(rgb), cv2.COLOR_RGB2HSV)
    for pixel in hsv.reshape(-1, 3):
        hue, saturation, value = (int(v) for v in pixel)
        pixel[0] = int((hue + shifts[0]) % 180)
        pixel[1] = int(min(max(saturation + shifts[1], 0), 255))
        pixel[2] = int(min(max(value + shifts[2], 0), 255))
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB)
    if image_format == "BGR":
        expected = expected[..., ::-1]
    assert np.array_equal(data.image, expected)


@pytest.mark.parametrize(
    ("augmentation", "draws"),
    [
        (BrightnessContrast(0.2, 0.1), [(-0.1, 0.1), (-0.2, 0.2)]),
        (Gamma((0.8, 1.2)), [(0.8, 1.2)]),
        (HueSaturationValue(20, 30, 25), [(-20, 20), (-30, 30), (-25, 25)]),
    ],
)
def test_draws_stay_in_their_ranges_and_fill_them(
    monkeypatch: pytest.MonkeyPatch, augmentation: T.Augmentation, draws: list
) -> None:
    original, seen = T.Augmentation._rand_range, []

    def draw(self, *arguments, **options):
        values = original(self, *arguments, **options)
        seen.append(np.atleast_1d(values))
        return values

    monkeypatch.setattr(T.Augmentation, "_rand_range", draw)
    for _ in range(400):
        augmentation.get_transform(random_image())
    values = np.concatenate(seen).reshape(400, len(draws))
    for column, (low, high) in zip(values.T, draws, strict=True):
        assert low <= column.min() < low + 0.02 * (high - low)
        assert high >= column.max() > high - 0.02 * (high - low)


@pytest.mark.parametrize("gamma_range", [(0.0, 1.0), (1.2, 0.8)])
def test_impossible_gammas_are_refused_by_their_key(gamma_range: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match=r"gamma_range is"):
        Gamma(gamma_range)


def test_an_image_format_without_hue_is_refused_by_its_key() -> None:
    with pytest.raises(ValueError, match=r"image_format is 'L', expected 'RGB' or 'BGR'"):
        HueSaturationValue(20, 30, 20, "L")


COLORS = {
    "cut depth": lambda: CutDepth(10.0),
    "brightness and contrast": lambda: BrightnessContrast(0.2, 0.2),
    "gamma": lambda: Gamma((0.5, 0.6)),
    "hue, saturation, value": lambda: HueSaturationValue(20, 30, 20),
}


@pytest.mark.parametrize("make", COLORS.values(), ids=COLORS)
@given(seed=SEEDS)
def test_colors_change_the_image_only(make: Callable[[], T.Augmentation], seed: int) -> None:
    depth = np.random.default_rng(3).random((HEIGHT, WIDTH)).astype(np.float32)
    image = random_image()
    data = DepthAugInput(image.copy(), depth=depth)
    np.random.seed(seed)
    transform = make()(data)
    assert data.depth is depth
    assert data.image.dtype == np.uint8
    assert data.image.shape == image.shape
    points = np.array([[3.0, 4.0]])
    assert np.array_equal(transform.apply_coords(points), points)


# ------------------------------------------------------------------ all together


@given(seed=SEEDS)
def test_depth_stays_in_step_with_the_image(seed: int) -> None:
    """Every pixel of the image tells where it was, in two channels; so does its depth."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    image = np.dstack([rows, columns, np.zeros_like(rows)]).astype(np.uint8)
    depth = (1 + rows * WIDTH + columns).astype(np.float32)
    geometry = [T.RandomFlip(), T.RandomFlip(horizontal=False, vertical=True), RandomWindow((9, 7))]
    data = augmented(T.AugmentationList(geometry), DepthAugInput(image, depth=depth), seed)
    assert data.image.shape[:2] == data.depth.shape == (9, 7)
    shown = 1 + data.image[..., 0].astype(int) * WIDTH + data.image[..., 1]
    assert np.array_equal(shown, data.depth)


@given(seed=SEEDS, factor=st.floats(0.4, 2.5))
def test_resizing_makes_no_depth_up(seed: int, factor: float) -> None:
    depth = np.random.default_rng(seed).choice([0.0, 1.5, 70.0], (HEIGHT, WIDTH)).astype(np.float32)
    size = max(int(HEIGHT * factor), 1), max(int(WIDTH * factor), 1)
    data = augmented(T.Resize(size), DepthAugInput(random_image(), depth=depth), seed)
    assert data.image.shape[:2] == data.depth.shape == size
    assert data.depth.dtype == np.float32
    assert set(np.unique(data.depth)) <= {0.0, 1.5, 70.0}


@given(seed=SEEDS)
def test_the_same_seed_gives_the_same_sample(seed: int) -> None:
    recipe = [
        T.RandomApply(CutDepth(10.0), 0.25),
        T.RandomFlip(),
        RandomWindow((9, 7)),
        T.RandomApply(BrightnessContrast(0.2, 0.2), 0.5),
        T.RandomApply(Gamma((0.8, 1.2)), 0.5),
        T.RandomApply(HueSaturationValue(20, 30, 20), 0.5),
    ]
    depth = np.random.default_rng(4).random((HEIGHT, WIDTH)).astype(np.float32)
    first, second = (
        augmented(T.AugmentationList(recipe), DepthAugInput(random_image(), depth=depth), seed)
        for _ in range(2)
    )
    assert np.array_equal(first.image, second.image)
    assert np.array_equal(first.depth, second.depth)
