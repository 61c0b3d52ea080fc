"""`PoseMapper` and its augmentations: crops, keypoints in them, heatmaps, who is selected."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from pose_files import PEOPLE, detection, person, registered_people, smallest_pose_cfg, write_people

from metaprompt_d2.codecs import KeypointSchema, crop_matrix, transform_points
from metaprompt_d2.data import (
    HalfBody,
    JitterCenter,
    MirrorPerson,
    PersonView,
    PoseMapper,
    ScaleAndRotate,
    find_keypoint_schema,
)
from metaprompt_d2.data.datasets.keypoints import load_annotated_people

SCHEMA = find_keypoint_schema("mini_coco_person_topdown_val")


def view(num_visible: int = 17) -> PersonView:
    random = np.random.default_rng(0)
    return PersonView(
        keypoints=random.uniform(20, 70, (17, 2)),
        visible=np.arange(17) < num_visible,
        box_size=np.array([30.0, 60.0]),
        center=np.array([45.0, 45.0]),
        extent=np.array([60.0, 80.0]),
    )


def drawn(augmentation: Callable, count: int = 2000, **arguments) -> list[PersonView]:
    return [augmentation(view(**arguments), 100) for _ in range(count)]


def people_of(root: Path, annotations: list[dict]) -> list[dict]:
    return load_annotated_people(str(write_people(root, annotations)), str(root), **PEOPLE)


def decoded(mapped: dict, mapper: PoseMapper) -> np.ndarray:
    """Keypoints of the heatmaps in the file's pixels; of crops without rotation."""
    keypoints, _ = mapper.codec.decode(mapped["heatmaps"][None])
    matrix = crop_matrix(
        mapped["crop_center"].numpy(), mapped["crop_extent"].numpy(), mapper.codec.crop_size
    )
    return transform_points(keypoints[0].double().numpy(), cv2.invertAffineTransform(matrix))


def test_the_center_is_shifted_with_its_probability_within_its_range() -> None:
    shifts = np.array([item.center for item in drawn(JitterCenter(0.3, 0.4))]) - 45
    moved = shifts.any(axis=1)
    assert moved.mean() == pytest.approx(0.3, abs=0.04)
    assert (np.abs(shifts) <= (6, 12)).all()
    assert np.abs(shifts).max(axis=0) == pytest.approx([6, 12], rel=0.05)


def test_the_mirror_swaps_keypoints_and_moves_the_center() -> None:
    results = drawn(MirrorPerson(SCHEMA), count=400)
    mirrored = [item for item in results if item.mirrored]
    assert len(mirrored) / 400 == pytest.approx(0.5, abs=0.08)
    original = view()
    np.testing.assert_allclose(mirrored[0].keypoints[1], [99, 0] + original.keypoints[2] * [-1, 1])
    np.testing.assert_allclose(mirrored[0].center, [54, 45])
    assert (mirrored[0].visible == original.visible[list(SCHEMA.flip_indices)]).all()


def test_half_bodies_come_with_their_probabilities() -> None:
    augmentation = HalfBody(SCHEMA, 0.3)
    centers = np.array([item.center for item in drawn(augmentation)])
    keypoints = view().keypoints
    upper, lower = (
        np.isclose(centers, part.mean(axis=0)).all(axis=1)
        for part in (keypoints[:11], keypoints[11:])
    )
    assert (upper | lower).mean() == pytest.approx(0.3, abs=0.04)
    assert upper.sum() / (upper | lower).sum() == pytest.approx(0.69, abs=0.07)
    assert all((item.center == 45).all() for item in drawn(augmentation, 100, num_visible=8))


def test_a_half_bodys_crop_keeps_the_aspect_and_holds_its_keypoints() -> None:
    item = HalfBody(SCHEMA, 1.0, upper_probability=1.0)(view(), 100)
    assert item.extent[0] / item.extent[1] == pytest.approx(0.75)
    low, high = view().keypoints[:11].min(axis=0), view().keypoints[:11].max(axis=0)
    assert (item.extent >= (high - low) * 1.5 - 1e-9).all()


