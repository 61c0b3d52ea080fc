"""Which classes of a detector are the categories of a dataset."""

import logging

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import MetadataCatalog

from metaprompt_d2.modeling.detector_classes import find_class_names, match_classes
from metaprompt_d2.utils.errors import InputError

NAMES = ["person", "Cat ", "dog", "cow"]


def detector(architecture: str, **names: object) -> CfgNode:
    cfg = get_cfg()
    cfg.MODEL.META_ARCHITECTURE = architecture
    cfg.DATASETS.update(names)
    return cfg


@pytest.mark.parametrize("architecture", ["GeneralizedRCNN", "RetinaNet", "PanopticFPN"])
def test_names_are_those_of_the_detectors_datasets(architecture: str) -> None:
    cfg = detector(architecture, TRAIN=("gone",), TEST=("coco_2017_val",))
    names = find_class_names(cfg)
    assert (names[0], names[16], len(names)) == ("person", "dog", 80)
    assert "gone" not in MetadataCatalog.list()
    cfg.MODEL.RETINANET.NUM_CLASSES = cfg.MODEL.ROI_HEADS.NUM_CLASSES = 4  # another dataset's
    assert find_class_names(cfg) is None
    assert find_class_names(detector(architecture)) is None


def test_categories_are_classes_of_the_same_name(caplog: pytest.LogCaptureFixture) -> None:
    assert match_classes(["DOG", "cat"], NAMES) == {2: 0, 1: 1}
    assert match_classes(["cow"], NAMES) == {3: 0}
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        assert match_classes(["gnu", "dog", "elk"], NAMES) == {2: 1}
    assert "has no class 'gnu', 'elk', so these aren't found" in caplog.text


def test_classes_are_given_by_name_or_index() -> None:
    assert match_classes(["gnu", "wolf"], NAMES, classes=("cow", 2)) == {3: 0, 2: 1}
    assert match_classes(["gnu", "wolf"], None, classes=(5, 0)) == {5: 0, 0: 1}


def test_the_index_of_a_single_category() -> None:
    assert match_classes(["gnu"], None) == {0: 0}
    assert match_classes(["gnu"], None, person_class=7) == {7: 0}
    assert match_classes(["person"], NAMES, person_class=3) == {3: 0}
    assert match_classes(["person"], NAMES, person_class=3, classes=("dog",)) == {2: 0}


@pytest.mark.parametrize(
    ("categories", "names", "keys", "message"),
    [
        (["gnu", "elk"], NAMES, {}, r"finds \['person', .*, none of .* \['gnu', 'elk'\]: give"),
        (["cat", "dog"], None, {}, r"names of the classes .* aren't known.*\['cat', 'dog'\]"),
        (["cat", "dog"], NAMES, {"classes": ("cat",)}, r"CLASSES are \['cat'\], expected a class"),
        (["cat"], NAMES, {"classes": ("gnu",)}, r"CLASSES: 'gnu' isn't .* one of \['person'"),
        (["cat"], None, {"classes": ("cat",)}, "CLASSES: 'cat' isn't .* expected an index"),
        (["cat"], NAMES, {"classes": (4,)}, r"CLASSES: 4 isn't a class"),
        (["cat"], None, {"person_class": -1}, r"PERSON_CLASS: -1 isn't a class"),
        (["cat", "dog"], NAMES, {"classes": ("cow", 3)}, r"CLASSES \[3, 3\]: a class stands for"),
    ],
)
def test_what_cannot_be_matched_is_refused(
    categories: list[str], names: list[str] | None, keys: dict, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        match_classes(categories, names, **keys)
