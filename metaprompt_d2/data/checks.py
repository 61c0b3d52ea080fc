"""Check the datasets of a config before anything is built from it."""

from collections.abc import Sequence
from difflib import get_close_matches

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog

from ..config.ranges import ignore_value_expected
from ..utils.errors import InputError, UnknownKeyError
from ..utils.tasks import find_task
from .keypoint_schemas import build_keypoint_schema

_LISTS = ("stuff_classes", "thing_classes", "keypoint_names")


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


def check_same_names(names: Sequence[str], keys: Sequence[str] = _LISTS) -> None:
    """Check that classes and keypoints have the same names, in the same order, in all datasets.

    Args:
        names: Names of the datasets.
        keys: Lists of names in their metadata.

    Raises:
        InputError: They differ; the message names the first difference.
    """
    for key in keys:
        lists = {name: MetadataCatalog.get(name).get(key, None) for name in names}
        known = [(name, list(found)) for name, found in lists.items() if found is not None]
        for name, found in known[1:]:
            first_name, first = known[0]
            if len(found) != len(first):
                raise InputError(
                    f"dataset {name!r} has {len(found)} {key}, dataset {first_name!r} {len(first)}"
                )
            for number, pair in enumerate(zip(found, first, strict=True)):
                if pair[0] != pair[1]:
                    raise InputError(
                        f"dataset {name!r} calls number {number} of its {key} {pair[0]!r}, dataset "
                        f"{first_name!r} calls it {pair[1]!r}: the same ids would mean other things"
                    )


def check_datasets(cfg: CfgNode) -> None:
    """Check that DATASETS.TRAIN and DATASETS.TEST are registered, fit each other and the model.

    Their files are not read.

    Raises:
        InputError: A dataset isn't registered, or has other names of classes than another one; for
            pose if it has other keypoints than another one or than the model; for segmentation if
            it has another number of classes than the model, its ignore_label is a class or doesn't
            fit label maps, or (unless it is universal) it has a single class. Universal models
            that only predict instances need the classes of the things.
    """
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    check_registered(names)
    check_same_names(cfg.DATASETS.TRAIN)
    if find_task(cfg) == "pose":
        check_same_names(names, ["keypoint_names"])
        build_keypoint_schema(cfg)
    if find_task(cfg) == "universal":
        test = cfg.MODEL.MASK2FORMER.TEST
        has_stuff = test.SEMANTIC_ON or test.PANOPTIC_ON
        _check_classes(cfg, names, "stuff_classes" if has_stuff else "thing_classes")
    elif find_task(cfg) == "sem_seg" or cfg.MODEL.META_ARCHITECTURE == "SemanticSegmentor":
        _check_classes(cfg, names, "stuff_classes")
        check_same_names(names)


def _check_classes(cfg: CfgNode, names: Sequence[str], key: str) -> None:
    """Check the classes that datasets list under a key of their metadata, if they do."""
    num_classes = cfg.MODEL.SEM_SEG_HEAD.NUM_CLASSES
    for name in names:
        metadata = MetadataCatalog.get(name)
        classes = metadata.get(key, None)
        if classes is None:
            continue
        if len(classes) != num_classes:
            raise InputError(
                f"MODEL.SEM_SEG_HEAD.NUM_CLASSES is {num_classes}, but dataset {name!r} has "
                f"{len(classes)} classes"
            )
        if num_classes == 1 and find_task(cfg) != "universal":
            raise InputError(
                f"dataset {name!r} has the single class {classes[0]!r}: a softmax over one class "
                "is always 1, so nothing can be learned. Give all other pixels a class of their "
                "own, such as 'background'"
            )
        ignored = metadata.get("ignore_label", 255)
        if expected := ignore_value_expected(ignored, num_classes):
            raise InputError(f"ignore_label of dataset {name!r} is {ignored}, expected {expected}")
    check_same_names(names, [key])
