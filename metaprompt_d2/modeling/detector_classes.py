"""Match the classes of a detector with the categories of a dataset."""

import logging
from collections.abc import Sequence

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog

from ..utils.errors import InputError

logger = logging.getLogger(__name__)

_NODE = "MODEL.PERSON_DETECTOR"


def find_class_names(cfg: CfgNode) -> list[str] | None:
    """Find the names of the classes that the detector of a config predicts.

    Returns:
        The "thing_classes" of the first dataset of DATASETS.TRAIN and DATASETS.TEST that is
        registered and has some; None if there is none, or if the detector has another number of
        classes.
    """
    boxes = cfg.MODEL.ROI_HEADS.NUM_CLASSES
    counts = {"GeneralizedRCNN": boxes, "PanopticFPN": boxes}
    counts["RetinaNet"] = cfg.MODEL.RETINANET.NUM_CLASSES
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST):
        if name in MetadataCatalog.list():
            names = MetadataCatalog.get(name).get("thing_classes", None)
            if names is not None:
                same = counts.get(cfg.MODEL.META_ARCHITECTURE, len(names)) == len(names)
                return list(names) if same else None
    return None


def match_classes(
    categories: Sequence[str],
    names: Sequence[str] | None,
    *,
    classes: Sequence[str | int] = (),
    person_class: int = 0,
) -> dict[int, int]:
    """Match the classes of a detector with categories.

    Names are compared without upper and lower case and surrounding blanks.

    Args:
        categories: Names of the dataset's categories, its "thing_classes".
        names: Names of the detector's classes; None if they aren't known.
        classes: MODEL.PERSON_DETECTOR.CLASSES: the class of each category; () for the same names.
        person_class: MODEL.PERSON_DETECTOR.PERSON_CLASS: index of the class of a single category,
            unless it is 0 and names are known.

    Returns:
        Index of the category for each index of a class. Categories without a class are logged.

    Raises:
        InputError: A class doesn't exist or stands for two categories, their number isn't that of
            the categories, names are needed and not known, or no category has a class.
    """
    key = f"{_NODE}.CLASSES"
    if not classes and len(categories) == 1 and (person_class or names is None):
        key, classes = f"{_NODE}.PERSON_CLASS", (person_class,)
    found: list[int | None]
    if classes:
        if len(classes) != len(categories):
            raise InputError(
                f"{key} are {list(classes)}, expected a class of the detector for each of the "
                f"dataset's thing_classes {list(categories)}"
            )
        found = [_check_class(wanted, names, key) for wanted in classes]
    elif names is None:
        raise InputError(
            f"the names of the classes of {_NODE}.CONFIG_FILE aren't known, because none of its "
            f"DATASETS is registered with as many thing_classes: give {key}, the index of the "
            f"class of each of the dataset's thing_classes {list(categories)}"
        )
    else:
        found = [_find_class(category, names) for category in categories]
        if missing := [c for c, index in zip(categories, found, strict=True) if index is None]:
            if len(missing) == len(categories):
                raise InputError(
                    f"the detector of {_NODE}.CONFIG_FILE finds {list(names)}, none of the "
                    f"dataset's thing_classes {list(categories)}: give {key}"
                )
            logger.warning(
                "The detector of %s.CONFIG_FILE has no class %s, so these aren't found",
                *(_NODE, ", ".join(map(repr, missing))),
            )
    matched = {index: number for number, index in enumerate(found) if index is not None}
    if len(matched) < len(found) - found.count(None):
        raise InputError(f"{key} {found}: a class stands for two of {list(categories)}")
    return matched


def _check_class(wanted: str | int, names: Sequence[str] | None, key: str) -> int:
    if isinstance(wanted, str):
        index = _find_class(wanted, names or ())
    else:
        index = wanted if wanted >= 0 and (names is None or wanted < len(names)) else None
    if index is None:
        known = "an index, as the names aren't known" if names is None else f"one of {list(names)}"
        raise InputError(f"{key}: {wanted!r} isn't a class of the detector, expected {known}")
    return index


def _find_class(name: str, names: Sequence[str]) -> int | None:
    folded = [known.strip().casefold() for known in names]
    wanted = name.strip().casefold()
    return folded.index(wanted) if wanted in folded else None
