"""`UniversalMapper`: one mask for each segment, in step with the image; errors that name files."""

import logging
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from helpers import tiny_cfg
from pycocotools import mask as rle

from metaprompt_d2.data import MAPPERS_OF_TASKS, UniversalMapper
from metaprompt_d2.utils.errors import InputError

HEIGHT, WIDTH = 48, 96
CLASSES = [3, 3, 7, 0]  # of the segments
IDS = [5, 70_000, 256, 1_000_000]  # which take one to three channels
VOID_ROWS = 6
PLAIN = {
    "INPUT.MIN_SIZE_TRAIN": (HEIGHT,),
    "INPUT.MAX_SIZE_TRAIN": WIDTH,
    "INPUT.SCALE_RANGE": (1.0, 1.0),
    "INPUT.CROP.ENABLED": False,
    "INPUT.RANDOM_FLIP": "none",
    "INPUT.COLOR_AUG_SSD": False,
}
CROP = {"INPUT.CROP.ENABLED": True, "INPUT.CROP.SIZE": [32, 40]}


def numbered() -> np.ndarray:
    """(H, W) number of the segment of each pixel, in blocks; -1 in the last rows."""
    numbers = np.random.default_rng(0).integers(0, 4, (HEIGHT // 8, WIDTH // 8), np.int32)
    numbers = numbers.repeat(8, axis=0).repeat(8, axis=1)
    numbers[-VOID_ROWS:] = -1
    return numbers


def write_ids(file: Path, ids: np.ndarray) -> str:
    channels = [ids // 65536, ids // 256 % 256, ids % 256]  # OpenCV's order: blue first
    cv2.imwrite(str(file), np.stack(channels, axis=-1).astype(np.uint8))
    return str(file)


def segments(crowd: int | None = None) -> list[dict]:
    pairs = zip(IDS, CLASSES, strict=True)
    return [
        {"id": key, "category_id": label, "iscrowd": int(number == crowd)}
        for number, (key, label) in enumerate(pairs)
    ]


@pytest.fixture(scope="module")
def sample(tmp_path_factory: pytest.TempPathFactory) -> dict:
    """An image whose blue channel is 50 times the number of the segment plus one."""
    folder, numbers = tmp_path_factory.mktemp("sample"), numbered()
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[..., 0] = 50 * (numbers + 1)
    cv2.imwrite(str(folder / "image.png"), image)
    return {
        "file_name": str(folder / "image.png"),
        "pan_seg_file_name": write_ids(folder / "panoptic.png", np.array([*IDS, 0])[numbers]),
        "segments_info": segments(),
        "height": HEIGHT,
        "width": WIDTH,
    }


@pytest.fixture
def labeled(sample: dict, tmp_path: Path) -> dict:
    """The image with a label map instead."""
    labels = np.array([*CLASSES, 255], np.uint8)[numbered()]
    cv2.imwrite(str(tmp_path / "labels.png"), labels)
    return {
        "file_name": sample["file_name"],
        "sem_seg_file_name": str(tmp_path / "labels.png"),
    }


def mapper(overrides: dict[str, Any] | None = None, *, is_train: bool = True) -> UniversalMapper:
    return UniversalMapper(tiny_cfg(PLAIN | (overrides or {})), is_train)


def shown(image: torch.Tensor) -> torch.Tensor:
    """The numbers of segments that the blue channel (last in RGB) shows; -1 for none."""
    return (image[2].float() / 50).round().long() - 1


def test_every_segment_is_a_mask(sample: dict) -> None:
    result = mapper()(sample)
    found = result["instances"]
    assert result["image"].dtype == torch.uint8 and result["image"].shape == (3, HEIGHT, WIDTH)
    assert found.image_size == (HEIGHT, WIDTH)
    assert found.gt_classes.dtype == torch.int64 and found.gt_classes.tolist() == CLASSES
    expected = np.stack([numbered() == number for number in range(4)])
    assert found.gt_masks.tensor.dtype == torch.bool
    assert np.array_equal(found.gt_masks.tensor.numpy(), expected)


def test_it_is_the_mapper_of_its_task() -> None:
    assert MAPPERS_OF_TASKS["universal"] == "UniversalMapper"


def test_the_dataset_dict_is_not_changed(sample: dict) -> None:
    before = dict(sample)
    mapper()(sample)
    assert sample == before


def test_crowds_are_in_no_mask(sample: dict) -> None:
    found = mapper()(sample | {"segments_info": segments(crowd=1)})["instances"]
    assert found.gt_classes.tolist() == [3, 7, 0]
    assert not found.gt_masks.tensor.numpy()[:, numbered() == 1].any()


@pytest.mark.parametrize(
    "overrides",
    [
        CROP,
        {"INPUT.RANDOM_FLIP": "horizontal"},
        CROP | {"INPUT.RANDOM_FLIP": "horizontal", "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.75},
    ],
    ids=["crop", "flip", "crop of several classes and flip"],
)
def test_masks_move_with_the_image(sample: dict, overrides: dict) -> None:
    augmented = mapper(overrides)
    for seed in range(6):
        np.random.seed(seed)
        result = augmented(sample)
        numbers, found = shown(result["image"]), result["instances"]
        there = [number for number in range(4) if (numbers == number).any()]
        assert found.gt_classes.tolist() == [CLASSES[number] for number in there]
        for number, mask in zip(there, found.gt_masks.tensor, strict=True):
            assert torch.equal(mask, numbers == number)


def test_padding_is_in_no_mask(sample: dict) -> None:
    found = mapper(CROP | {"INPUT.SCALE_RANGE": (0.4, 0.4)})(sample)["instances"]
    assert found.image_size == (32, 40)
    assert not found.gt_masks.tensor[:, 19:].any() and not found.gt_masks.tensor[:, :, 38:].any()


def test_crops_look_at_classes_not_segments(tmp_path: Path) -> None:
    # Two segments of one class on the left, another class in the last quarter: as in SemSegMapper.
    numbers = np.zeros((40, 160), np.int32)
    numbers[20:, :] = 1
    numbers[:, 120:] = 2
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((40, 160, 3), np.uint8))
    infos = [{"id": n + 1, "category_id": label} for n, label in enumerate([4, 4, 5])]
    item = {
        "file_name": str(tmp_path / "image.png"),
        "pan_seg_file_name": write_ids(tmp_path / "panoptic.png", numbers + 1),
        "segments_info": infos,
    }
    size = {"INPUT.MIN_SIZE_TRAIN": (40,), "INPUT.MAX_SIZE_TRAIN": 160}
    area = {"INPUT.CROP.SIZE": [40, 40], "INPUT.CROP.SINGLE_CATEGORY_MAX_AREA": 0.75}
    cropping = mapper(CROP | size | area)
    both = 0
    for seed in range(40):
        np.random.seed(seed)
        both += 5 in cropping(item)["instances"].gt_classes.tolist()
    assert both > 27  # 33 expected; 24 if any crop with class 5 were as good as another


def test_an_image_without_segments_has_no_masks(sample: dict, tmp_path: Path) -> None:
    file = write_ids(tmp_path / "void.png", np.zeros((HEIGHT, WIDTH), int))
    found = mapper()(sample | {"pan_seg_file_name": file, "segments_info": []})["instances"]
    assert len(found) == 0 and found.gt_masks.tensor.shape == (0, HEIGHT, WIDTH)
    assert found.gt_classes.dtype == torch.int64


def test_a_label_map_is_one_mask_for_each_class(labeled: dict) -> None:
    found = mapper()(labeled)["instances"]
    assert found.gt_classes.tolist() == [0, 3, 7]
    numbers = numbered()
    expected = [numbers == 3, (numbers == 0) | (numbers == 1), numbers == 2]
    assert np.array_equal(found.gt_masks.tensor.numpy(), np.stack(expected))
    np.random.seed(0)
    found = mapper(CROP | {"INPUT.SCALE_RANGE": (0.4, 0.4)})(labeled)["instances"]
    assert not found.gt_masks.tensor[:, 19:].any()


def annotated(sample: dict) -> dict:
    box = {"bbox": [0, 0, WIDTH, HEIGHT], "bbox_mode": 0}
    polygon = [10.5, 4.0, 60.0, 8.25, 40.0, 41.0]
    mask = rle.encode(np.asfortranarray((numbered() == 2).astype(np.uint8)))
    notes = [
        {"category_id": 3, "segmentation": [polygon, [70, 5, 90, 5, 90, 30]], "iscrowd": 0},
        {"category_id": 7, "segmentation": mask},
        {"category_id": 0, "segmentation": [polygon], "iscrowd": 1},
    ]
    notes = [note | box for note in notes]
    return {
        "file_name": sample["file_name"],
        "annotations": notes,
        "height": HEIGHT,
        "width": WIDTH,
    }


def augmentations_of(cfg: CfgNode) -> list[T.Augmentation]:
    return UniversalMapper(cfg, True).augmentations.augs


@pytest.mark.parametrize("seed", range(3))
def test_annotations_are_those_of_detectron2s_mapper(sample: dict, seed: int) -> None:
    cfg = tiny_cfg(PLAIN | {"INPUT.SCALE_RANGE": (0.5, 1.5), "INPUT.RANDOM_FLIP": "horizontal"})
    item = annotated(sample)
    theirs = DatasetMapper(
        is_train=True,
        augmentations=augmentations_of(cfg),
        image_format="RGB",
        use_instance_mask=True,
        instance_mask_format="bitmask",
    )
    np.random.seed(seed)
    expected = theirs(item)["instances"]
    np.random.seed(seed)
    result = UniversalMapper(cfg, True)(item)
    found = result["instances"]
    assert torch.equal(found.gt_classes, expected.gt_classes)
    assert torch.equal(found.gt_masks.tensor, expected.gt_masks.tensor.bool())
    assert "annotations" not in result and "annotations" in item


def test_polygons_are_cropped_without_shapely(sample: dict) -> None:
    full = mapper()(annotated(sample))["instances"]
    augmentations = T.AugmentationList(augmentations_of(tiny_cfg(PLAIN | CROP)))
    places = set()
    for seed in range(5):
        np.random.seed(seed)
        crop = mapper(CROP)(annotated(sample))
        np.random.seed(seed)
        transforms = augmentations(T.AugInput(np.zeros((HEIGHT, WIDTH, 3), np.uint8))).transforms
        (cut,) = [found for found in transforms if isinstance(found, T.CropTransform)]
        expected = full.gt_masks.tensor[:, cut.y0 : cut.y0 + 32, cut.x0 : cut.x0 + 40]
        expected = expected[expected.flatten(1).any(dim=1)]
        found = crop["instances"].gt_masks.tensor
        assert len(found) == len(expected)
        for mask, other in zip(found.numpy(), expected.numpy(), strict=True):
            # Corners outside of the image are rounded to other fifths of pixels.
            thick = cv2.morphologyEx(other.astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3)))
            assert not (mask != other)[thick == 0].any() and (mask != other).mean() < 0.02
        places.add((cut.x0, cut.y0))
    assert len(places) > 1


def test_large_scale_jitter_is_detectron2s() -> None:
    overrides = {
        "INPUT.MIN_SIZE_TRAIN": (1024,),
        "INPUT.MAX_SIZE_TRAIN": 1024,
        "INPUT.SCALE_RANGE": (0.1, 2.0),
        "INPUT.CROP.ENABLED": True,
        "INPUT.CROP.SIZE": [1024, 1024],
    }
    resize, crop, pad = augmentations_of(tiny_cfg(PLAIN | overrides))
    theirs = T.ResizeScale(0.1, 2.0, 1024, 1024)
    # Only sizes matter: the arrays hold a single pixel.
    image = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (480, 640, 3))
    for seed in range(40):
        np.random.seed(seed)
        transform = resize.get_transform(image)
        new = getattr(transform, "new_size", (480, 640))
        np.random.seed(seed)
        expected = theirs.get_transform(image)
        # Detectron2 rounds once, mmsegmentation the box and then the sides.
        assert np.abs(np.subtract(new, (expected.new_h, expected.new_w))).max() <= 1
        scaled = np.broadcast_to(np.zeros((1, 1, 3), np.uint8), (*new, 3))
        cut = crop.get_transform(scaled, None)
        fixed_crop, _ = T.FixedSizeCrop((1024, 1024)).get_transform(scaled).transforms
        kept = min(new[0], 1024), min(new[1], 1024)
        assert (cut.h, cut.w) == kept
        assert (min(fixed_crop.h, new[0]), min(fixed_crop.w, new[1])) == kept
        assert 0 <= cut.x0 <= new[1] - kept[1] and 0 <= cut.y0 <= new[0] - kept[0]
        padding = pad.get_transform(np.broadcast_to(scaled[:1, :1], (*kept, 3)))
        added = (getattr(padding, "y1", 0), getattr(padding, "x1", 0))
        assert added == (1024 - kept[0], 1024 - kept[1])  # at the bottom and the right


