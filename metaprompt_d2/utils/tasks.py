"""Find the task of a config."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

from .errors import get_registered


def find_task(cfg: CfgNode) -> str:
    """Find the class attribute `task` of the meta-architecture that a config names.

    It is "sem_seg", "depth", "pose", a user's own, or "" for Detectron2's meta-architectures.

    Raises:
        UnknownKeyError: MODEL.META_ARCHITECTURE isn't registered.
    """
    name = cfg.MODEL.META_ARCHITECTURE
    return getattr(get_registered(META_ARCH_REGISTRY, name, "MODEL.META_ARCHITECTURE"), "task", "")
