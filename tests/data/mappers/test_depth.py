"""`DepthMapper`: types, sizes and values, the recipe's order, errors that name files."""

from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from depth_files import write_depth, write_pair
from detectron2.data import DatasetCatalog
from detectron2.data import transforms as T
from detectron2.data.detection_utils import SizeMismatchError
from helpers import tiny_cfg

from metaprompt_d2.data import CutDepth, DepthMapper, EveryNth, build_train_loader
from metaprompt_d2.data.datasets.kitti import load_kitti_eigen
from metaprompt_d2.data.datasets.nyu_depth_v2 import load_nyu_depth_v2
from metaprompt_d2.utils.errors import InputError

HEIGHT, WIDTH = 48, 64
AUG = "INPUT.DEPTH_AUG."
RECIPE = {
    "INPUT.MIN_SIZE_TRAIN": (0,),
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.CROP.ENABLED": True,
    "INPUT.CROP.TYPE": "absolute",
    "INPUT.CROP.SIZE": [32, 40],
    "INPUT.RANDOM_FLIP": "horizontal",
}
PLAIN = {
    "INPUT.MIN_SIZE_TRAIN": (0,),
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.CROP.ENABLED": False,
    "INPUT.RANDOM_FLIP": "none",
    **{f"{AUG}{name}_PROB": 0.0 for name in ("CUT_DEPTH", "BRIGHTNESS_CONTRAST", "GAMMA", "HSV")},
}


@pytest.fixture
def sample(tmp_path: Path) -> dict:
    write_pair(tmp_path / "image.png", tmp_path / "depth.png", HEIGHT, WIDTH)
    return {
        "file_name": str(tmp_path / "image.png"),
        "depth_file_name": str(tmp_path / "depth.png"),
        "depth_scale": 1000.0,
    }


def mapper(overrides: dict | None = None, *, is_train: bool = True) -> DepthMapper:
    return DepthMapper(tiny_cfg(overrides or {}), is_train)


def pixels(sample: dict) -> np.ndarray:
    return cv2.imread(sample["file_name"])[..., ::-1]


def test_without_augmentation_files_are_returned_as_they_are(sample: dict) -> None:
    result = mapper(PLAIN)(sample)
    assert result["image"].dtype == torch.uint8
    assert np.array_equal(result["image"].permute(1, 2, 0).numpy(), pixels(sample))
    assert result["depth"].dtype == torch.float32
    values = cv2.imread(sample["depth_file_name"], cv2.IMREAD_UNCHANGED)
    np.testing.assert_allclose(result["depth"].numpy(), values / 1000, rtol=1e-6)
    assert (result["height"], result["width"]) == (HEIGHT, WIDTH)


def test_the_dataset_dict_is_not_changed(sample: dict) -> None:
    before = dict(sample)
    mapper(RECIPE)(sample)
    assert sample == before


def test_the_recipe_crops_and_keeps_types(sample: dict) -> None:
    for seed in range(5):
        np.random.seed(seed)
        result = mapper(RECIPE)(sample)
        assert result["image"].shape == (3, 32, 40)
        assert result["depth"].shape == (32, 40)
        assert (result["image"].dtype, result["depth"].dtype) == (torch.uint8, torch.float32)


def test_the_recipe_is_in_the_published_order() -> None:
    names = []
    for augmentation in mapper(RECIPE).augmentations.augs:
        inner = augmentation.aug if isinstance(augmentation, T.RandomApply) else augmentation
        probability = getattr(augmentation, "prob", None)
        names.append((type(inner).__name__, probability))
    assert names == [
        ("CutDepth", 0.25),
        ("RandomFlip", 0.5),
        ("RandomWindow", None),
        ("BrightnessContrast", 0.5),
        ("Gamma", 0.5),
        ("HueSaturationValue", 0.5),
    ]


