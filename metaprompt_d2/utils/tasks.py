"""Find the task of a config."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from .errors import get_registered


def find_task(cfg: CfgNode) -> str:
    """Find the task of the meta-architecture that a config names.

    Returns:
        The class attribute `task`: "sem_seg", "depth", "pose" or a user's own. "" where the
        meta-architecture has none, as those of Detectron2.

    Raises:
        UnknownKeyError: MODEL.META_ARCHITECTURE is not registered.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    return getattr(get_registered(META_ARCH_REGISTRY, name, "MODEL.META_ARCHITECTURE"), "task", "")
