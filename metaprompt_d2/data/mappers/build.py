"""From a meta-architecture to the mapper that prepares what it reads."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper

from .depth import DepthMapper
from .pose import PoseMapper
from .sem_seg import SemSegMapper

__all__ = ["build_mapper"]

_MAPPERS = {
    "DepthEstimator": DepthMapper,
    "SlidingWindowSegmentor": SemSegMapper,
    "TopDownPoseEstimator": PoseMapper,
}


def build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict], dict]:
    """
    Args:
        cfg: MODEL.META_ARCHITECTURE chooses; another one than ours gets Detectron2's own mapper.
        is_train: read ground truth and augment.
    """
    return _MAPPERS.get(cfg.MODEL.META_ARCHITECTURE, DatasetMapper)(cfg, is_train)
