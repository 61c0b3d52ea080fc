"""Models of the tasks. Sizes that must agree are interpolated, so that one override does."""

from typing import Any

from detectron2.config import CfgNode
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec
from omegaconf import DictConfig

from metaprompt_d2.codecs import UDPHeatmapCodec
from metaprompt_d2.data import find_keypoint_schema, find_thing_ids
from metaprompt_d2.modeling import (
    DeconvDepthHead,
    DeconvHeatmapHead,
    DepthEstimator,
    Mask2FormerHead,
    SlidingWindowSegmentor,
    TopDownPoseEstimator,
    UniversalSegmentor,
    UPerHead,
    meta_prompt_backbone,
)


def _features(model: str) -> dict[str, ShapeSpec]:
    """List the rearranged features of `MetaPromptBackbone`, with one channel per prompt.

    Args:
        model: Relative path, such as "..", from the node that holds the channels to the model.
    """
    channels = f"${{{model}backbone.refinement.meta_prompts.num_prompts}}"
    strides = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}
    return {name: ShapeSpec(channels=channels, stride=stride) for name, stride in strides.items()}


def build_model(cfg: CfgNode) -> DictConfig:
    """Build the node of the meta-architecture that MODEL.META_ARCHITECTURE names."""
    return _META_ARCHITECTURES[cfg.MODEL.META_ARCHITECTURE](cfg)


def build_backbone(cfg: CfgNode) -> DictConfig:
    """Build the node of a `MetaPromptBackbone`."""
    diffusion, prompt = cfg.MODEL.DIFFUSION, cfg.MODEL.META_PROMPT
    unet, vae, lora = diffusion.UNET, diffusion.VAE, diffusion.LORA
    backbone = meta_prompt_backbone(
        num_prompts=prompt.NUM_PROMPTS,
        num_steps=prompt.REFINE_STEPS,
        per_step=prompt.PER_STEP,
        adapter=prompt.ADAPTER,
        rearrange=prompt.REARRANGE,
        norm_num_groups=prompt.NORM_NUM_GROUPS,
        deconv_channels=prompt.DECONV_CHANNELS,
        out_features=prompt.OUT_FEATURES,
        freeze_unet=diffusion.FREEZE_UNET,
        gradient_checkpointing=diffusion.GRADIENT_CHECKPOINTING,
        checkpointed_levels=diffusion.GRADIENT_CHECKPOINTING_LEVELS,
        lora=dict(rank=lora.RANK, alpha=lora.ALPHA, targets=lora.TARGETS) if lora.RANK else None,
        diffusion_weights="${train.diffusion.weights}",
    )
    backbone.latent_encoder.update(
        block_out_channels=vae.BLOCK_OUT_CHANNELS,
        layers_per_block=vae.LAYERS_PER_BLOCK,
        latent_channels=vae.LATENT_CHANNELS,
        norm_num_groups=vae.NORM_NUM_GROUPS,
    )
    backbone.refinement.unet.update(
        block_out_channels=unet.BLOCK_OUT_CHANNELS,
        layers_per_block=unet.LAYERS_PER_BLOCK,
        cross_attention_dim=unet.CROSS_ATTENTION_DIM,
        num_heads=unet.NUM_HEADS_PER_LEVEL or unet.NUM_HEADS,
        norm_num_groups=unet.NORM_NUM_GROUPS,
        linear_projection=unet.LINEAR_PROJECTION,
    )
    return backbone


def _build_segmentor(cfg: CfgNode) -> DictConfig:
    return L(SlidingWindowSegmentor)(**_segmentor_arguments(cfg, UPerHead))


def _build_universal_segmentor(cfg: CfgNode) -> DictConfig:
    test = cfg.MODEL.MASK2FORMER.TEST
    return L(UniversalSegmentor)(
        **_segmentor_arguments(cfg, Mask2FormerHead),
        semantic=test.SEMANTIC_ON,
        panoptic=test.PANOPTIC_ON,
        instances=test.INSTANCE_ON,
        thing_ids=L(find_thing_ids)(dataset_names=cfg.DATASETS.TRAIN) if test.PANOPTIC_ON else None,
        score_threshold=test.OBJECT_MASK_THRESHOLD,
        overlap_threshold=test.OVERLAP_THRESHOLD,
        max_instances=cfg.TEST.DETECTIONS_PER_IMAGE,
    )


def _segmentor_arguments(
    cfg: CfgNode, head_class: type[UPerHead] | type[Mask2FormerHead]
) -> dict[str, Any]:
    windows = cfg.TEST.SLIDING_WINDOW
    head = head_class.from_config(cfg, _features("...."))
    head["input_shape"] = {
        name: L(ShapeSpec)(channels=shape.channels, stride=shape.stride)
        for name, shape in head["input_shape"].items()
    }
    return dict(
        backbone=build_backbone(cfg),
        sem_seg_head=L(head_class)(**head),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        window_size=windows.SIZE if windows.ENABLED else None,  # None: whole images
        window_stride=windows.STRIDE if windows.ENABLED else None,
        window_batch_size=windows.BATCH_SIZE,
    )


def _build_depth_estimator(cfg: CfgNode) -> DictConfig:
    return L(DepthEstimator)(
        backbone=build_backbone(cfg),
        depth_head=L(DeconvDepthHead)(**DeconvDepthHead.from_config(cfg, _features(".."))),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        resize_scale=cfg.MODEL.DEPTH_HEAD.RESIZE_SCALE,
        num_windows=cfg.TEST.SHIFTED_WINDOWS.COUNT,
        cover_all=cfg.TEST.SHIFTED_WINDOWS.COVER_ALL,
        flip=cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP,
        window_batch_size=cfg.TEST.SLIDING_WINDOW.BATCH_SIZE,
    )


def _build_pose_estimator(cfg: CfgNode) -> DictConfig:
    head = DeconvHeatmapHead.from_config(cfg, _features(".."))
    codec = L(UDPHeatmapCodec)(
        crop_size=cfg.INPUT.PERSON_CROP.SIZE,
        heatmap_size=head["heatmap_size"],
        sigma=head["sigma"],
        blur_kernel=cfg.MODEL.HEATMAP_HEAD.BLUR_KERNEL,
    )
    head.update(heatmap_size="${..codec.heatmap_size}", sigma="${..codec.sigma}")
    return L(TopDownPoseEstimator)(
        backbone=build_backbone(cfg),
        heatmap_head=L(DeconvHeatmapHead)(**head),
        pixel_mean=cfg.MODEL.PIXEL_MEAN,
        pixel_std=cfg.MODEL.PIXEL_STD,
        schema=L(find_keypoint_schema)(dataset_name=cfg.DATASETS.TRAIN[0]),
        codec=codec,
        padding=cfg.INPUT.PERSON_CROP.PADDING,
        size_divisibility=cfg.MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY,
        flip=cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP,
        batch_size=cfg.TEST.POSE.BATCH_SIZE,
    )


_META_ARCHITECTURES = {
    "DepthEstimator": _build_depth_estimator,
    "SlidingWindowSegmentor": _build_segmentor,
    "TopDownPoseEstimator": _build_pose_estimator,
    "UniversalSegmentor": _build_universal_segmentor,
}
