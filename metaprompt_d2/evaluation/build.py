"""Evaluators: their registry, and from a dataset's `evaluator_type` to them."""

import logging
import os
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
from detectron2.utils.registry import Registry

from ..utils.errors import InputError
from .cityscapes import DistributedCityscapesSemSegEvaluator
from .depth import DepthEvaluator
from .keypoints import TopDownKeypointEvaluator
from .sem_seg import CheckedSemSegEvaluator

__all__ = ["EVALUATORS_REGISTRY", "build_evaluators"]

logger = logging.getLogger(__name__)

EVALUATORS_REGISTRY = Registry("EVALUATORS")
EVALUATORS_REGISTRY.__doc__ = """
Functions, each of the name of an `evaluator_type` in datasets' metadata, that make its evaluators.
Called as `function(cfg, dataset_name, output_dir)`; they return a list of `DatasetEvaluator`.
"""


@EVALUATORS_REGISTRY.register()
def sem_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [
        CheckedSemSegEvaluator(
            name,
            output_dir=output_dir,
            confusion_matrix=cfg.TEST.SEM_SEG_EVAL.CONFUSION_MATRIX,
        )
    ]


@EVALUATORS_REGISTRY.register()
def cityscapes_sem_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [DistributedCityscapesSemSegEvaluator(name), *sem_seg(cfg, name, output_dir)]


@EVALUATORS_REGISTRY.register()
def depth(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    options = cfg.TEST.DEPTH_EVAL
    return [
        DepthEvaluator(
            name, output_dir=output_dir, crop=options.CROP or None, save_png=options.SAVE_PNG
        )
    ]


@EVALUATORS_REGISTRY.register()
def coco_person_topdown(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    options = cfg.TEST.POSE
    return [
        TopDownKeypointEvaluator(
            name,
            output_dir=output_dir,
            joint_score_threshold=options.JOINT_SCORE_THRESH,
            oks_nms_threshold=options.OKS_NMS_THRESH,
        )
    ]


@EVALUATORS_REGISTRY.register()
def coco(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [COCOEvaluator(name, output_dir=output_dir, kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS)]


@EVALUATORS_REGISTRY.register()
def coco_panoptic_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    evaluators = [*sem_seg(cfg, name, output_dir), *coco(cfg, name, output_dir)]
    if find_spec("panopticapi") is None:
        logger.warning(
            "%s: instances and semantic segmentation are scored; the panoptic quality needs "
            "panopticapi, which PyPI does not have (github.com/cocodataset/panopticapi)",
            name,
        )
        return evaluators
    return [*evaluators, COCOPanopticEvaluator(name, output_dir)]


@EVALUATORS_REGISTRY.register()
def cityscapes_instance(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [CityscapesInstanceEvaluator(name)]


@EVALUATORS_REGISTRY.register()
def pascal_voc(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [PascalVOCDetectionEvaluator(name)]


def build_evaluators(cfg: CfgNode, name: str) -> list[DatasetEvaluator]:
    """
    Args:
        cfg: results go to OUTPUT_DIR/inference/<name>; TEST.DEPTH_EVAL, TEST.SEM_SEG_EVAL,
            TEST.POSE.
        name: of a registered dataset.

    Raises:
        InputError: a dataset whose `evaluator_type` is unknown here.
    """
    evaluator_type = MetadataCatalog.get(name).get("evaluator_type", None)
    if evaluator_type not in EVALUATORS_REGISTRY:
        raise InputError(
            f"dataset {name!r} has the evaluator_type {evaluator_type!r}, expected one of "
            f"{sorted(known for known, _ in EVALUATORS_REGISTRY)}"
        )
    make = EVALUATORS_REGISTRY.get(evaluator_type)
    return make(cfg, name, os.path.join(cfg.OUTPUT_DIR, "inference", name))
