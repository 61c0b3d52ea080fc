"""The registry of evaluators, and the function that builds the evaluators of a dataset."""

import os

from detectron2.config import CfgNode
from detectron2.data import MetadataCatalog
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    DatasetEvaluator,
    PascalVOCDetectionEvaluator,
)
from detectron2.utils.registry import Registry

from ..utils.errors import get_registered
from ..utils.optional import optional_packages
from ..utils.tasks import find_task
from .cityscapes import DistributedCityscapesSemSegEvaluator
from .depth import DepthEvaluator
from .instances import ThingsEvaluator
from .keypoints import TopDownKeypointEvaluator
from .lvis import PortedLVISEvaluator
from .outputs import build_output_evaluators, build_panoptic_evaluators
from .sem_seg import CheckedSemSegEvaluator

EVALUATORS_REGISTRY = Registry("EVALUATORS")
EVALUATORS_REGISTRY.__doc__ = """
Maps an `evaluator_type` of datasets' metadata to a function that builds evaluators.

The function is called as `function(cfg, dataset_name, output_dir)` and returns a list of
Detectron2's `DatasetEvaluator`. Several may report the same task, with different metrics.
Each evaluator is used as follows:

* `reset()` is called on every process before the first batch.
* `process(inputs, outputs)` takes the dataset dicts of a batch and the model's outputs, in the same
  order. It changes neither, and keeps no output: `MergedEvaluators` empties the list `outputs`
  after the last evaluator, so that the memory is free when the next batch is predicted.
* `evaluate()` is called on every process, gathers from all of them, and returns
  `{task: {metric: value}}` on the main process and None on others. Samplers may repeat images to
  give every process the same number; a repeated image should count once.
"""


@EVALUATORS_REGISTRY.register()
def sem_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return build_output_evaluators(cfg, name, semantic=lambda: _mean_iou(cfg, name, output_dir))


@EVALUATORS_REGISTRY.register()
def cityscapes_sem_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return build_output_evaluators(
        cfg,
        name,
        semantic=lambda: [
            DistributedCityscapesSemSegEvaluator(name),
            *_mean_iou(cfg, name, output_dir),
        ],
    )


@EVALUATORS_REGISTRY.register()
def depth(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    crop, save_png = cfg.TEST.DEPTH_EVAL.CROP, cfg.TEST.DEPTH_EVAL.SAVE_PNG
    return [DepthEvaluator(name, output_dir=output_dir, crop=crop, save_png=save_png)]


@EVALUATORS_REGISTRY.register()
def coco_person_topdown(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    options = {
        "keypoint_score_threshold": cfg.TEST.POSE.JOINT_SCORE_THRESH,
        "oks_nms_threshold": cfg.TEST.POSE.OKS_NMS_THRESH,
        "oks_sigmas": cfg.TEST.KEYPOINT_OKS_SIGMAS,
    }
    return [TopDownKeypointEvaluator(name, output_dir=output_dir, **options)]


@EVALUATORS_REGISTRY.register()
def coco(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return build_output_evaluators(cfg, name, instances=lambda: _instance_ap(cfg, name, output_dir))


@EVALUATORS_REGISTRY.register()
def coco_panoptic_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return build_output_evaluators(
        cfg,
        name,
        semantic=lambda: _mean_iou(cfg, name, output_dir),
        instances=lambda: _instance_ap(cfg, name, output_dir),
        panoptic=lambda: build_panoptic_evaluators(name),
    )


@EVALUATORS_REGISTRY.register()
def ade20k_panoptic_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return coco_panoptic_seg(cfg, name, output_dir)  # Mask2Former's name


@EVALUATORS_REGISTRY.register()
def cityscapes_instance(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return build_output_evaluators(cfg, name, instances=lambda: [CityscapesInstanceEvaluator(name)])


@EVALUATORS_REGISTRY.register()
def cityscapes_panoptic_seg(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return build_output_evaluators(
        cfg,
        name,
        semantic=lambda: [DistributedCityscapesSemSegEvaluator(name)],
        instances=lambda: [CityscapesInstanceEvaluator(name)],
        panoptic=lambda: build_panoptic_evaluators(name),
    )


@EVALUATORS_REGISTRY.register()
def lvis(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [PortedLVISEvaluator(name, output_dir=output_dir)]


@EVALUATORS_REGISTRY.register()
def pascal_voc(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    return [PascalVOCDetectionEvaluator(name)]


def _mean_iou(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    draws = cfg.TEST.SEM_SEG_EVAL.CONFUSION_MATRIX
    return [CheckedSemSegEvaluator(name, output_dir=output_dir, confusion_matrix=draws)]


def _instance_ap(cfg: CfgNode, name: str, output_dir: str) -> list[DatasetEvaluator]:
    things = MetadataCatalog.get(name).get("thing_dataset_id_to_contiguous_id", None) or {}
    come_first = sorted(things.values()) == list(range(len(things)))  # as Detectron2 expects
    if find_task(cfg) == "universal" or not come_first:
        return [ThingsEvaluator(name, output_dir)]
    return [COCOEvaluator(name, output_dir=output_dir, kpt_oks_sigmas=cfg.TEST.KEYPOINT_OKS_SIGMAS)]


def build_evaluators(cfg: CfgNode, name: str) -> list[DatasetEvaluator]:
    """Build the evaluators of a dataset. They write to OUTPUT_DIR/inference/<name>.

    Raises:
        UnknownKeyError: The dataset's `evaluator_type` is not registered.
        InputError: It needs a package that isn't installed, or scores nothing that the model
            predicts.
    """
    evaluator_type = MetadataCatalog.get(name).get("evaluator_type", None)
    key = f"the evaluator_type of dataset {name!r}"
    build = get_registered(EVALUATORS_REGISTRY, evaluator_type, key)
    with optional_packages(f"{key}, {evaluator_type!r},"):
        return build(cfg, name, os.path.join(cfg.OUTPUT_DIR, "inference", name))
