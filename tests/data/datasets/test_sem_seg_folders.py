"""Folder pairs, more Cityscapes, Mapillary with Cityscapes' classes, ADE20K's test images."""

import logging
import uuid
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from cityscapesscripts.helpers.labels import name2label
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from metaprompt_d2.data import load_dataset_dicts, register_sem_seg_folders
from metaprompt_d2.data.datasets.cityscapes_extra import CITYSCAPES_CLASSES
from metaprompt_d2.data.datasets.mapillary import mapillary_to_cityscapes, read_mapillary_labels
from metaprompt_d2.data.datasets.sem_seg_folders import load_sem_seg_folders

SAMPLE = "mapillary/__CRyFzoDOXn6unQ6a3DnQ.png"


def write(folder: Path, *names: str) -> None:
    for name in names:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(file), np.zeros((4, 6), np.uint8))


def names(dicts: list[dict], key: str) -> list[str]:
    return [Path(item[key]).name for item in dicts]


# ------------------------------------------------------------------ folders


def test_files_are_paired_by_their_path_in_all_sub_folders(tmp_path: Path) -> None:
    write(tmp_path / "images", "b.jpg", "a/c.png", "a/b.JPG", ".hidden.png")
    write(tmp_path / "images", "ä d.v2.tif")
    write(tmp_path / "labels", "b.png", "a/c.png", "a/b.PNG", "more.png", "ä d.v2.png")
    dicts = load_sem_seg_folders(tmp_path / "images", tmp_path / "labels")
    assert names(dicts, "file_name") == ["b.JPG", "c.png", "b.jpg", "ä d.v2.tif"]
    assert names(dicts, "sem_seg_file_name") == ["b.PNG", "c.png", "b.png", "ä d.v2.png"]