def test_test_time_keeps_the_size_and_needs_no_ground_truth(sample: dict) -> None:
    item = {"file_name": sample["file_name"], "height": HEIGHT, "width": WIDTH}
    result = mapper({"INPUT.MIN_SIZE_TEST": 0}, is_train=False)(item)
    assert result["image"].shape == (3, HEIGHT, WIDTH) and "instances" not in result


def test_ground_truth_that_does_not_fit_is_refused_by_name(sample: dict, tmp_path: Path) -> None:
    ids = np.array([*IDS, 0])[numbered()]
    small = write_ids(tmp_path / "small.png", ids[:, 1:])
    gray = str(tmp_path / "gray.png")
    cv2.imwrite(gray, ids.astype(np.uint8))
    listed = segments()
    without = {key: value for key, value in sample.items() if key != "segments_info"}
    cases = [
        (sample | {"pan_seg_file_name": "nowhere.png"}, r"nowhere\.png does not exist"),
        (sample | {"pan_seg_file_name": small}, r"small\.png is 48x95 .*image\.png is 48x96"),
        (sample | {"pan_seg_file_name": gray}, r"gray\.png has 8 bits, expected 3 channels"),
        (sample | {"segments_info": listed[1:]}, r"panoptic\.png holds the segments \[5\]"),
        (
            sample | {"segments_info": [*listed, {"id": 9, "category_id": 1}]},
            r"panoptic\.png lacks the segments \[9\]",
        ),
        (
            sample | {"segments_info": [listed[0] | {"category_id": 11}, *listed[1:]]},
            r"segment 5 of image .*image\.png has the class 11, expected 0\.\.10",
        ),
        (without, r"panoptic\.png of image .*lacks 'segments_info'"),
        ({"file_name": sample["file_name"]}, r"image\.png has no label map"),
    ]
    for item, message in cases:
        with pytest.raises(InputError, match=message) as caught:
            mapper()(item)
        assert "\n" not in str(caught.value)


