"""`KeypointSchema`: what it derives, where it comes from, and what contradicts itself."""

import numpy as np
import pytest

from metaprompt_d2.codecs import DEFAULT_SIGMA, KeypointSchema
from metaprompt_d2.utils.errors import InputError

NAMES = ("beak", "left_wing", "right_wing", "tail")


def test_a_mirror_image_swaps_the_pairs_and_nothing_else() -> None:
    schema = KeypointSchema(NAMES, flip_pairs=(("left_wing", "right_wing"),))
    assert schema.flip_indices == (0, 2, 1, 3)
    assert KeypointSchema(NAMES, flip_pairs=()).flip_indices == (0, 1, 2, 3)
    with pytest.raises(InputError, match="flip_pairs are None"):
        _ = KeypointSchema(NAMES).flip_indices


def test_sigmas_that_are_not_known_are_equal() -> None:
    np.testing.assert_array_equal(KeypointSchema(NAMES).oks_sigmas, [DEFAULT_SIGMA] * 4)
    known = KeypointSchema(NAMES, sigmas=(0.1, 0.2, 0.3, 0.4)).oks_sigmas
    np.testing.assert_array_equal(known, [0.1, 0.2, 0.3, 0.4])


def test_metadata_is_read_in_detectron2s_terms() -> None:
    metadata = {
        "keypoint_names": list(NAMES),
        "keypoint_flip_map": [["left_wing", "right_wing"]],
        "keypoint_connection_rules": [("beak", "tail", [255, 0, 0])],
        "keypoint_oks_sigmas": [0.1] * 4,
        "keypoint_upper_body": ["beak"],
    }
    schema = KeypointSchema.from_metadata(metadata)
    assert schema == KeypointSchema(
        NAMES,
        flip_pairs=(("left_wing", "right_wing"),),
        sigmas=(0.1,) * 4,
        connections=(("beak", "tail", (255, 0, 0)),),
        upper_body=("beak",),
    )
    assert schema.in_upper_body.tolist() == [True, False, False, False]
    assert KeypointSchema.from_metadata({"keypoint_names": NAMES}) == KeypointSchema(NAMES)


def test_parts_follow_each_other() -> None:
    metadata = {"keypoint_names": NAMES, "keypoint_parts": [["head", 1], ["body", 3]]}
    schema = KeypointSchema.from_metadata(metadata)
    assert schema.part_slices == {"head": slice(0, 1), "body": slice(1, 4)}
    assert KeypointSchema(NAMES).part_slices == {}


def test_a_category_of_coco_counts_from_one() -> None:
    category = {"keypoints": list(NAMES), "skeleton": [[1, 2], [1, 3], [1, 4]]}
    schema = KeypointSchema.from_category(category)
    ends = [(start, end) for start, end, _ in schema.connections]
    assert ends == [("beak", "left_wing"), ("beak", "right_wing"), ("beak", "tail")]
    assert len({color for *_, color in schema.connections}) == 3
    assert (schema.flip_pairs, schema.sigmas) == (None, None)
    assert KeypointSchema.from_category({"keypoints": ["tip"]}) == KeypointSchema(("tip",))


@pytest.mark.parametrize("pair", [[0, 1], [1, 5], [1], ["beak", "tail"], 3])
def test_a_skeleton_of_other_keypoints_is_refused(pair: object) -> None:
    with pytest.raises(InputError, match=r"skeleton: .*, expected 2 numbers from 1 to 4"):
        KeypointSchema.from_category({"keypoints": list(NAMES), "skeleton": [pair]})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"names": ()}, "names are empty"),
        ({"names": ("tip", "tip")}, "names: 'tip' is there 2 times"),
        ({"flip_pairs": (("beak", "foot"),)}, "flip_pairs: 'foot' isn't a keypoint of"),
        ({"flip_pairs": (("beak",),)}, "flip_pairs are .*, expected pairs"),
        ({"flip_pairs": (("beak", "tail"), ("tail", "beak"))}, "flip_pairs: 'beak' is there 2"),
        ({"flip_pairs": (("tail", "tail"),)}, "flip_pairs: 'tail' is there 2 times"),
        ({"sigmas": (0.1, 0.1)}, "sigmas are 2 numbers, expected 4"),
        ({"sigmas": (0.1, 0.1, 0.1, 0.0)}, "sigmas are .*, expected finite numbers above 0"),
        ({"sigmas": (0.1, 0.1, 0.1, float("nan"))}, "sigmas are .*, expected finite numbers"),
        ({"connections": (("beak", "foot", (0, 0, 0)),)}, "connections: 'foot' isn't a keypoint"),
        ({"connections": (("beak", "tail", (0, 0, 300)),)}, "connections: .*isn't a color"),
        ({"upper_body": ("foot",)}, "upper_body: 'foot' isn't a keypoint"),
        ({"parts": (("head", 1), ("body", 2))}, "parts are .*, expected 4 keypoints together"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        KeypointSchema(**({"names": NAMES} | arguments))