def test_the_official_cut_depth_is_there_by_key(sample: dict) -> None:
    official = mapper(PLAIN | {f"{AUG}CUT_DEPTH_EVERY": 4, f"{AUG}CUT_DEPTH_WRAP_AROUND": True})
    (augmentation,) = official.augmentations.augs
    assert isinstance(augmentation, EveryNth)
    assert isinstance(augmentation.augmentation, CutDepth)
    image = pixels(sample)
    raw = cv2.imread(sample["depth_file_name"], cv2.IMREAD_UNCHANGED)
    for turn in range(9):
        result = official(sample)["image"].permute(1, 2, 0).numpy()
        columns = (result != image).any(axis=(0, 2))
        assert columns.any() == (turn % 4 == 0)
        assert np.array_equal(result[:, columns], (raw % 256)[:, columns, None].repeat(3, axis=2))


def test_test_time_needs_no_depth_and_changes_nothing(sample: dict) -> None:
    result = mapper(RECIPE, is_train=False)({"file_name": sample["file_name"]})
    assert np.array_equal(result["image"].permute(1, 2, 0).numpy(), pixels(sample))
    assert (result["height"], result["width"]) == (HEIGHT, WIDTH)
    assert "depth" not in result


RESIZED = {
    "INPUT.MIN_SIZE_TRAIN": (24,),
    "INPUT.MAX_SIZE_TRAIN": 100,
    "INPUT.MIN_SIZE_TEST": 24,
    "INPUT.MAX_SIZE_TEST": 100,
}