def test_annotations_that_do_not_fit_are_refused_by_name(sample: dict) -> None:
    item = annotated(sample)
    mask = rle.encode(np.zeros((4, 4), np.uint8, order="F"))
    cases = [
        ({"category_id": 11}, r"annotation 0 of image .*image\.png has the class 11"),
        ({"category_id": 1}, r"annotation 0 of image .*image\.png has no mask"),
        ({"category_id": 1, "segmentation": [[1, 2, 3, 4]]}, r"polygons of 3 or more corners"),
        ({"category_id": 1, "segmentation": mask}, r"a mask of 4x4 .*its image is 48x96"),
    ]
    for note, message in cases:
        with pytest.raises(InputError, match=message):
            mapper()(item | {"annotations": [note]})


def test_suspicious_training_sets_are_warned_about(
    sample: dict, labeled: dict, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    mapper().inspect([sample, sample | {"segments_info": segments(crowd=0)}])
    assert not caplog.text
    mapper({"MODEL.MASK2FORMER.NUM_OBJECT_QUERIES": 3}).inspect([sample, sample])
    assert "2 of 2 images such as" in caplog.text and "queries (3)" in caplog.text
    caplog.clear()
    mapper().inspect([sample | {"segments_info": segments()[:2]}])
    assert "of the classes [3] only, of 11 classes" in caplog.text
    caplog.clear()
    mapper().inspect([labeled])
    assert not caplog.text
    cv2.imwrite(labeled["sem_seg_file_name"], np.zeros((HEIGHT, WIDTH), np.uint8))
    mapper().inspect([labeled])
    assert "hold only [0]" in caplog.text