def test_the_mirror_and_half_bodies_take_a_whole_bodys_133_keypoints() -> None:
    pairs = [(f"left_{number}", f"right_{number}") for number in range(66)]
    names = ("nose", *(name for pair in pairs for name in pair))
    schema = KeypointSchema(names, tuple(pairs), upper_body=names[:91])
    points = np.random.default_rng(0).uniform(20, 70, (133, 2))
    whole = replace(view(), keypoints=points, visible=np.arange(133) != 1)
    mirror = MirrorPerson(schema)
    item = next(item for item in (mirror(whole, 100) for _ in range(99)) if item.mirrored)
    partners = [0, *(place + (1 if place % 2 else -1) for place in range(1, 133))]
    np.testing.assert_allclose(item.keypoints, [99, 0] + points[partners] * [-1, 1])
    assert np.flatnonzero(~item.visible).tolist() == [2]
    for probability, half in ((1.0, points[[0, *range(2, 91)]]), (0.0, points[91:])):
        item = HalfBody(schema, 1.0, upper_probability=probability)(whole, 100)
        np.testing.assert_allclose(item.center, half.mean(axis=0))


def test_scale_and_rotation_are_clipped_normals() -> None:
    results = drawn(ScaleAndRotate(0.5, 40.0, 0.6))
    factors = np.array([item.extent[0] / 60 for item in results])
    rotations = np.array([item.rotation for item in results])
    assert (factors.min(), factors.max()) == pytest.approx((0.5, 1.5))
    assert (rotations.min(), rotations.max()) == pytest.approx((-80, 80), abs=8)
    assert (rotations != 0).mean() == pytest.approx(0.6, abs=0.04)
    assert np.std(rotations[rotations != 0]) == pytest.approx(38, abs=3)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: JitterCenter(2, 1), "probability is 2"),
        (lambda: HalfBody(SCHEMA, -1), "probability is -1"),
        (lambda: ScaleAndRotate(1.0, 1, 0), "scale is 1.0"),
        (lambda: ScaleAndRotate(0.1, 1, 7), "rotation_probability is 7"),
    ],
)
def test_augmentations_that_mean_nothing_are_refused(build: Callable, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()


def test_a_test_crop_is_warped_by_the_affine_and_has_no_heatmaps(tmp_path: Path) -> None:
    (item,) = people_of(tmp_path, [person(1)])
    mapped = PoseMapper(smallest_pose_cfg(), is_train=False)(item)
    assert mapped["image"].shape == (3, 64, 48)
    assert "heatmaps" not in mapped
    image = cv2.imread(item["file_name"])[..., ::-1]
    np.testing.assert_allclose(mapped["crop_center"], [24.5, 39.5])
    np.testing.assert_allclose(mapped["crop_extent"], [59 * 0.75 * 1.25, 59 * 1.25])
    matrix = crop_matrix([24.5, 39.5], [59 * 0.75 * 1.25, 59 * 1.25], (64, 48))
    expected = cv2.warpAffine(np.ascontiguousarray(image), matrix, (48, 64))
    np.testing.assert_array_equal(mapped["image"].permute(1, 2, 0), expected)


def test_heatmaps_stand_where_the_keypoints_are(tmp_path: Path) -> None:
    (item,) = people_of(tmp_path, [person(1)])
    cfg = smallest_pose_cfg(
        {
            "INPUT.RANDOM_FLIP": "none",
            "INPUT.PERSON_CROP.SIZE": (256, 192),
            "INPUT.POSE_AUG.HALF_BODY_PROB": 0.0,
            "INPUT.POSE_AUG.SCALE": 0.0,
            "INPUT.POSE_AUG.ROTATION_PROB": 0.0,
            "INPUT.POSE_AUG.CENTER_JITTER_PROB": 0.0,
        }
    )
    mapper = PoseMapper(cfg, is_train=True)
    mapped = mapper(item)
    truth = np.reshape(item["annotations"][0]["keypoints"], (17, 3))[:, :2]
    pixel = mapped["crop_extent"].numpy() / (191, 255)
    assert (np.abs(decoded(mapped, mapper) - truth) < 0.5 * pixel).all()
    assert mapped["keypoint_weights"].tolist() == [1] * 17


@pytest.mark.parametrize("size", [(256, 192), (384, 288)])
def test_real_keypoints_come_back_within_half_a_pixel_of_the_crop(
    real_data: Path, size: tuple
) -> None:
    folder = real_data / "coco"
    json_file = folder / "annotations/person_keypoints_val2017.json"
    cfg = smallest_pose_cfg({"INPUT.PERSON_CROP.SIZE": size, "INPUT.RANDOM_FLIP": "none"})
    mapper = PoseMapper(cfg, is_train=True)
    mapper.augmentations = []
    for item in load_annotated_people(str(json_file), str(folder / "val2017"), **PEOPLE):
        mapped = mapper(item)
        truth = np.reshape(item["annotations"][0]["keypoints"], (17, 3))
        seen = truth[:, 2] > 0
        assert (mapped["keypoint_weights"].numpy() == seen).all()
        pixel = mapped["crop_extent"].numpy() / (size[1] - 1, size[0] - 1)
        distance = np.abs(decoded(mapped, mapper) - truth[:, :2])[seen]
        assert (distance < 0.5 * pixel).all()


def test_keypoints_follow_the_image_under_every_augmentation(tmp_path: Path) -> None:
    """A white dot at a keypoint lies where the keypoint's heatmap has its maximum."""
    annotation = person(1)
    (item,) = people_of(tmp_path, [annotation])
    image = np.zeros((80, 100, 3), np.uint8)
    keypoint = np.array([30, 45])
    cv2.circle(image, keypoint.tolist(), 1, (255, 255, 255), -1)
    item["file_name"] = str(tmp_path / "dot.png")
    cv2.imwrite(item["file_name"], image)
    item["annotations"][0]["keypoints"] = [*keypoint.tolist(), 2] * 17
    mapper = PoseMapper(smallest_pose_cfg({"INPUT.PERSON_CROP.SIZE": (128, 96)}), is_train=True)
    compared = 0
    for _ in range(40):
        mapped = mapper(item)
        crop = mapped["image"][0].double()
        points, _ = mapper.codec.decode(mapped["heatmaps"][None])
        inside = ((points[0, 0] > 15) & (points[0, 0] < torch.tensor([80, 112]))).all()
        if inside:
            rows, columns = torch.meshgrid(torch.arange(128), torch.arange(96), indexing="ij")
            dot = torch.stack([(crop * columns).sum(), (crop * rows).sum()]) / crop.sum()
            torch.testing.assert_close(points[0, 0].double(), dot, atol=0.6, rtol=0)
            compared += 1
    assert compared > 20


def test_a_person_with_another_number_of_keypoints_is_named(tmp_path: Path) -> None:
    (item,) = people_of(tmp_path, [person(5)])
    item["annotations"][0]["keypoints"] = [1] * 45
    with pytest.raises(ValueError, match=r"person 5 of .*jpg has 15 keypoints, expected 17"):
        PoseMapper(smallest_pose_cfg(), is_train=True)(item)


def test_scores_and_overlaps_select_people(tmp_path: Path) -> None:
    shifted = [12.0, 10.0, 30.0, 60.0]
    found = [detection(1, 0.5), detection(1, 0.9, bbox=shifted), detection(2, 0.4), detection(2, 0)]
    json_file = write_people(tmp_path, [])
    (tmp_path / "found.json").write_text(json.dumps(found))
    with registered_people(json_file, tmp_path / "found.json") as name:
        people = DatasetCatalog.get(name)

    def selected(**options: float) -> list[int]:
        overrides = {f"TEST.POSE.{key}": value for key, value in options.items()}
        mapper = PoseMapper(smallest_pose_cfg(overrides), is_train=False)
        return [item["person_id"] for item in mapper.select(people)]

    assert selected() == [0, 1, 2, 3]
    assert selected(BOX_SCORE_THRESH=0.45) == [0, 1]
    assert selected(BOX_NMS_THRESH=0.5) == [1, 2]
    assert selected(BOX_NMS_THRESH=0.5, BOX_SCORE_THRESH=0.45) == [1]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"INPUT.PERSON_CROP.SIZE": (66, 48)}, "PERSON_CROP.SIZE is"),
        ({"INPUT.RANDOM_FLIP": "vertical"}, "RANDOM_FLIP is 'vertical'"),
        ({"TEST.POSE.PEOPLE_PER_BATCH": 0}, "PEOPLE_PER_BATCH is 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(overrides: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PoseMapper(smallest_pose_cfg(overrides), is_train=True)
