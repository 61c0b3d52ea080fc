"""`SemSegMapper`: types and sizes, labels in step with the image, errors that name files."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import SizeMismatchError
from helpers import tiny_cfg

from metaprompt_d2.data import SemSegMapper

HEIGHT, WIDTH = 48, 96
BOX = {"INPUT.MIN_SIZE_TRAIN": (HEIGHT,), "INPUT.MAX_SIZE_TRAIN": WIDTH}
CROP = {"INPUT.CROP.SIZE": [32, 40]}
PLAIN = BOX | {
    "INPUT.SCALE_RANGE": (1.0, 1.0),
    "INPUT.CROP.ENABLED": False,
    "INPUT.RANDOM_FLIP": "none",
    "INPUT.COLOR_AUG_SSD": False,
}


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """A picture whose blue channel is 20 times its label: blocks of 8x8, 11 classes."""
    folder = tmp_path_factory.mktemp("sample")
    labels = np.random.default_rng(0).integers(0, 11, (HEIGHT // 8, WIDTH // 8), np.uint8)
    labels = labels.repeat(8, axis=0).repeat(8, axis=1)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 20 * labels  # OpenCV's order: blue first
    cv2.imwrite(str(folder / "image.png"), image)
    cv2.imwrite(str(folder / "labels.png"), labels)
    return {
        "file_name": str(folder / "image.png"),
        "sem_seg_file_name": str(folder / "labels.png"),
        "height": HEIGHT,
        "width": WIDTH,
    }


def mapper(overrides: dict | None = None, *, is_train: bool = True) -> SemSegMapper:
    return SemSegMapper(tiny_cfg(overrides or {}), is_train)


def seeded(mapper: SemSegMapper, sample: dict, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    np.random.seed(seed)
    result = mapper(sample)
    return result["image"], result["sem_seg"]


def classes_in(image: torch.Tensor) -> torch.Tensor:
    """The labels that the picture's blue channel (last in RGB) shows."""
    return (image[2].float() / 20).round().long()


def test_without_augmentation_files_are_returned_as_they_are(sample: dict) -> None:
    result = mapper(PLAIN)(sample)
    image = cv2.imread(sample["file_name"])[..., ::-1]
    assert result["image"].dtype == torch.uint8
    assert result["sem_seg"].dtype == torch.int64
    assert np.array_equal(result["image"].permute(1, 2, 0).numpy(), image)
    assert np.array_equal(result["sem_seg"].numpy(), cv2.imread(sample["sem_seg_file_name"], -1))
    assert result["file_name"] == sample["file_name"]


def test_the_dataset_dict_is_not_changed(sample: dict) -> None:
    before = dict(sample)
    mapper(PLAIN)(sample)
    assert sample == before


@pytest.mark.parametrize(
    "overrides",
    [
        {"INPUT.CROP.ENABLED": True} | CROP,
        {"INPUT.RANDOM_FLIP": "horizontal"},
        {"INPUT.RANDOM_FLIP": "vertical"},
        {"INPUT.CROP.ENABLED": True, "INPUT.RANDOM_FLIP": "horizontal"} | CROP,
    ],
    ids=["crop", "flip", "vertical flip", "crop and flip"],
)
def test_labels_move_with_the_image(sample: dict, overrides: dict) -> None:
    augmented = mapper(PLAIN | overrides)
    results = [seeded(augmented, sample, seed) for seed in range(8)]
    for image, labels in results:
        assert torch.equal(classes_in(image), labels)
    assert len({tuple(labels.flatten().tolist()) for _, labels in results}) > 1


def test_labels_are_resized_with_the_image(sample: dict) -> None:
    resizing = mapper(PLAIN | {"INPUT.SCALE_RANGE": (0.5, 2.0)})
    for seed in range(5):
        image, labels = seeded(resizing, sample, seed)
        assert image.shape[1:] == labels.shape != (HEIGHT, WIDTH)
        # Blocks keep clear insides; at their borders bilinear mixes and nearest chooses.
        assert (classes_in(image) == labels).float().mean() > 0.7
        assert labels.unique().tolist() == list(range(11))


@pytest.mark.parametrize("scale", [0.4, 1.0, 1.7])
def test_crops_have_one_size_and_small_images_are_filled_up(sample: dict, scale: float) -> None:
    overrides = BOX | CROP | {"INPUT.SCALE_RANGE": (scale, scale)}
    image, labels = seeded(mapper(overrides), sample, 0)
    assert image.shape == (3, 32, 40)
    assert labels.shape == (32, 40)
    inside = int(HEIGHT * scale)  # 19 rows at scale 0.4
    if scale < 0.5:
        assert image.dtype == torch.float32
        assert (labels[inside:] == 255).all()
        assert not image[:, inside:].any()  # PIXEL_MEAN of the tests is 0
        assert (labels[:inside, :38] < 255).all()


def test_color_distortion_changes_the_image_only(sample: dict) -> None:
    plain, colored = mapper(PLAIN), mapper(PLAIN | {"INPUT.COLOR_AUG_SSD": True})
    image, labels = seeded(plain, sample, 0)
    results = [seeded(colored, sample, seed) for seed in range(6)]
    assert any(not torch.equal(other, image) for other, _ in results)
    assert all(torch.equal(other, labels) for _, other in results)


