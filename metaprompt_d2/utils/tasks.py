"""Find the task of a config."""

from detectron2.config import CfgNode
from detectron2.modeling import META_ARCH_REGISTRY

__all__ = ["find_task"]


def find_task(cfg: CfgNode) -> str:
    """Find the task of the meta-architecture that a config names.

    Returns:
        The class attribute `task`: "sem_seg", "depth", "pose" or a user's own. "" where the
        meta-architecture has none, as those of Detectron2.

    Raises:
        KeyError: MODEL.META_ARCHITECTURE is not registered.
    """
    return getattr(META_ARCH_REGISTRY.get(cfg.MODEL.META_ARCHITECTURE), "task", "")