def test_images_without_a_label_map_are_left_out_by_name(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write(tmp_path / "images", "a.jpg", "b.jpg")
    write(tmp_path / "labels", "b.png")
    with caplog.at_level(logging.WARNING, logger="metaprompt_d2"):
        dicts = load_sem_seg_folders(tmp_path / "images", tmp_path / "labels")
    assert names(dicts, "file_name") == ["b.jpg"]
    assert "1 of 2 images" in caplog.text
    assert "a.jpg" in caplog.text


def test_two_images_of_one_label_map_are_named(tmp_path: Path) -> None:
    write(tmp_path / "images", "a.jpg", "a.png")
    write(tmp_path / "labels", "a.png")
    with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png differ in their ending only"):
        load_sem_seg_folders(tmp_path / "images", tmp_path / "labels")


@pytest.mark.parametrize(
    ("images", "labels", "message"),
    [
        ([], ["a.png"], r"images does not exist"),
        (["a.txt.png"], [], r"labels does not exist"),
        (["a.jpg"], ["b.png"], r"expected, for instance, .*labels/a\.png"),
    ],
    ids=["no images", "no labels", "no pair"],
)
def test_folders_without_a_pair_are_an_error(
    tmp_path: Path, images: list, labels: list, message: str
) -> None:
    write(tmp_path / "images", *images)
    write(tmp_path / "labels", *labels)
    with pytest.raises(FileNotFoundError, match=message):
        load_sem_seg_folders(tmp_path / "images", tmp_path / "labels")


@pytest.fixture
def name() -> Iterator[str]:
    name = f"test_folders_{uuid.uuid4().hex}"
    yield name
    if name in DatasetCatalog.list():
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_one_call_registers_a_dataset(tmp_path: Path, name: str) -> None:
    write(tmp_path / "images", "a.jpg")
    write(tmp_path / "labels", "a.png")
    folders = tmp_path / "images", tmp_path / "labels"
    register_sem_seg_folders(name, *folders, ["sea", "land"], colors=[[0, 0, 9], [0, 9, 0]])
    assert len(load_dataset_dicts(name)) == 1
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == ["sea", "land"]
    assert metadata.stuff_colors == [(0, 0, 9), (0, 9, 0)]
    assert (metadata.evaluator_type, metadata.ignore_label) == ("sem_seg", 255)
    with pytest.raises(ValueError, match="registered already"):
        register_sem_seg_folders(name, *folders, ["sea"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": "sea"}, "expected a list of names"),
        ({"classes": []}, "expected a list of names"),
        ({"classes": ["sea", "sea"]}, "expected a list of names"),
        ({"classes": ["sea", "land"], "ignore_label": 1}, "is the class land"),
        (
            {"classes": ["sea"], "ignore_label": -1},
            r"is -1, expected 1\.\.255, because the classes",
        ),
        ({"classes": ["sea"], "ignore_label": 65535}, r"is 65535, expected \d+\.\.255"),
        ({"classes": [str(n) for n in range(300)]}, r"ignore_label 255 .* is the class 255"),
        ({"classes": ["sea"], "colors": [(1, 2)]}, "one .* color for each class"),
    ],
)
def test_metadata_that_cannot_be_is_refused(name: str, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        register_sem_seg_folders(name, "images", "labels", **arguments)
    assert name not in DatasetCatalog.list()


def test_a_missing_folder_is_reported_with_the_dataset_and_the_readme(name: str) -> None:
    register_sem_seg_folders(name, "no/images", "no/labels", ["sea"])
    with pytest.raises(FileNotFoundError, match=rf"{name}.*no/images.*datasets/README\.md"):
        load_dataset_dicts(name)


# ------------------------------------------------------------------ registered ones


@pytest.mark.parametrize(
    "name",
    [
        "cityscapes_coarse_sem_seg_train_extra",
        "cityscapes_autolabelled_sem_seg_train_extra",
        "mapillary_cityscapes_sem_seg_train",
        "mapillary_cityscapes_sem_seg_val",
    ],
)
def test_extra_datasets_have_the_classes_of_cityscapes(name: str) -> None:
    fine = MetadataCatalog.get("cityscapes_fine_sem_seg_train")
    metadata = MetadataCatalog.get(name)
    assert metadata.stuff_classes == fine.stuff_classes == CITYSCAPES_CLASSES
    assert [tuple(color) for color in fine.stuff_colors] == metadata.stuff_colors
    assert metadata.ignore_label == 255


@pytest.mark.parametrize(
    "name", ["cityscapes_fine_sem_seg_test", "mini_cityscapes_fine_sem_seg_val"]
)
def test_all_of_cityscapes_has_its_official_colors(name: str) -> None:
    assert MetadataCatalog.get(name).stuff_colors[:2] == [(128, 64, 128), (244, 35, 232)]


def test_the_test_images_of_ade20k_have_its_classes_and_no_ground_truth() -> None:
    metadata = MetadataCatalog.get("ade20k_sem_seg_test")
    assert metadata.stuff_classes == MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
    assert not hasattr(metadata, "gt_dir")


# ------------------------------------------------------------------ Mapillary


def test_mapillary_is_mapped_as_published_and_unknown_ids_are_ignored() -> None:
    # docs/method.md
    published = {
        "road": (13, 24, 41),
        "sidewalk": (2, 15),
        "building": (17,),
        "wall": (6,),
        "fence": (3,),
        "pole": (45, 47),
        "traffic light": (48,),
        "traffic sign": (50,),
        "vegetation": (30,),
        "terrain": (29,),
        "sky": (27,),
        "person": (19,),
        "rider": (20, 21, 22),
        "car": (55,),
        "truck": (61,),
        "bus": (54,),
        "train": (58,),
        "motorcycle": (57,),
        "bicycle": (52,),
    }
    expected = np.full(256, 255, np.uint8)
    for name, ids in published.items():
        expected[list(ids)] = name2label[name].trainId
    every_id = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(mapillary_to_cityscapes(every_id), expected.reshape(16, 16))


def test_the_real_sample_is_mapped(real_data: Path) -> None:
    mapped = mapillary_to_cityscapes(read_mapillary_labels(str(real_data / SAMPLE)))
    values, counts = np.unique(mapped, return_counts=True)
    # building, pole, and what has no class
    assert dict(zip(values.tolist(), counts.tolist(), strict=True)) == {2: 9157, 5: 112, 255: 731}


def save(file: Path, labels: np.ndarray, palette: dict[int, tuple] | None = None) -> str:
    image = Image.fromarray(labels)
    if palette is not None:
        colors = np.zeros((256, 3), np.uint8)
        for number, color in palette.items():
            colors[number] = color
        image.putpalette(colors.tobytes())
    image.save(file)
    return str(file)


def test_a_map_of_version_2_is_told_by_its_ids(tmp_path: Path) -> None:
    file = save(tmp_path / "v2.png", np.array([[13, 65, 255, 66, 123]], np.uint8))
    with pytest.raises(
        ValueError, match=r"v2\.png is of Mapillary v2\.0: it holds ids \[66, 123\]"
    ):
        read_mapillary_labels(file)


def test_a_map_of_version_2_is_told_by_its_palette(tmp_path: Path) -> None:
    labels = np.array([[13, 27]], np.uint8)
    v1 = {
        13: (128, 64, 128),
        17: (70,) * 3,
        27: (70, 130, 180),
        30: (107, 142, 35),
        55: (0, 0, 142),
    }
    file = save(tmp_path / "v1.png", labels, v1)
    assert np.array_equal(read_mapillary_labels(file), labels)
    file = save(tmp_path / "v2.png", labels, v1 | {13: (250, 170, 30)})
    with pytest.raises(ValueError, match=r"v2\.0: it paints id 13 \(250, 170, 30\)"):
        read_mapillary_labels(file)


def test_ids_that_no_version_has_are_ignored(tmp_path: Path) -> None:
    file = save(tmp_path / "odd.png", np.array([[17, 200, 255]], np.uint8))
    assert mapillary_to_cityscapes(read_mapillary_labels(file)).tolist() == [[2, 255, 255]]


def test_an_instance_map_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "instances.png"
    cv2.imwrite(str(file), np.full((3, 3), 4352, np.uint16))
    with pytest.raises(ValueError, match="more than 8 bits"):
        read_mapillary_labels(str(file))
