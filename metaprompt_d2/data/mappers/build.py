"""Dataset mappers: their registry, and from a config to the one that it names."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.data import DatasetMapper
from detectron2.utils.registry import Registry

from ...utils.errors import get_registered
from .depth import DepthMapper
from .pose import PoseMapper
from .sem_seg import SemSegMapper

__all__ = ["DATASET_MAPPERS_REGISTRY", "build_mapper"]

DATASET_MAPPERS_REGISTRY = Registry("DATASET_MAPPERS")
DATASET_MAPPERS_REGISTRY.__doc__ = """
What prepares a dataset dict for a model. Called as `mapper(cfg, is_train)`, and the result with a
dict; of the result's methods and attributes, `build_test_loader` knows `select` and
`test_batch_size`.
"""
for _mapper in (DatasetMapper, DepthMapper, PoseMapper, SemSegMapper):
    DATASET_MAPPERS_REGISTRY.register(_mapper)

# Where INPUT.DATASET_MAPPER_NAME is empty; other meta-architectures have Detectron2's.
_DEFAULTS = {
    "DepthEstimator": "DepthMapper",
    "SlidingWindowSegmentor": "SemSegMapper",
    "TopDownPoseEstimator": "PoseMapper",
}


def build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict], dict]:
    """
    Args:
        cfg: INPUT.DATASET_MAPPER_NAME chooses, else MODEL.META_ARCHITECTURE.
        is_train: read ground truth and augment.

    Raises:
        UnknownKeyError: no mapper is registered under this name.
    """
    name = cfg.INPUT.DATASET_MAPPER_NAME
    name = name or _DEFAULTS.get(cfg.MODEL.META_ARCHITECTURE, "DatasetMapper")
    make = get_registered(DATASET_MAPPERS_REGISTRY, name, "INPUT.DATASET_MAPPER_NAME")
    return make(cfg, is_train)
