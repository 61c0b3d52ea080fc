"""`register_panoptic`: dicts and metadata in Detectron2's layout, and errors that name ids."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog

from metaprompt_d2.data import load_dataset_dicts, register_panoptic
from metaprompt_d2.utils.errors import InputError

NAME = "test_panoptic"
CATEGORIES = [
    {"id": 9, "name": "road", "isthing": 0, "color": [1, 2, 3]},
    {"id": 4, "name": "car", "isthing": 1, "color": [4, 5, 6]},
    {"id": 7, "name": "sky", "isthing": 0, "color": [7, 8, 9]},
]


def content() -> dict[str, Any]:
    segments = [{"id": 300, "category_id": 4, "iscrowd": 0}, {"id": 2, "category_id": 7}]
    return {
        "images": [{"id": "a", "file_name": "here/a.jpeg", "height": 4, "width": 6}],
        "annotations": [{"image_id": "a", "file_name": "a.png", "segments_info": segments}],
        "categories": CATEGORIES,
    }


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    for folder in ("images/here", "panoptic", "labels"):
        (tmp_path / folder).mkdir(parents=True)
    pixels = np.zeros((4, 6, 3), np.uint8)
    cv2.imwrite(str(tmp_path / "images/here/a.jpeg"), pixels)
    cv2.imwrite(str(tmp_path / "panoptic/a.png"), pixels)
    cv2.imwrite(str(tmp_path / "labels/a_labels.png"), pixels[..., 0])
    (tmp_path / "panoptic.json").write_text(json.dumps(content()))
    yield tmp_path
    if NAME in DatasetCatalog.list():
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def register(root: Path, **options: Any) -> None:
    paths = (str(root / name) for name in ("panoptic.json", "panoptic", "images"))
    register_panoptic(NAME, *paths, **options)


def test_dicts_are_in_detectron2s_layout(root: Path) -> None:
    register(
        root,
        sem_seg_root=str(root / "labels"),
        sem_seg_name=lambda name: name.replace(".png", "_labels.png"),
    )
    assert load_dataset_dicts(NAME) == [
        {
            "file_name": str(root / "images/here/a.jpeg"),
            "image_id": "a",
            "height": 4,
            "width": 6,
            "pan_seg_file_name": str(root / "panoptic/a.png"),
            "sem_seg_file_name": str(root / "labels/a_labels.png"),
            "segments_info": [
                {"id": 300, "category_id": 1, "iscrowd": 0, "isthing": True},
                {"id": 2, "category_id": 2, "isthing": False},
            ],
        }
    ]


def test_metadata_follow_detectron2s_convention(root: Path) -> None:
    register(root, instances_json="instances.json", evaluator_type="mine")
    metadata = MetadataCatalog.get(NAME)
    assert metadata.thing_classes == metadata.stuff_classes == ["road", "car", "sky"]
    assert metadata.stuff_colors == [(1, 2, 3), (4, 5, 6), (7, 8, 9)]
    assert metadata.thing_dataset_id_to_contiguous_id == {4: 1}
    assert metadata.stuff_dataset_id_to_contiguous_id == {9: 0, 4: 1, 7: 2}
    assert (metadata.ignore_label, metadata.label_divisor) == (255, 1000)
    assert metadata.panoptic_json == str(root / "panoptic.json")
    assert metadata.panoptic_root == str(root / "panoptic")
    assert (metadata.json_file, metadata.evaluator_type) == ("instances.json", "mine")


def test_given_categories_need_no_file_when_registered(root: Path) -> None:
    (root / "panoptic.json").unlink()
    register(root, categories=CATEGORIES[:2])
    assert MetadataCatalog.get(NAME).thing_classes == ["road", "car"]
    with pytest.raises(InputError, match=r"panoptic\.json does not exist"):
        load_dataset_dicts(NAME)


def test_bad_registrations_are_explained(root: Path) -> None:
    cases: list[tuple[list[dict], str]] = [
        ([{"id": 1, "name": "road"}], "one has no: isthing"),
        ([], "has no categories"),
        ([CATEGORIES[0], CATEGORIES[1] | {"id": 9}], "two of them have the same id"),
    ]
    for categories, message in cases:
        with pytest.raises(InputError, match=message):
            register(root, categories=categories)
    (root / "panoptic.json").write_text("[]")
    with pytest.raises(InputError, match=r"panoptic\.json has no list 'categories'"):
        register(root)
    register(root, categories=CATEGORIES)
    with pytest.raises(InputError, match="registered already"):
        register(root, categories=CATEGORIES)


SEGMENT = {"id": 300, "category_id": 4}
NOTE = {"image_id": "a", "file_name": "a.png", "segments_info": [SEGMENT]}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"annotations": []}, "has no annotations"),
        ({"images": 3}, "has no list 'images'"),
        (
            {"annotations": [NOTE | {"image_id": "b"}]},
            "the annotation a.png has the image_id 'b', which its images don't list",
        ),
        (
            {"annotations": [{"image_id": "a", "file_name": "a.png"}]},
            "number 0 of its annotations has no segments_info",
        ),
        (
            {"annotations": [NOTE | {"segments_info": [SEGMENT | {"category_id": 5}]}]},
            "segment 300 of a.png has the category_id 5, expected one of [4, 7, 9]",
        ),
        (
            {"annotations": [NOTE | {"segments_info": [{"id": 300}]}]},
            "a segment of a.png is {'id': 300}, expected an id and a category_id",
        ),
    ],
)
def test_files_that_do_not_fit_are_explained(root: Path, changed: dict, message: str) -> None:
    register(root)
    (root / "panoptic.json").write_text(json.dumps(content() | changed))
    with pytest.raises(InputError) as caught:
        load_dataset_dicts(NAME)
    assert str(caught.value).startswith(str(root / "panoptic.json"))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("file", ["images/here/a.jpeg", "panoptic/a.png"])
def test_missing_files_are_named(root: Path, file: str) -> None:
    register(root)
    (root / file).unlink()
    with pytest.raises(InputError, match=Path(file).name) as caught:
        load_dataset_dicts(NAME)
    assert "does not exist" in str(caught.value)


def test_names_that_mask2formers_code_registers_are_left_to_it() -> None:
    """In a process with both, the second to register a name would fail."""
    theirs = {
        f"ade20k_{kind}_{split}"
        for kind in ("full_sem_seg", "instance", "panoptic")
        for split in ("train", "val")
    }
    theirs |= {
        f"mapillary_vistas_{kind}_{split}"
        for kind in ("sem_seg", "panoptic")
        for split in ("train", "val")
    }
    theirs |= {f"coco_2017_{split}_panoptic_with_sem_seg" for split in ("train", "val")}
    theirs |= {f"coco_2017_{split}_stuff_10k_sem_seg" for split in ("train", "test")}
    assert not theirs & set(DatasetCatalog.list())


def test_ade20k_has_100_things() -> None:
    for split in ("train", "val"):
        metadata = MetadataCatalog.get(f"ade20k_panoptic_seg_{split}")
        assert metadata.stuff_classes == MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
        things = metadata.thing_dataset_id_to_contiguous_id
        assert len(things) == 100 and len(metadata.stuff_dataset_id_to_contiguous_id) == 150
        names = {metadata.thing_classes[index] for index in things.values()}
        assert {"bed", "person", "car", "flag", "clock"} <= names
        assert not names & {"wall", "sky", "tower", "shower", "crt screen"}