@pytest.mark.parametrize("is_train", [True, False])
def test_images_are_resized_by_detectron2s_keys_and_predicted_at_the_files_size(
    sample: dict, is_train: bool
) -> None:
    result = mapper(PLAIN | RESIZED, is_train=is_train)(sample)
    half = cv2.resize(pixels(sample), (WIDTH // 2, HEIGHT // 2))
    assert np.array_equal(result["image"].permute(1, 2, 0).numpy(), half)
    assert (result["height"], result["width"]) == (HEIGHT, WIDTH)
    if is_train:
        values = cv2.imread(sample["depth_file_name"], cv2.IMREAD_UNCHANGED) / np.float32(1000)
        assert np.array_equal(result["depth"].numpy(), values[::2, ::2])  # nearest


def test_test_time_augmentation_resizes_instead(sample: dict) -> None:
    result = mapper(RESIZED | {"TEST.AUG.ENABLED": True}, is_train=False)(sample)
    assert result["image"].shape == (3, HEIGHT, WIDTH)


@pytest.mark.parametrize("is_train", [True, False])
def test_kittis_crop_is_the_frame_of_predictions(tmp_path: Path, is_train: bool) -> None:
    write_pair(tmp_path / "image.png", tmp_path / "depth.png", 375, 1242)
    item = {
        "file_name": str(tmp_path / "image.png"),
        "depth_file_name": str(tmp_path / "depth.png"),
        "depth_scale": 256.0,
        "kb_crop": True,
        "height": 375,
        "width": 1242,
    }
    result = mapper(PLAIN, is_train=is_train)(item)
    assert (result["height"], result["width"]) == (352, 1216)
    image = pixels(item)[23:, 13:1229]
    assert np.array_equal(result["image"].permute(1, 2, 0).numpy(), image)
    if is_train:
        depth = cv2.imread(item["depth_file_name"], cv2.IMREAD_UNCHANGED)[23:, 13:1229]
        assert np.array_equal(result["depth"].numpy(), depth / np.float32(256))


def test_a_depth_map_without_any_value_passes(sample: dict) -> None:
    write_depth(Path(sample["depth_file_name"]), np.zeros((HEIGHT, WIDTH)))
    for seed in range(8):
        np.random.seed(seed)
        assert not mapper(RECIPE)(sample)["depth"].any()


def test_depth_of_another_size_is_refused_with_both_names(sample: dict) -> None:
    write_depth(Path(sample["depth_file_name"]), np.ones((HEIGHT, WIDTH - 1)))
    with pytest.raises(ValueError, match=r"depth\.png is 48x63 .*image\.png is 48x64"):
        mapper(RECIPE)(sample)


def test_training_on_images_without_ground_truth_is_refused_by_name(sample: dict) -> None:
    del sample["depth_file_name"]
    with pytest.raises(ValueError, match=r"image\.png has no ground truth to train on"):
        mapper(RECIPE)(sample)


def test_8_bit_depth_is_refused_by_name(sample: dict) -> None:
    cv2.imwrite(sample["depth_file_name"], np.ones((HEIGHT, WIDTH), np.uint8))
    with pytest.raises(ValueError, match=r"depth\.png has 8 bits"):
        mapper(RECIPE)(sample)


@pytest.mark.parametrize("key", ["file_name", "depth_file_name"])
def test_a_missing_file_is_named(sample: dict, key: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.png does not exist"):
        mapper(RECIPE)(sample | {key: "nowhere.png"})


def test_an_image_of_another_size_than_stated_is_refused_by_name(sample: dict) -> None:
    with pytest.raises(SizeMismatchError, match=r"image\.png"):
        mapper(PLAIN)(sample | {"height": HEIGHT + 1, "width": WIDTH})


def test_an_image_smaller_than_its_crop_is_refused_by_name(sample: dict) -> None:
    with pytest.raises(ValueError, match=r"image\.png: .* 48x64 .*INPUT\.CROP\.SIZE needs 49x40"):
        mapper(RECIPE | {"INPUT.CROP.SIZE": [49, 40]})(sample)
    with pytest.raises(ValueError, match=r"image\.png: .* 48x64 .*crop of 352x1216"):
        mapper(RECIPE)(sample | {"kb_crop": True})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.CROP.TYPE", "relative", r"INPUT\.CROP\.TYPE is 'relative'"),
        (f"{AUG}CUT_DEPTH_EVERY", -1, "n is -1"),
        (f"{AUG}CUT_DEPTH_MAX_DEPTH", 0.0, r"max_depth is 0\.0"),
    ],
)
def test_impossible_settings_are_refused(key: str, value: object, message: str) -> None:
    cfg = tiny_cfg(RECIPE)
    cfg.merge_from_list([key, value])  # `load_config` would refuse some of them first
    with pytest.raises(InputError, match=message):
        DepthMapper(cfg, True)


@pytest.mark.parametrize("name", ["CUT_DEPTH", "GAMMA", "HSV", "BRIGHTNESS_CONTRAST"])
@pytest.mark.parametrize("probability", [-0.1, 1.5])
def test_impossible_probabilities_are_refused(name: str, probability: float) -> None:
    cfg = tiny_cfg(RECIPE)
    cfg.merge_from_list([f"{AUG}{name}_PROB", probability])
    with pytest.raises(InputError, match=f"probability is {probability}"):
        DepthMapper(cfg, True)


def test_a_later_start_gives_the_same_samples(
    sample: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(
        DatasetCatalog.data, "nyu_depth_v2_train", lambda: [dict(sample) for _ in range(3)]
    )
    cfg = tiny_cfg(
        RECIPE
        | {
            "DATASETS.TRAIN": ("nyu_depth_v2_train",),
            "DATALOADER.NUM_WORKERS": 0,
            "SOLVER.IMS_PER_BATCH": 2,
        }
    )

    def batches(start: int, count: int) -> list[dict]:
        loader = build_train_loader(cfg, DepthMapper(cfg), seed=3, start_iter=start)
        return [item for batch in islice(loader, count) for item in batch]

    whole, tail = batches(0, 6), batches(4, 2)
    for a, b in zip(whole[8:], tail, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["depth"], b["depth"])
    assert not torch.equal(whole[0]["image"], whole[6]["image"])


def test_a_real_pair_passes(real_data: Path) -> None:
    (item,) = load_nyu_depth_v2(str(real_data / "nyu_depth_v2"), "train")
    result = mapper(RECIPE | {"INPUT.CROP.SIZE": [96, 128]})(item)
    assert result["image"].shape[1:] == result["depth"].shape == (96, 128)
    valid = result["depth"][result["depth"] > 0]
    assert valid.numel() > 1000
    assert valid.min() > 0.3 and valid.max() < 10.5


def test_a_frame_in_kittis_layout_passes_from_list_to_tensor(tmp_path: Path) -> None:
    write_pair(tmp_path / "a/b/image_02/data/1.png", tmp_path / "depth/1.png", HEIGHT, WIDTH)
    (tmp_path / "test_list.txt").write_text("/a/b/image_02/data/1.png /depth/1.png\n")
    (item,) = load_kitti_eigen(str(tmp_path), "test", kb_crop=False)
    result = mapper(RECIPE)(item)
    assert result["depth"].max() < 2000 / 256
    assert result["image_id"] == "b_1"
