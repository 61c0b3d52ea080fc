"""`build_mapper`: each meta-architecture has its mapper, any other Detectron2's."""

import sys
from pathlib import Path

import numpy as np
import pytest
from coco_files import registered_coco, write_coco
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog
from detectron2.data import DatasetMapper as Detectron2Mapper
from helpers import tiny_cfg
from PIL import Image
from raw_images import DEPTHS, GRAY, PALETTE, png

from metaprompt_d2.data import (
    DATASET_MAPPERS_REGISTRY,
    DepthMapper,
    PoseMapper,
    SemSegMapper,
    build_mapper,
)
from metaprompt_d2.utils.errors import InputError


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize(
    ("architecture", "mapper"),
    [
        ("SlidingWindowSegmentor", SemSegMapper),
        ("DepthEstimator", DepthMapper),
        ("TopDownPoseEstimator", PoseMapper),
        ("GeneralizedRCNN", DATASET_MAPPERS_REGISTRY.get("DatasetMapper")),
    ],
)
def test_the_meta_architecture_chooses(architecture: str, mapper: type, is_train: bool) -> None:
    cfg = tiny_cfg({"MODEL.META_ARCHITECTURE": architecture})
    cfg.defrost()
    cfg.INPUT.CROP.TYPE = "absolute"
    built = build_mapper(cfg, is_train)
    assert type(built) is mapper
    assert built.is_train == is_train


def test_a_crop_of_polygons_without_shapely_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_coco(tmp_path, num_images=1)
    keys = {"MODEL.META_ARCHITECTURE": "GeneralizedRCNN", "MODEL.MASK_ON": True}
    mapper = build_mapper(tiny_cfg(keys | {"INPUT.CROP.TYPE": "absolute"}), is_train=True)
    monkeypatch.setitem(sys.modules, "shapely.geometry", None)  # importing it fails
    with (
        registered_coco(tmp_path) as names,
        pytest.raises(
            InputError,
            match=r"polygons \(INPUT.CROP\) needs the package shapely: pip install .*polygons",
        ),
    ):
        mapper(DatasetCatalog.get(names.people)[0])


def test_a_mapper_of_ones_own_is_found_by_name() -> None:
    class Own:
        def __init__(self, cfg: CfgNode, is_train: bool):
            self.is_train = is_train

    DATASET_MAPPERS_REGISTRY.register(Own)
    try:
        built = build_mapper(tiny_cfg({"INPUT.DATASET_MAPPER_NAME": "Own"}), True)
        assert isinstance(built, Own) and built.is_train
    finally:
        del DATASET_MAPPERS_REGISTRY._obj_map["Own"]


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(KeyError, match="Nobodys"):
        build_mapper(tiny_cfg({"INPUT.DATASET_MAPPER_NAME": "Nobodys"}), True)


@pytest.mark.parametrize(
    ("color", "bits"), [(color, bits) for color in (GRAY, PALETTE) for bits in DEPTHS[color]]
)
def test_detectron2s_mapper_reads_stored_ids_or_refuses(
    tmp_path: Path, color: int, bits: int
) -> None:
    labels = np.random.default_rng(bits).integers(0, 2 ** min(bits, 8), (12, 16))
    Image.fromarray(np.zeros((12, 16, 3), np.uint8)).save(tmp_path / "image.png")
    (tmp_path / "labels.png").write_bytes(png(labels, bits, color))
    files = {"file_name": "image.png", "sem_seg_file_name": "labels.png"}
    item = {key: str(tmp_path / name) for key, name in files.items()}
    mapper = DATASET_MAPPERS_REGISTRY.get("DatasetMapper")(
        is_train=True, augmentations=[], image_format="RGB"
    )
    assert isinstance(mapper, Detectron2Mapper)
    if (color, bits) == (GRAY, 8):
        assert np.array_equal(mapper(item)["sem_seg"], labels)
    else:
        with pytest.raises(ValueError, match=r"labels\.png isn't gray with 8 bits"):
            mapper(item)
