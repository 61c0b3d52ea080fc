"""Datasets that don't fit one another, the model, or what a label map can hold."""

import logging
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import smallest_cfg
from PIL import Image

from metaprompt_d2.config import check_config
from metaprompt_d2.data import (
    SemSegMapper,
    build_train_loader,
    check_datasets,
    load_dataset_dicts,
    register_sem_seg_folders,
)


@contextmanager
def registered(folder: Path, classes: list[str], **options) -> Iterator[str]:
    name = f"test_checks_{uuid.uuid4().hex}"
    register_sem_seg_folders(
        name, str(folder / "images"), str(folder / "labels"), classes, **options
    )
    try:
        yield name
    finally:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def write(folder: Path, labels: np.ndarray, number: int = 3) -> None:
    """The same label map for each of some black images."""
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True)
    for index in range(number):
        shape = (*labels.shape, 3)
        Image.fromarray(np.zeros(shape, np.uint8)).save(folder / f"images/{index}.png")
        Image.fromarray(labels).save(folder / f"labels/{index}.png")


@pytest.mark.parametrize("key", ["DATASETS.TRAIN", "DATASETS.TEST"])
@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["road", "sky", "car"], "calls number 1 of its stuff_classes 'sky', dataset .*'car'"),
        (["road", "car", "Sky"], "calls number 2 of its stuff_classes 'Sky', dataset .*'sky'"),
    ],
)
def test_classes_of_other_names_are_refused(
    tmp_path: Path, key: str, classes: list[str], message: str
) -> None:
    write(tmp_path, np.eye(8, dtype=np.uint8))
    with ExitStack() as stack:
        one, same, other = (
            stack.enter_context(registered(tmp_path, names))
            for names in (["road", "car", "sky"], ["road", "car", "sky"], classes)
        )
        keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3, "DATASETS.TRAIN": (one,)}
        keys |= {"DATASETS.TEST": (same,)}
        check_datasets(smallest_cfg(keys))
        assert len(load_dataset_dicts([one, same])) == 6
        keys[key] = (*keys[key], other)
        with pytest.raises(ValueError, match=message):
            check_datasets(smallest_cfg(keys))
        with pytest.raises(ValueError, match=message):
            load_dataset_dicts([one, other])


@pytest.mark.parametrize("key", ["thing_classes", "keypoint_names"])
def test_things_and_keypoints_of_other_names_are_not_mixed(key: str) -> None:
    names = [f"test_checks_{uuid.uuid4().hex}" for _ in range(2)]
    try:
        for name, values in zip(names, (["nose", "eye"], ["eye", "nose"]), strict=True):
            DatasetCatalog.register(name, lambda: [{"file_name": "a.png"}])
            MetadataCatalog.get(name).set(**{key: values})
        with pytest.raises(ValueError, match=f"calls number 0 of its {key} 'eye'"):
            load_dataset_dicts(names)
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


# ------------------------------------------------------------------ universal segmentation

ALL_OUTPUTS = ("SEMANTIC_ON", "PANOPTIC_ON", "INSTANCE_ON")


@pytest.mark.parametrize(
    ("outputs", "key"),
    [
        ({"SEMANTIC_ON"}, "stuff_classes"),
        ({"PANOPTIC_ON", "INSTANCE_ON"}, "stuff_classes"),
        ({"INSTANCE_ON"}, "thing_classes"),
    ],
)
def test_universal_models_need_the_classes_of_their_outputs(outputs: set[str], key: str) -> None:
    names = [f"test_checks_{uuid.uuid4().hex}" for _ in range(2)]
    other = {"stuff_classes": "thing_classes", "thing_classes": "stuff_classes"}[key]
    keys = {f"MODEL.MASK2FORMER.TEST.{on}": on in outputs for on in ALL_OUTPUTS}
    keys |= {"MODEL.META_ARCHITECTURE": "UniversalSegmentor", "DATASETS.TRAIN": (names[0],)}
    keys |= {"DATASETS.TEST": (names[1],)}
    cfg = smallest_cfg(keys | {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2})
    try:
        for name, ignored in zip(names, (["a"], ["b", "c", "d"]), strict=True):
            DatasetCatalog.register(name, lambda: [{"file_name": "a.png"}])
            MetadataCatalog.get(name).set(**{key: ["road", "car"], other: ignored})
        check_datasets(cfg)
        metadata = MetadataCatalog.get(names[1])
        for classes, message in (
            (["road", "sky"], f"calls number 1 of its {key} 'sky'"),
            (["road"], r"NUM_CLASSES is 2, but dataset .* has 1 classes"),
        ):
            delattr(metadata, key)
            metadata.set(**{key: classes})
            with pytest.raises(ValueError, match=message):
                check_datasets(cfg)
    finally:
        for name in names:
            DatasetCatalog.remove(name)
            MetadataCatalog.remove(name)


