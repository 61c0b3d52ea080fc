"""Which classes of a dataset are things, that is, countable."""

from collections.abc import Sequence

from detectron2.data import MetadataCatalog

from ..utils.errors import InputError


def find_thing_ids(dataset_names: Sequence[str]) -> list[int]:
    """Read the classes that are things from the metadata of the first dataset that tells.

    Args:
        dataset_names: Names of datasets with the same classes.

    Returns:
        Class ids, from 0, in increasing order.

    Raises:
        InputError: No dataset tells.
    """
    for name in dataset_names:
        things = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id", None)
        if things is not None:
            return sorted(things.values())
    raise InputError(
        "panoptic segmentation (MODEL.MASK2FORMER.TEST.PANOPTIC_ON) needs to know which classes "
        f"are things, but none of the datasets {list(dataset_names)} has "
        "thing_dataset_id_to_contiguous_id in its metadata"
    )
