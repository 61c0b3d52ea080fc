"""`build_mapper`: each meta-architecture has its mapper, any other Detectron2's."""

import pytest
from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from helpers import tiny_cfg

from metaprompt_d2.data import (
    DATASET_MAPPERS_REGISTRY,
    DepthMapper,
    PoseMapper,
    SemSegMapper,
    build_mapper,
)


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize(
    ("architecture", "mapper"),
    [
        ("SlidingWindowSegmentor", SemSegMapper),
        ("DepthEstimator", DepthMapper),
        ("TopDownPoseEstimator", PoseMapper),
        ("GeneralizedRCNN", DatasetMapper),
    ],
)
def test_the_meta_architecture_chooses(architecture: str, mapper: type, is_train: bool) -> None:
    cfg = tiny_cfg({"MODEL.META_ARCHITECTURE": architecture})
    cfg.defrost()
    cfg.INPUT.CROP.TYPE = "absolute"
    built = build_mapper(cfg, is_train)
    assert type(built) is mapper
    assert built.is_train == is_train


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
