"""`build_mapper`: each meta-architecture has its mapper, any other Detectron2's."""

import pytest
from detectron2.data import DatasetMapper
from helpers import tiny_cfg

from metaprompt_d2.data import DepthMapper, SemSegMapper, build_mapper


@pytest.mark.parametrize("is_train", [True, False])
@pytest.mark.parametrize(
    ("architecture", "mapper"),
    [
        ("SlidingWindowSegmentor", SemSegMapper),
        ("DepthEstimator", DepthMapper),
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