def test_crops_avoid_places_of_a_single_class(tmp_path: Path) -> None:
    # Columns 0-119 hold one class, 120-159 another. A 40 pixels wide crop is accepted if neither
    # covers 3/4: it starts at 91..109, 19 of 121 places. In ten draws that is met with
    # 1 - (102/121)^10 = 82 %, in one draw with 16 %.
    labels = np.zeros((40, 160), np.uint8)
    labels[:, 120:] = 1
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((40, 160, 3), np.uint8))
    item = {
        "file_name": str(tmp_path / "image.png"),
        "sem_seg_file_name": str(tmp_path / "labels.png"),
    }
    overrides = {
        "INPUT.MIN_SIZE_TRAIN": (40,),
        "INPUT.MAX_SIZE_TRAIN": 160,
        "INPUT.SCALE_RANGE": (1.0, 1.0),
        "INPUT.CROP.SIZE": [40, 40],
    }

    def balanced(max_area: float) -> int:
        cropping = mapper(overrides | {"INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": max_area})
        shares = [seeded(cropping, item, seed)[1].float().mean() for seed in range(60)]
        return sum(0.25 < share < 0.75 for share in shares)

    assert balanced(0.75) > 40  # 49 expected
    assert balanced(1.0) < 20  # 9 expected


def test_test_time_keeps_size_and_needs_no_labels(sample: dict) -> None:
    item = {"file_name": sample["file_name"], "height": HEIGHT, "width": WIDTH}
    result = mapper({"INPUT.MIN_SIZE_TEST": 0}, is_train=False)(item)
    assert result["image"].shape == (3, HEIGHT, WIDTH)
    assert "sem_seg" not in result


def test_an_image_without_labels_cannot_be_trained_on(sample: dict) -> None:
    item = {"file_name": sample["file_name"]}
    with pytest.raises(ValueError, match=r"image\.png has no label map"):
        mapper(PLAIN)(item)


def test_test_time_fits_the_image_into_its_box(sample: dict) -> None:
    overrides = {"INPUT.MIN_SIZE_TEST": 96, "INPUT.MAX_SIZE_TEST": 144}
    result = mapper(overrides, is_train=False)(sample)
    # min(144 / 96, 96 / 48) = 1.5
    assert result["image"].shape == (3, 72, 144)
    assert (result["height"], result["width"]) == (HEIGHT, WIDTH)


def test_test_time_augmentation_gets_the_image_unscaled(sample: dict) -> None:
    overrides = {"INPUT.MIN_SIZE_TEST": 96, "TEST.AUG.ENABLED": True}
    assert mapper(overrides, is_train=False)(sample)["image"].shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("label", [3, 255])
def test_an_image_of_one_class_is_cropped_all_the_same(
    sample: dict, tmp_path: Path, label: int
) -> None:
    cv2.imwrite(str(tmp_path / "one.png"), np.full((HEIGHT, WIDTH), label, np.uint8))
    result = mapper(BOX | CROP)(sample | {"sem_seg_file_name": str(tmp_path / "one.png")})
    assert result["image"].shape == (3, 32, 40)
    assert set(result["sem_seg"].unique().tolist()) <= {label, 255}


def test_an_image_of_another_size_than_stated_is_refused_by_name(sample: dict) -> None:
    with pytest.raises(SizeMismatchError, match=r"image\.png"):
        mapper(PLAIN)(sample | {"height": HEIGHT + 1})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.zeros((HEIGHT, WIDTH - 1), np.uint8), rf"{HEIGHT}x{WIDTH - 1}.*image\.png is 48x96"),
        (np.full((HEIGHT, WIDTH), 11, np.uint8), r"holds ids \[11\], expected 0\.\.10"),
        (np.zeros((HEIGHT, WIDTH, 3), np.uint8), r"has 3 channels"),
    ],
    ids=["size", "ids", "channels"],
)
def test_labels_that_do_not_fit_are_refused_by_name(
    sample: dict, tmp_path: Path, labels: np.ndarray, message: str
) -> None:
    cv2.imwrite(str(tmp_path / "wrong.png"), labels)
    with pytest.raises(ValueError, match=rf"wrong\.png .*{message}"):
        mapper(PLAIN)(sample | {"sem_seg_file_name": str(tmp_path / "wrong.png")})


@pytest.mark.parametrize("key", ["file_name", "sem_seg_file_name"])
def test_a_missing_file_is_named(sample: dict, key: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist"):
        mapper(PLAIN)(sample | {key: "nowhere.png"})


def test_a_real_image_and_its_labels_pass(real_data: Path) -> None:
    stem = "val/frankfurt/frankfurt_000000_000294"
    item = {
        "file_name": str(real_data / f"cityscapes/leftImg8bit/{stem}_leftImg8bit.png"),
        "sem_seg_file_name": str(real_data / f"cityscapes/gtFine/{stem}_gtFine_labelTrainIds.png"),
    }
    result = mapper(PLAIN | {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19})(item)
    assert result["image"].shape[1:] == result["sem_seg"].shape
    assert result["sem_seg"].unique().numel() > 3
