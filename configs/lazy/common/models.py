"""The models of the three tasks at Stable Diffusion 1.5's size."""

from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from metaprompt_d2.codecs import UDPHeatmapCodec
from metaprompt_d2.diffusion import (
    FeatureUNet,
    FusedRearrangement,
    LatentEncoder,
    MetaPrompts,
    PyramidRearrangement,
    RecurrentRefinement,
)
from metaprompt_d2.modeling import (
    DeconvDepthHead,
    DeconvHeatmapHead,
    DepthEstimator,
    MetaPromptBackbone,
    SlidingWindowSegmentor,
    TopDownPoseEstimator,
    UPerHead,
)

# RGB images in [-1, 1]
PIXELS = dict(pixel_mean=[127.5, 127.5, 127.5], pixel_std=[127.5, 127.5, 127.5])
STRIDES = {"p2": 4, "p3": 8, "p4": 16, "p5": 32}


def meta_prompt_backbone(rearrangement=None, **options):
    """`MetaPromptBackbone` with a class of re-arrangement and its options, or with the raw maps."""
    if rearrangement is not None:
        rearrangement = L(rearrangement)(
            in_channels="${..refinement.unet.block_out_channels}",
            prompt_dim="${..refinement.unet.cross_attention_dim}",
            norm_num_groups=16,
            **options,
        )
    return L(MetaPromptBackbone)(
        latent_encoder=L(LatentEncoder)(
            block_out_channels=[128, 256, 512, 512],
            layers_per_block=2,
            latent_channels=4,
            norm_num_groups=32,
        ),
        refinement=L(RecurrentRefinement)(
            unet=L(FeatureUNet)(
                latent_channels="${...latent_encoder.latent_channels}",
                block_out_channels=[320, 640, 1280, 1280],
                layers_per_block=2,
                cross_attention_dim=768,
                num_heads=8,
                norm_num_groups=32,
            ),
            meta_prompts=L(MetaPrompts)(
                num_prompts=150,
                dim="${..unet.cross_attention_dim}",
                num_steps="${..num_steps}",
                per_step=False,
                adapter=False,
            ),
            num_steps=3,
        ),
        rearrangement=rearrangement,
        freeze_unet=False,
        gradient_checkpointing=False,
        checkpointed_levels=[],  # 0 the finest; none for all
        lora=None,  # or dict(rank=16, alpha=16, targets=["to_q", "to_k", "to_v", "to_out.0"])
    )


segmentor = L(SlidingWindowSegmentor)(
    backbone=meta_prompt_backbone(PyramidRearrangement),
    sem_seg_head=L(UPerHead)(
        input_shape={
            name: L(ShapeSpec)(
                channels="${....backbone.refinement.meta_prompts.num_prompts}", stride=stride
            )
            for name, stride in STRIDES.items()
        },
        num_classes=19,
        conv_dim=512,
        norm="SyncBN",
        dropout=0.1,
        aux_in_feature="p4",
        aux_loss_weight=0.4,
    ),
    **PIXELS,
    window_size=[1024, 1024],  # None: whole images
    window_stride=[512, 512],
    window_batch_size=4,
)

depth_estimator = L(DepthEstimator)(
    backbone=meta_prompt_backbone(FusedRearrangement, deconv_channels=32),
    depth_head=L(DeconvDepthHead)(
        in_channels="${..backbone.refinement.meta_prompts.num_prompts}",
        in_feature="p3",
        max_depth=10.0,
        deconv_dims=[32, 32, 32],
        deconv_kernels=[2, 2, 2],
        conv_dim=192,
    ),
    **PIXELS,
    resize_scale=1,
    num_windows=2,
    cover_all=True,
    flip=True,
    window_batch_size=4,
)
depth_estimator.backbone.refinement.meta_prompts.update(num_prompts=50, per_step=True, adapter=True)

pose_estimator = L(TopDownPoseEstimator)(
    backbone=meta_prompt_backbone(PyramidRearrangement),
    heatmap_head=L(DeconvHeatmapHead)(
        in_channels="${..backbone.refinement.meta_prompts.num_prompts}",
        in_stride=16,
        in_feature="p4",
        wiring="deconv",
        deconv_dims=[256, 256],
        deconv_kernels=[4, 4],
        stride=4,
    ),
    **PIXELS,
    codec=L(UDPHeatmapCodec)(
        crop_size=[256, 192], heatmap_size=[64, 48], sigma=2.0, blur_kernel=11
    ),
    padding=1.25,
    size_divisibility=64,
    flip=True,
    batch_size=64,
)
pose_estimator.backbone.out_features = ["p4"]
pose_estimator.backbone.refinement.meta_prompts.num_prompts = 153  # 9 a joint
