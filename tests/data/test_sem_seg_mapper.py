"""From files to the model's inputs, and what is said of files that don't fit."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import transforms as T
from helpers import write_cityscapes
from PIL import Image

from metaprompt_d2.data import SemSegMapper
from metaprompt_d2.engine import load_config


def recipe(*overrides: object) -> CfgNode:
    sizes = "INPUT.MIN_SIZE_TRAIN (24,) INPUT.MAX_SIZE_TRAIN 48 INPUT.CROP.SIZE [16,16]".split()
    return load_config("metaprompt_d2://cityscapes_seg.yaml", [*sizes, *overrides])


@pytest.fixture
def item(tmp_path: Path) -> dict:
    """The dataset dict of one image of 24x48 pixels."""
    write_cityscapes(tmp_path, num_images=1)
    stem = "town/town_000000_000000"
    return {
        "file_name": str(tmp_path / f"leftImg8bit/{stem}_leftImg8bit.png"),
        "sem_seg_file_name": str(tmp_path / f"gtFine/{stem}_gtFine_labelTrainIds.png"),
        "height": 24,
        "width": 48,
    }


def test_training_gives_crops_of_image_and_labels(item: dict) -> None:
    mapped = SemSegMapper(recipe(), is_train=True)(item)
    assert mapped["image"].shape == (3, 16, 16)
    assert mapped["sem_seg"].shape == (16, 16)
    assert mapped["sem_seg"].dtype == torch.int64
    assert set(mapped["sem_seg"].unique().tolist()) <= {0, 13, 255}


def test_labels_stay_in_step_with_the_image(item: dict) -> None:
    labels = np.asarray(Image.open(item["sem_seg_file_name"]))
    cv2.imwrite(item["file_name"], np.repeat(labels[..., None], 3, axis=2))
    cfg = recipe("INPUT.COLOR_AUG_SSD", False, "INPUT.SCALE_RANGE", (1.0, 1.0))
    mapper = SemSegMapper(cfg, is_train=True)
    flipped = set()
    for _ in range(20):
        mapped = mapper(item)
        assert torch.equal(mapped["image"][0].long(), mapped["sem_seg"])
        flipped.add(bool(mapped["sem_seg"][1, 0] == 13))
    assert flipped == {True, False}  # road is left of the car, or right of it


def test_small_images_are_padded_to_the_crop_with_the_mean_and_ignored_labels(item: dict) -> None:
    cfg = recipe("INPUT.CROP.SIZE", [64, 64], "INPUT.SCALE_RANGE", (1.0, 1.0))
    mapped = SemSegMapper(cfg, is_train=True)(item)
    assert mapped["image"].shape == (3, 64, 64)
    assert (mapped["image"][:, 24:] == 127.5).all()
    assert (mapped["sem_seg"][24:] == 255).all()


def test_color_distortion_changes_the_image_only(item: dict) -> None:
    still = ["INPUT.SCALE_RANGE", (1.0, 1.0), "INPUT.CROP.ENABLED", False]
    still += ["INPUT.RANDOM_FLIP", "none"]
    plain = SemSegMapper(recipe("INPUT.COLOR_AUG_SSD", False, *still), is_train=True)(item)
    distorted = [SemSegMapper(recipe(*still), is_train=True)(item) for _ in range(8)]
    assert any(not torch.equal(mapped["image"], plain["image"]) for mapped in distorted)
    assert all(torch.equal(mapped["sem_seg"], plain["sem_seg"]) for mapped in distorted)


def test_evaluation_resizes_and_leaves_labels_unread(item: dict) -> None:
    Path(item["sem_seg_file_name"]).unlink()
    cfg = recipe("INPUT.MIN_SIZE_TEST", 12, "INPUT.MAX_SIZE_TEST", 24)
    mapped = SemSegMapper(cfg, is_train=False)(item)
    assert mapped["image"].shape == (3, 12, 24)
    assert (mapped["height"], mapped["width"]) == (24, 48)
    mapped = SemSegMapper(recipe("INPUT.MIN_SIZE_TEST", 0), is_train=False)(item)
    assert mapped["image"].shape == (3, 24, 48)


def test_palette_labels_are_read_as_their_indices(item: dict) -> None:
    labels = Image.open(item["sem_seg_file_name"])
    palette = Image.fromarray(np.asarray(labels), mode="P")
    palette.putpalette([value % 256 for value in range(7, 7 + 768)])
    palette.save(item["sem_seg_file_name"])
    mapper = SemSegMapper(
        is_train=True, augmentations=[T.NoOpTransform()], num_classes=19, ignore_value=255
    )
    assert torch.equal(mapper(item)["sem_seg"], torch.from_numpy(np.array(labels)).long())


@pytest.mark.parametrize("key", ["file_name", "sem_seg_file_name"])
def test_a_missing_file_is_named(item: dict, key: str) -> None:
    Path(item[key]).unlink()
    with pytest.raises(FileNotFoundError, match=item[key]):
        SemSegMapper(recipe(), is_train=True)(item)


@pytest.mark.parametrize("key", ["file_name", "sem_seg_file_name"])
@pytest.mark.parametrize("kept", [0, 60])
def test_a_damaged_file_is_named(item: dict, key: str, kept: int) -> None:
    file = Path(item[key])
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ValueError, match=f"{file} cannot be read as an image"):
        SemSegMapper(recipe(), is_train=True)(item)


def test_labels_of_another_size_are_refused_with_both_files_and_sizes(item: dict) -> None:
    cv2.imwrite(item["sem_seg_file_name"], np.zeros((24, 40), np.uint8))
    with pytest.raises(ValueError, match="24x40.*24x48") as error:
        SemSegMapper(recipe(), is_train=True)(item)
    assert item["file_name"] in str(error.value)
    assert item["sem_seg_file_name"] in str(error.value)


def test_an_image_of_another_size_than_stated_is_refused(item: dict) -> None:
    with pytest.raises(ValueError, match=item["file_name"]):
        SemSegMapper(recipe(), is_train=True)(item | {"width": 50})


def test_unknown_ids_are_refused_with_the_ids(item: dict) -> None:
    shutil.copy(item["sem_seg_file_name"].replace("TrainIds", "Ids"), item["sem_seg_file_name"])
    with pytest.raises(ValueError, match=r"holds ids \[26\], expected 0\.\.18") as error:
        SemSegMapper(recipe(), is_train=True)(item)
    assert item["sem_seg_file_name"] in str(error.value)


def test_labels_with_colours_are_refused(item: dict) -> None:
    cv2.imwrite(item["sem_seg_file_name"], np.zeros((24, 48, 3), np.uint8))
    with pytest.raises(ValueError, match="has 3 channels"):
        SemSegMapper(recipe(), is_train=True)(item)
