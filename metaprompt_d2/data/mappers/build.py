"""The registry of dataset mappers."""

from collections.abc import Callable

from detectron2.config import CfgNode
from detectron2.utils.registry import Registry

from ...utils.errors import get_registered
from ...utils.tasks import find_task
from .depth import DepthMapper
from .detectron2_mapper import DatasetMapper
from .pose import PoseMapper
from .sem_seg import SemSegMapper
from .universal import UniversalMapper

DATASET_MAPPERS_REGISTRY = Registry("DATASET_MAPPERS")
DATASET_MAPPERS_REGISTRY.__doc__ = """
Mappers from a dataset dict to what a model takes. A mapper is built as `mapper(cfg, is_train)` and
called with a dict. One that derives from `ImageMapper` may override what the loaders call or read:

* `inspect(dataset_dicts)`: a method that looks at a training set before training, and warns;
* `select(dataset_dicts)`: a method that returns the dicts to test on (default: all);
* `test_batch_size`: the number of samples in a batch of the test loader (default: 1).
"""
for _mapper in (DatasetMapper, DepthMapper, PoseMapper, SemSegMapper, UniversalMapper):
    DATASET_MAPPERS_REGISTRY.register(_mapper)

# The mapper of a task's meta-architectures; those without a task have Detectron2's.
MAPPERS_OF_TASKS = {
    "depth": "DepthMapper",
    "pose": "PoseMapper",
    "sem_seg": "SemSegMapper",
    "universal": "UniversalMapper",
}


def build_mapper(cfg: CfgNode, is_train: bool) -> Callable[[dict], dict]:
    """Build the mapper that INPUT.DATASET_MAPPER_NAME names.

    Without a name it is the mapper of the meta-architecture's task, or Detectron2's. With
    TEST.AUG.ENABLED the mappers of this package and Detectron2's don't resize test images.

    Args:
        cfg: Config.
        is_train: Whether to read ground truth and to augment.

    Raises:
        UnknownKeyError: No mapper or no meta-architecture is registered under the name.
    """
    name = cfg.INPUT.DATASET_MAPPER_NAME or MAPPERS_OF_TASKS.get(find_task(cfg), "DatasetMapper")
    make = get_registered(DATASET_MAPPERS_REGISTRY, name, "INPUT.DATASET_MAPPER_NAME")
    if make is DatasetMapper and cfg.TEST.AUG.ENABLED and not is_train:
        return make(cfg, is_train, augmentations=[])  # test-time augmentation scales by itself
    return make(cfg, is_train)
