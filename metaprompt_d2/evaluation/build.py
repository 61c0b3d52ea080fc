"""From a dataset's `evaluator_type` to its evaluators."""

import logging
import os
from collections.abc import Callable
from importlib.util import find_spec

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    DatasetEvaluator,
    PascalVOCDetectionEvaluator,
)

from .cityscapes import DistributedCityscapesSemSegEvaluator
from .depth import DepthEvaluator
from .keypoints import TopDownKeypointEvaluator
from .sem_seg import CheckedSemSegEvaluator

__all__ = ["build_evaluators"]

logger = logging.getLogger(__name__)

Factory = Callable[[CfgNode, str, str], list[DatasetEvaluator]]


def _sem_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [
        CheckedSemSegEvaluator(
            name,
            output_dir=output_dir,
            confusion_matrix=cfg.TEST.SEM_SEG_EVAL.CONFUSION_MATRIX,
        )
    ]


def _cityscapes_sem_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [DistributedCityscapesSemSegEvaluator(name), *_sem_seg(cfg, name, output_dir)]


def _depth(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    options = cfg.TEST.DEPTH_EVAL
    return [
        DepthEvaluator(
            name, output_dir=output_dir, crop=options.CROP or None, save_png=options.SAVE_PNG
        )
    ]


def _pose(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    options = cfg.TEST.POSE
    return [
        TopDownKeypointEvaluator(
            name,
            output_dir=output_dir,
            joint_score_threshold=options.JOINT_SCORE_THRESH,
            oks_nms_threshold=options.OKS_NMS_THRESH,
        )
    ]


def _coco(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [COCOEvaluator(name, output_dir=output_dir, kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS)]


def _coco_panoptic(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    evaluators = [*_sem_seg(cfg, name, output_dir), *_coco(cfg, name, output_dir)]
    if find_spec("panopticapi") is None:
        logger.warning(
            "%s: instances and semantic segmentation are scored; the panoptic quality needs "
            "panopticapi, which PyPI does not have (github.com/cocodataset/panopticapi)",
            name,
        )
        return evaluators
    return [*evaluators, COCOPanopticEvaluator(name, output_dir)]


def _cityscapes_instances(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [CityscapesInstanceEvaluator(name)]


def _pascal_voc(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [PascalVOCDetectionEvaluator(name)]


_FACTORIES: dict[str, Factory] = {
    "cityscapes_instance": _cityscapes_instances,
    "cityscapes_sem_seg": _cityscapes_sem_seg,
    "coco": _coco,
    "coco_panoptic_seg": _coco_panoptic,
    "coco_person_topdown": _pose,
    "depth": _depth,
    "pascal_voc": _pascal_voc,
    "sem_seg": _sem_seg,
}


def build_evaluators(cfg: CfgNode, name: str) -> list[DatasetEvaluator]:
    """
    Args:
        cfg: results go to OUTPUT_DIR/inference/<name>; TEST.DEPTH_EVAL, TEST.SEM_SEG_EVAL,
            TEST.POSE.
        name: of a registered dataset.

    Raises:
        ValueError: a dataset whose `evaluator_type` is unknown here.
    """
    evaluator_type = MetadataCatalog.get(name).get("evaluator_type", None)
    if evaluator_type not in _FACTORIES:
        raise ValueError(
            f"dataset {name!r} has the evaluator_type {evaluator_type!r}, expected one of "
            f"{sorted(_FACTORIES)}"
        )
    return _FACTORIES[evaluator_type](cfg, name, os.path.join(cfg.OUTPUT_DIR, "inference", name))
