"""`SemSegPredictionWriter`: values, names, the archive, and what keeps it from being written."""

import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import registered_cityscapes, write_cityscapes

from metaprompt_d2.data import register_sem_seg_folders
from metaprompt_d2.evaluation import SemSegPredictionWriter

HEIGHT, WIDTH = 6, 8


def scores(classes: np.ndarray, num_classes: int) -> dict:
    return {"sem_seg": torch.eye(num_classes)[torch.from_numpy(classes)].permute(2, 0, 1)}


def write_all(writer: SemSegPredictionWriter, name: str, num_classes: int, skip: int = 0) -> None:
    """Predict class i in column i."""
    classes = np.tile(np.arange(WIDTH) % num_classes, (HEIGHT, 1))
    writer.reset()
    for item in DatasetCatalog.get(name)[skip:]:
        writer.process([item], [scores(classes, num_classes)])


@pytest.fixture
def folders(tmp_path: Path):
    """A registered dataset with images in two sub-folders; yields its name."""
    for path in ("a/one.jpg", "a/two.jpg", "b/one.jpg"):
        (tmp_path / "images" / path).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(tmp_path / "images" / path), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    registered = []

    def register(classes: list[str]) -> str:
        name = f"test_predictions_{tmp_path.name}"
        register_sem_seg_folders(name, tmp_path / "images", None, classes)
        registered.append(name)
        return name

    yield register
    for name in registered:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def test_cityscapes_gets_label_ids_under_the_images_names(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, height=HEIGHT, width=WIDTH)
    archive = tmp_path / "out/results.zip"
    with registered_cityscapes(tmp_path) as name:
        writer = SemSegPredictionWriter(name, str(archive))
        write_all(writer, name, 19)
        assert not archive.exists()
        assert writer.evaluate() is None
    with zipfile.ZipFile(archive) as opened:
        assert sorted(opened.namelist()) == [
            f"town_00000{index}_000000_leftImg8bit.png" for index in range(3)
        ]
        data = opened.read("town_000001_000000_leftImg8bit.png")
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    assert pixels[0].tolist() == [7, 8, 11, 12, 13, 17, 19, 20]


def test_ade20k_counts_from_one(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    cv2.imwrite(str(tmp_path / "images/ADE_test_1.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
    name = f"test_ade_{tmp_path.name}"
    classes = MetadataCatalog.get("ade20k_sem_seg_val").stuff_classes
    register_sem_seg_folders(name, tmp_path / "images", None, classes)
    writer = SemSegPredictionWriter(name, str(tmp_path / "ade.zip"))
    write_all(writer, name, 150)
    writer.evaluate()
    pixels = cv2.imread(str(tmp_path / "ade/ADE_test_1.png"), cv2.IMREAD_UNCHANGED)
    assert pixels[0].tolist() == list(range(1, 9))
    DatasetCatalog.remove(name)


def test_other_classes_keep_their_ids_and_folders(folders, tmp_path: Path) -> None:
    name = folders(["sea", "land", "sky"])
    writer = SemSegPredictionWriter(name, str(tmp_path / "out.zip"))
    write_all(writer, name, 3)
    writer.evaluate()
    with zipfile.ZipFile(tmp_path / "out.zip") as opened:
        assert sorted(opened.namelist()) == ["a/one.png", "a/two.png", "b/one.png"]
    pixels = cv2.imread(str(tmp_path / "out/b/one.png"), cv2.IMREAD_UNCHANGED)
    assert pixels[0].tolist() == [0, 1, 2, 0, 1, 2, 0, 1]


def test_an_incomplete_set_makes_no_archive(folders, tmp_path: Path) -> None:
    name = folders(["sea", "land"])
    writer = SemSegPredictionWriter(name, str(tmp_path / "out.zip"))
    write_all(writer, name, 2)  # files of an earlier run count for nothing
    write_all(writer, name, 2, skip=1)
    with pytest.raises(ValueError, match=r"1 of 3 predictions are missing .*: a/one\.png"):
        writer.evaluate()
    assert not (tmp_path / "out.zip").exists()


def test_a_part_of_a_published_set_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = [{"file_name": "images/ADE_test_1.jpg"}]
    monkeypatch.setattr(DatasetCatalog, "get", lambda name: items)
    arguments = "ade20k_sem_seg_test", str(tmp_path / "a.zip")
    with pytest.raises(ValueError, match="has 1 images here, 3352 were published"):
        SemSegPredictionWriter(*arguments)
    assert SemSegPredictionWriter(*arguments, allow_incomplete=True).names


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"file_format": "cityscapes"}, "has not the classes of cityscapes"),
        ({"file_format": "jpeg"}, "expected one of"),
        ({"archive": "out.tar"}, r"must end in \.zip"),
    ],
)
def test_what_cannot_be_written_is_refused_first(folders, arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SemSegPredictionWriter(folders(["sea"]), **({"archive": "out.zip"} | arguments))


def test_a_model_of_other_classes_or_tasks_is_refused(folders, tmp_path: Path) -> None:
    name = folders(["sea", "land"])
    writer = SemSegPredictionWriter(name, str(tmp_path / "out.zip"))
    writer.reset()
    item = DatasetCatalog.get(name)[0]
    with pytest.raises(ValueError, match="the model has 3 classes"):
        writer.process([item], [{"sem_seg": torch.zeros(3, HEIGHT, WIDTH)}])
    with pytest.raises(ValueError, match="expected semantic segmentation"):
        writer.process([item], [{"depth": torch.zeros(HEIGHT, WIDTH)}])