# ------------------------------------------------------------------ the label of ignored pixels

REFUSED = [(0, 19), (18, 19), (-1, 19), (256, 19), (65535, 19), (255, 256), (255, 300)]
REFUSED += [(65536, 300)]
TAKEN = [(19, 19), (254, 19), (255, 19), (255, 255), (300, 300), (65535, 300)]


@pytest.mark.parametrize(("ignore_value", "num_classes"), REFUSED)
def test_an_ignored_label_that_is_a_class_or_wraps_is_refused(
    ignore_value: int, num_classes: int
) -> None:
    cfg = smallest_cfg().clone()
    cfg.defrost()
    cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE = ignore_value
    cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES = num_classes
    with pytest.raises(ValueError, match=rf"VALUE is {ignore_value}, expected {num_classes}\.\."):
        check_config(cfg)
    with pytest.raises(ValueError, match=rf"ignore_value is {ignore_value}, expected"):
        SemSegMapper(True, augmentations=[], num_classes=num_classes, ignore_value=ignore_value)


@pytest.mark.parametrize(("ignore_value", "num_classes"), TAKEN)
def test_padding_has_the_ignored_label_whatever_it_is(
    tmp_path: Path, ignore_value: int, num_classes: int
) -> None:
    labels = np.arange(64).reshape(8, 8) % num_classes
    labels[0], labels[1, 0] = ignore_value, num_classes - 1
    wide = labels.max() > 255
    write(tmp_path, labels.astype(np.uint16 if wide else np.uint8), number=1)
    keys = {
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": num_classes,
        "MODEL.SEM_SEG_HEAD.IGNORE_VALUE": ignore_value,
        "INPUT.MIN_SIZE_TRAIN": (8,),
        "INPUT.MAX_SIZE_TRAIN": 8,
        "INPUT.SCALE_RANGE": (1.0, 1.0),
        "INPUT.CROP.SIZE": (12, 16),
        "INPUT.RANDOM_FLIP": "none",
    }
    files = {part: str(tmp_path / f"{part}/0.png") for part in ("images", "labels")}
    item = {"file_name": files["images"], "sem_seg_file_name": files["labels"]}
    mapped = SemSegMapper(smallest_cfg(keys), True)(item)["sem_seg"].numpy()
    expected = np.full((12, 16), ignore_value)
    expected[:8, :8] = labels
    assert np.array_equal(mapped, expected)


def test_a_datasets_own_ignored_label_is_checked(tmp_path: Path) -> None:
    with registered(tmp_path, ["road", "car"]) as name:
        metadata = MetadataCatalog.get(name)
        delattr(metadata, "ignore_label")
        metadata.ignore_label = 1
        keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2, "DATASETS.TRAIN": (name,)}
        with pytest.raises(ValueError, match=r"ignore_label of dataset .* is 1, expected 2\.\.255"):
            check_datasets(smallest_cfg(keys | {"DATASETS.TEST": ()}))


# ------------------------------------------------------------------ classes that nothing shows


def test_a_single_class_is_refused(tmp_path: Path) -> None:
    with registered(tmp_path, ["thing"]) as name:
        keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1, "DATASETS.TRAIN": (name,)}
        with pytest.raises(ValueError, match="single class 'thing': a softmax over one class"):
            check_datasets(smallest_cfg(keys | {"DATASETS.TEST": ()}))


@pytest.mark.parametrize(
    ("value", "warns"), [(255, True), (0, True), (1, False)], ids=["mask", "empty", "right"]
)
def test_a_training_set_of_one_class_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, value: int, warns: bool
) -> None:
    write(tmp_path, np.eye(8, dtype=np.uint8) * value, number=30)
    keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2, "SOLVER.IMS_PER_BATCH": 1}
    cfg = smallest_cfg(keys | {"DATALOADER.NUM_WORKERS": 0})
    with registered(tmp_path, ["background", "thing"]) as name, caplog.at_level(logging.WARNING):
        mapper = SemSegMapper(cfg, True)
        dicts = load_dataset_dicts(name)
        build_train_loader(dicts, mapper=mapper, seed=0, total_batch_size=1)
    held = f"hold only {sorted({0, value})}, and 255 is ignored"
    assert (held in caplog.text) == warns
