"""Data loaders, augmentations, evaluators and test-time augmentation of the tasks."""

from typing import Any

import detectron2.data.transforms as T
from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from detectron2.data import MetadataCatalog
from detectron2.evaluation import CityscapesInstanceEvaluator
from omegaconf import DictConfig, OmegaConf
from torch import nn

from metaprompt_d2.data import (
    BrightnessContrast,
    ColorAugSSD,
    CropOfSeveralClasses,
    CutDepth,
    DepthMapper,
    Gamma,
    HalfBody,
    HueSaturationValue,
    JitterCenter,
    MirrorPerson,
    PadToSize,
    PoseMapper,
    RandomWindow,
    ResizeToBox,
    ScaleAndRotate,
    SemSegMapper,
    UniversalMapper,
    build_test_loader,
    build_train_loader,
    load_dataset_dicts,
)
from metaprompt_d2.evaluation import (
    CheckedSemSegEvaluator,
    DepthEvaluator,
    DistributedCityscapesSemSegEvaluator,
    MergedEvaluators,
    PictureWriter,
    ThingsEvaluator,
    TopDownKeypointEvaluator,
    scored_outputs,
)
from metaprompt_d2.modeling import DenseModelWithTTA
from metaprompt_d2.utils.tasks import find_task


def build_dataloader(cfg: CfgNode) -> DictConfig:
    """Build `dataloader`: train, test and evaluator."""
    build_mapper = _MAPPERS[find_task(cfg)]
    (test_name,) = cfg.DATASETS.TEST
    dataloader = OmegaConf.create(flags={"allow_objects": True})
    dataloader.train = L(build_train_loader)(
        dataset=L(load_dataset_dicts)(names=cfg.DATASETS.TRAIN),
        mapper=build_mapper(cfg, is_train=True),
        seed="${train.seed}",
        total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
        accumulation_steps="${train.accumulation_steps}",
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    dataloader.test = L(build_test_loader)(
        dataset=L(load_dataset_dicts)(names=test_name),
        mapper=build_mapper(cfg, is_train=False),
        num_workers=cfg.DATALOADER.NUM_WORKERS,
    )
    dataloader.evaluator = _build_evaluator(cfg, test_name)
    return dataloader


# By name, because its package panopticapi is optional.
_PANOPTIC_QUALITY = "metaprompt_d2.evaluation.panoptic.PanopticQualityEvaluator"
_EVALUATORS: dict[str, dict[str, list]] = {  # by the dataset's evaluator_type and the output
    "cityscapes_instance": {"instances": [CityscapesInstanceEvaluator]},
    "cityscapes_panoptic_seg": {
        "semantic": [DistributedCityscapesSemSegEvaluator],
        "instances": [CityscapesInstanceEvaluator],
        "panoptic": [_PANOPTIC_QUALITY],
    },
    "cityscapes_sem_seg": {
        "semantic": [DistributedCityscapesSemSegEvaluator, CheckedSemSegEvaluator]
    },
    "coco": {"instances": [ThingsEvaluator]},
    "coco_panoptic_seg": {
        "semantic": [CheckedSemSegEvaluator],
        "instances": [ThingsEvaluator],
        "panoptic": [_PANOPTIC_QUALITY],
    },
    "coco_person_topdown": {"keypoints": [TopDownKeypointEvaluator]},
    "depth": {"depth": [DepthEvaluator]},
    "sem_seg": {"semantic": [CheckedSemSegEvaluator]},
}


def _build_evaluator(cfg: CfgNode, test_name: str) -> DictConfig:
    name = {"dataset_name": "${dataloader.test.dataset.names}"}
    folder = {"output_dir": "${train.output_dir}/inference/${dataloader.test.dataset.names}"}
    options = {
        CityscapesInstanceEvaluator: {},
        DistributedCityscapesSemSegEvaluator: {},
        _PANOPTIC_QUALITY: {},
        TopDownKeypointEvaluator: {
            **folder,
            "keypoint_score_threshold": cfg.TEST.POSE.JOINT_SCORE_THRESH,
            "oks_nms_threshold": cfg.TEST.POSE.OKS_NMS_THRESH,
            "oks_sigmas": cfg.TEST.KEYPOINT_OKS_SIGMAS,
        },
    }
    by_output = _EVALUATORS[MetadataCatalog.get(test_name).evaluator_type]
    evaluators = [
        L(kind)(**name, **options.get(kind, folder))
        for output in scored_outputs(cfg, test_name, list(by_output))
        for kind in by_output[output]
    ]
    pictures = L(PictureWriter)(**name, **folder, num_pictures=cfg.TEST.NUM_PICTURES)
    return L(MergedEvaluators)(evaluators=[*evaluators, pictures])


def _build_sem_seg_mapper(cfg: CfgNode, *, is_train: bool) -> DictConfig:
    return L(SemSegMapper)(**_segmentation_mapper_arguments(cfg, is_train))


def _build_universal_mapper(cfg: CfgNode, *, is_train: bool) -> DictConfig:
    queries = "${model.sem_seg_head.num_queries}"
    return L(UniversalMapper)(**_segmentation_mapper_arguments(cfg, is_train), max_masks=queries)


def _segmentation_mapper_arguments(cfg: CfgNode, is_train: bool) -> dict[str, Any]:
    crop = cfg.INPUT.CROP
    augmentations = [
        L(ResizeToBox)(
            long_side=cfg.INPUT.MAX_SIZE_TRAIN,
            short_side=cfg.INPUT.MIN_SIZE_TRAIN[0],
            scale_range=cfg.INPUT.SCALE_RANGE,
        ),
        L(CropOfSeveralClasses)(
            crop_type=crop.TYPE,
            crop_size=crop.SIZE,
            single_category_max_area=crop.SINGLE_CATEGORY_MAX_AREA,
            ignored_category=cfg.MODEL.SEM_SEG_HEAD.IGNORE_VALUE,
        ),
        _build_flip(),
        *([L(ColorAugSSD)(image_format=cfg.INPUT.FORMAT)] if cfg.INPUT.COLOR_AUG_SSD else []),
        L(PadToSize)(size=crop.SIZE, pad_value="${model.pixel_mean}"),
    ]
    return dict(
        is_train=is_train,
        augmentations=augmentations if is_train else _build_test_resizing(cfg),
        num_classes="${model.sem_seg_head.num_classes}",
    )


def _build_depth_mapper(cfg: CfgNode, *, is_train: bool) -> DictConfig:
    def sometimes(augmentation: DictConfig, probability: float) -> list[DictConfig]:
        return [L(T.RandomApply)(tfm_or_aug=augmentation, prob=probability)] if probability else []

    if not is_train:
        return L(DepthMapper)(is_train=False, augmentations=_build_test_resizing(cfg))
    aug, short_side = cfg.INPUT.DEPTH_AUG, cfg.INPUT.MIN_SIZE_TRAIN[0]
    resize = L(ResizeToBox)(long_side=cfg.INPUT.MAX_SIZE_TRAIN, short_side=short_side)
    color = L(HueSaturationValue)(hue=aug.HUE, saturation=aug.SATURATION, value=aug.VALUE)
    brightness = L(BrightnessContrast)(brightness=aug.BRIGHTNESS, contrast=aug.CONTRAST)
    return L(DepthMapper)(
        is_train=True,
        augmentations=[
            *([resize] if short_side else []),
            *sometimes(L(CutDepth)(max_depth="${model.depth_head.max_depth}"), aug.CUT_DEPTH_PROB),
            _build_flip(),
            L(RandomWindow)(size=cfg.INPUT.CROP.SIZE),
            *sometimes(brightness, aug.BRIGHTNESS_CONTRAST_PROB),
            *sometimes(L(Gamma)(gamma_range=aug.GAMMA_RANGE), aug.GAMMA_PROB),
            *sometimes(color, aug.HSV_PROB),
        ],
    )


def _build_pose_mapper(cfg: CfgNode, *, is_train: bool) -> DictConfig:
    aug = cfg.INPUT.POSE_AUG
    augmentations = [
        L(JitterCenter)(probability=aug.CENTER_JITTER_PROB, amount=aug.CENTER_JITTER),
        L(MirrorPerson)(schema="${model.schema}"),
        L(HalfBody)(
            schema="${model.schema}",
            probability=aug.HALF_BODY_PROB,
            min_keypoints=aug.HALF_BODY_MIN_JOINTS,
            upper_probability=aug.HALF_BODY_UPPER_PROB,
            padding=aug.HALF_BODY_PADDING,
        ),
        L(ScaleAndRotate)(
            scale=aug.SCALE, rotation=aug.ROTATION, rotation_probability=aug.ROTATION_PROB
        ),
    ]
    test_options = {} if is_train else {"test_batch_size": cfg.TEST.POSE.PEOPLE_PER_BATCH}
    return L(PoseMapper)(
        is_train=is_train,
        schema="${model.schema}",
        codec="${model.codec}",
        augmentations=augmentations if is_train else [],
        padding="${model.padding}",
        **test_options,
    )


_MAPPERS = {
    "depth": _build_depth_mapper,
    "pose": _build_pose_mapper,
    "sem_seg": _build_sem_seg_mapper,
    "universal": _build_universal_mapper,
}


def _build_flip() -> DictConfig:
    return L(T.RandomFlip)(horizontal=True, vertical=False)


def _build_test_resizing(cfg: CfgNode) -> list[DictConfig]:
    """Build no resizing if test-time augmentation resizes images itself."""
    size = cfg.INPUT.MIN_SIZE_TEST
    if not size or cfg.TEST.AUG.ENABLED:
        return []
    return [L(ResizeToBox)(long_side=cfg.INPUT.MAX_SIZE_TEST, short_side=size)]


def build_tta(cfg: CfgNode) -> dict | None:
    """Build `tta`, averaging over scales and flips of the image.

    It is None for pose, and for depth at a single scale: these models average over flips
    themselves. It is None for panoptic and instance segmentation, too, which has no average.
    """
    task = find_task(cfg)
    if task == "pose":
        return None
    is_depth = task == "depth"
    segments = cfg.MODEL.MASK2FORMER.TEST
    if task == "universal" and (segments.PANOPTIC_ON or segments.INSTANCE_ON):
        return None
    boxes = DenseModelWithTTA.from_config(cfg, nn.Identity())["boxes"]
    if is_depth and boxes == [None]:
        return None
    model = L(DenseModelWithTTA)(
        boxes=boxes,
        flip=cfg.TEST.AUG.FLIP and not is_depth,
        num_channels=1 if is_depth else "${model.sem_seg_head.num_classes}",
    )
    return {"enabled": cfg.TEST.AUG.ENABLED, "model": model}
