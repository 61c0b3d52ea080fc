"""Check the datasets of a config before anything is built from it."""

from collections.abc import Sequence
from difflib import get_close_matches

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..utils.errors import InputError, UnknownKeyError
from ..utils.tasks import find_task


def check_registered(names: Sequence[str]) -> None:
    """Check that datasets are registered.

    Raises:
        UnknownKeyError: A dataset isn't registered; the message lists similar names.
    """
    known = DatasetCatalog.list()
    for name in names:
        if name not in known:
            near = ", ".join(get_close_matches(name, known, n=4))
            raise UnknownKeyError(
                f"no dataset is registered as {name!r}{near and f' (near: {near})'}. Your own are "
                "known to every tool once DETECTRON2_ENV_MODULE names a file that registers them "
                "(docs/custom_dataset.md)"
            )


def check_datasets(cfg: CfgNode) -> None:
    """Check that DATASETS.TRAIN and DATASETS.TEST are registered, with the model's classes.

    Their files are not read.

    Raises:
        InputError: A dataset isn't registered, or has another number of classes than the model.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    check_registered(names)
    if find_task(cfg) != "sem_seg" and cfg.MODEL.META_ARCHITECTURE != "SemanticSegmentor":
        return
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for name in names:
        classes = MetadataCatalog.get(name).get("stuff_classes", None)
        if classes is not None and len(classes) != num_classes:
            raise InputError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but dataset {name!r} has "
                f"{len(classes)} classes"
            )
