"""Find the keypoint schema of a dataset, or of the datasets of a config."""

import logging
from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.utils.logger import log_first_n

from ..codecs import KeypointSchema
from ..utils.errors import InputError

# The dataset whose keypoints Detectron2's defaults describe.
_DEFAULT = "coco_2017_person_topdown_train"
_NO_NAME = {"thing_classes": ["object"]}


def make_keypoint_schema(dataset_name: str, metadata: Mapping[str, Any]) -> KeypointSchema:
    """Make the keypoint schema of a dataset's metadata; see `KeypointSchema.from_metadata`.

    Raises:
        InputError: The metadata has no "keypoint_names", or is wrong; the dataset is named.
    """
    if metadata.get("keypoint_names") is None:
        raise InputError(f"metadata of dataset {dataset_name!r} has no keypoint_names")
    try:
        return KeypointSchema.from_metadata(metadata)
    except InputError as error:
        raise InputError(f"metadata of dataset {dataset_name!r}: keypoint {error}") from error


def find_keypoint_schema(dataset_name: str) -> KeypointSchema:
    """Find the keypoint schema of a registered dataset, as `make_keypoint_schema`."""
    return make_keypoint_schema(dataset_name, MetadataCatalog.get(dataset_name).as_dict())


def check_flip_pairs(schema: KeypointSchema, alternative: str) -> None:
    """Check that the flip pairs of a schema are known.

    Raises:
        InputError: They aren't; the message names the config key that turns mirroring off.
    """
    if schema.flip_pairs is None:
        names = ", ".join([*schema.names[:5], *["..."][: len(schema) > 5]])
        raise InputError(
            f"which of the keypoints {names} a mirror image swaps isn't known: "
            "give pairs of them as keypoint_flip_map in the dataset's metadata ([] if it swaps "
            f"none), or set {alternative}"
        )


def find_keypoint_metadata(cfg: CfgNode) -> dict[str, Any]:
    """Find what the keypoints are that the model of a config predicts.

    This is the metadata of the first dataset of DATASETS.TRAIN and DATASETS.TEST that is registered
    and has keypoints. Without one it is COCO's, or keypoints are named by their numbers, with a
    warning, if the model has more or less of them.

    Returns:
        "thing_classes", "keypoint_names" and the other metadata whose name begins with "keypoint_".

    Raises:
        InputError: The dataset has another number of keypoints than the model, or its metadata is
            wrong.
    """
    count = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    for name in (*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, _DEFAULT):
        known = MetadataCatalog.get(name).as_dict() if name in MetadataCatalog.list() else {}
        if known.get("keypoint_names") is None:
            continue
        found = len(make_keypoint_schema(name, known))
        if found == count:
            keys = [key for key in known if key.startswith("keypoint_") or key == "thing_classes"]
            return _NO_NAME | {key: known[key] for key in keys}
        if name != _DEFAULT:
            raise InputError(
                f"MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS is {count}, but dataset {name!r} has "
                f"{found} keypoints"
            )
    datasets = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    log_first_n(
        logging.WARNING,
        f"No dataset of {datasets} is registered with keypoints, so that the model's {count} "
        "keypoints are named by their numbers and have no flip pairs",
        name=__name__,
        key="message",
    )
    return _NO_NAME | {"keypoint_names": [str(number) for number in range(count)]}


def build_keypoint_schema(cfg: CfgNode) -> KeypointSchema:
    """Build the schema of `find_keypoint_metadata`."""
    return KeypointSchema.from_metadata(find_keypoint_metadata(cfg))
