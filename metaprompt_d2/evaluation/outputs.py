"""Choose the evaluators of a dataset by the outputs of a model and by the ground truth."""

import logging
from collections.abc import Callable, Sequence
from importlib.util import find_spec

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from ..utils.errors import InputError
from ..utils.tasks import find_task

logger = logging.getLogger(__name__)

# The key under MODEL.MASK2FORMER.TEST that turns an output on.
_SWITCHES = {"semantic": "SEMANTIC_ON", "panoptic": "PANOPTIC_ON", "instances": "INSTANCE_ON"}


def build_output_evaluators(
    cfg: CfgNode, name: str, **builders: Callable[[], list[DatasetEvaluator]]
) -> list[DatasetEvaluator]:
    """Build the evaluators of the `scored_outputs`.

    Args:
        cfg: Config.
        name: Name of the dataset.
        builders: Function that builds the evaluators of each output that the dataset's
            `evaluator_type` scores: "semantic", "panoptic" and "instances".

    Raises:
        InputError: Nothing can be scored.
    """
    return [
        evaluator
        for output in scored_outputs(cfg, name, list(builders))
        for evaluator in builders[output]()
    ]


def scored_outputs(cfg: CfgNode, name: str, outputs: Sequence[str]) -> list[str]:
    """Choose the outputs that a model has and a dataset has ground truth for.

    Models of the task "universal" have the outputs that MODEL.MASK2FORMER.TEST turns on; others are
    taken to have all. The dataset's files aren't read.

    Args:
        cfg: Config.
        name: Name of the dataset.
        outputs: Outputs that the dataset's `evaluator_type` scores.

    Raises:
        InputError: Nothing can be scored.
    """
    if find_task(cfg) != "universal":
        return list(outputs)
    switches = cfg.MODEL.MASK2FORMER.TEST
    predicted = [output for output, key in _SWITCHES.items() if switches[key]]
    known = [output for output in predicted if output in outputs and _is_known(name, output)]
    if not known:
        keys = ", ".join(f"{key} {switches[key]}" for key in _SWITCHES.values())
        scored = [output for output in outputs if _is_known(name, output)]
        raise InputError(
            f"nothing of dataset {name!r} can be scored: it has ground truth for {scored}, and "
            f"MODEL.MASK2FORMER.TEST turns on {predicted} ({keys})"
        )
    if left_out := [output for output in predicted if output not in known]:
        logger.info("dataset %r has no ground truth to score %s", name, " and ".join(left_out))
    return known


def build_panoptic_evaluators(name: str) -> list[DatasetEvaluator]:
    """Build the evaluator of the panoptic quality, or warn that its package is missing."""
    if find_spec("panopticapi") is None:
        logger.warning(
            "%s: the panoptic quality is not scored; it needs panopticapi: "
            "pip install -e '.[panoptic]'",
            name,
        )
        return []
    from .panoptic import PanopticQualityEvaluator

    return [PanopticQualityEvaluator(name)]


def _is_known(name: str, output: str) -> bool:
    """Say whether a dataset has ground truth for an output."""
    metadata = MetadataCatalog.get(name)
    if output == "panoptic":
        return metadata.get("panoptic_json", None) is not None
    if output == "semantic":  # COCO's panoptic format has no label maps
        has_none = metadata.evaluator_type in ("coco_panoptic_seg", "ade20k_panoptic_seg")
        return not has_none or metadata.get("sem_seg_root", None) is not None
    # Cityscapes' scripts read the label maps in gt_dir.
    return any(metadata.get(key, None) is not None for key in ("json_file", "gt_dir"))
