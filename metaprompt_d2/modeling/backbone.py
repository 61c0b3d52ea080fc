"""The diffusion UNet with Detectron2's backbone interface."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detectron2.config import CfgNode, configurable
from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from torch import Tensor, nn

from ..diffusion import (
    FeatureUNet,
    FusedRearrangement,
    LatentEncoder,
    MetaPrompts,
    PyramidRearrangement,
    RecurrentRefinement,
    RefinementStep,
    add_lora,
)
from ..utils.errors import InputError
from .random_weights import warn_if_random


@BACKBONE_REGISTRY.register()
class MetaPromptBackbone(Backbone):
    """Image -> latent -> S steered UNet passes -> features rearranged by the prompts.

    The backbone of "Harnessing Diffusion Models for Visual Perception with Meta Prompts", arXiv
    2312.14733. With a VAE of stride 8 and a UNet of four levels, the features are:

    * `pyramid`: p2, p3, p4, p5 (strides 4, 8, 16, 32), one channel per prompt.
    * `fused`: p3 (stride 8), one channel per prompt.
    * `none`: up3, up4, up5, up6 (strides 8, 16, 32, 64), with the UNet's widths.

    `diffusion.speedups` makes it faster, also in half precision.
    """

    @configurable
    def __init__(
        self,
        *,
        latent_encoder: LatentEncoder,
        refinement: RecurrentRefinement,
        rearrangement: PyramidRearrangement | FusedRearrangement | None,
        freeze_unet: bool = False,
        gradient_checkpointing: bool = False,
        checkpointed_levels: Sequence[int] = (),
        lora: Mapping[str, Any] | None = None,
        out_features: Sequence[str] = (),
        diffusion_weights: str = "",
    ):
        """
        Args:
            latent_encoder: Image -> latent.
            refinement: Latent -> decoder maps of the last step.
            rearrangement: Decoder maps -> features, or None for the maps themselves.
            freeze_unet: Whether the UNet keeps its weights in training.
            gradient_checkpointing: Whether the backward pass recomputes the UNet's activations.
            checkpointed_levels: Levels of the UNet that do so, 0 the finest; () for all.
            lora: Arguments of `add_lora`, which freezes the UNet except for its adapters.
            out_features: Names of the output features; () for all.
            diffusion_weights: Weights that somebody should load, since the constructor doesn't.
                The first pass warns if nobody did; "" for no warning.

        Raises:
            InputError: An output feature doesn't exist.
        """
        super().__init__()
        self.latent_encoder = latent_encoder
        self.refinement = refinement
        self.rearrangement = rearrangement
        if freeze_unet:
            refinement.unet.requires_grad_(False)
        if lora is not None:
            add_lora(refinement.unet, **lora)
        if gradient_checkpointing:
            levels = checkpointed_levels or range(len(refinement.unet.feature_channels))
            refinement.unet.checkpoint_levels(levels)
        self._all_shapes = _output_shapes(latent_encoder, refinement, rearrangement)
        names = list(self._all_shapes)
        if unknown := sorted(set(out_features) - set(names)):
            raise InputError(f"out_features names {unknown}, expected names of {names}")
        out_features = out_features or names
        self._shapes = {name: self._all_shapes[name] for name in names if name in out_features}
        levels = [names.index(name) for name in self._shapes]
        if isinstance(rearrangement, PyramidRearrangement):
            rearrangement.keep(levels)
        refinement.stop_at(min(levels))
        if diffusion_weights:
            warn_if_random(self, diffusion_weights)

    @classmethod
    def from_config(cls, cfg: CfgNode, input_shape: ShapeSpec) -> dict:
        if input_shape.channels != 3:
            raise InputError(
                f"MODEL.PIXEL_MEAN has {input_shape.channels} channels, MetaPromptBackbone takes 3"
            )
        _check_normalization(cfg)
        unet, vae, prompt = cfg.MODEL.DIFFUSION.UNET, cfg.MODEL.DIFFUSION.VAE, cfg.MODEL.META_PROMPT
        meta_prompts = MetaPrompts(
            num_prompts=prompt.NUM_PROMPTS,
            dim=unet.CROSS_ATTENTION_DIM,
            num_steps=prompt.REFINE_STEPS,
            per_step=prompt.PER_STEP,
            adapter=prompt.ADAPTER,
        )
        feature_unet = FeatureUNet(
            latent_channels=vae.LATENT_CHANNELS,
            block_out_channels=unet.BLOCK_OUT_CHANNELS,
            layers_per_block=unet.LAYERS_PER_BLOCK,
            cross_attention_dim=unet.CROSS_ATTENTION_DIM,
            num_heads=unet.NUM_HEADS_PER_LEVEL or unet.NUM_HEADS,
            norm_num_groups=unet.NORM_NUM_GROUPS,
            linear_projection=unet.LINEAR_PROJECTION,
        )
        lora = cfg.MODEL.DIFFUSION.LORA
        lora_arguments = {"rank": lora.RANK, "alpha": lora.ALPHA, "targets": lora.TARGETS}
        return {
            "latent_encoder": LatentEncoder(
                block_out_channels=vae.BLOCK_OUT_CHANNELS,
                layers_per_block=vae.LAYERS_PER_BLOCK,
                latent_channels=vae.LATENT_CHANNELS,
                norm_num_groups=vae.NORM_NUM_GROUPS,
            ),
            "refinement": RecurrentRefinement(
                unet=feature_unet, meta_prompts=meta_prompts, num_steps=prompt.REFINE_STEPS
            ),
            "rearrangement": _build_rearrangement(cfg, feature_unet.feature_channels),
            "freeze_unet": cfg.MODEL.DIFFUSION.FREEZE_UNET,
            "gradient_checkpointing": cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING,
            "checkpointed_levels": cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS,
            "lora": lora_arguments if lora.RANK != 0 else None,
            "out_features": prompt.OUT_FEATURES,
            "diffusion_weights": cfg.MODEL.DIFFUSION.WEIGHTS,
        }

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Compute the features of images.

        Args:
            images: RGB images (N, 3, H, W) in [-1, 1], of at least one latent pixel.

        Returns:
            The features named in `output_shape()`. If H or W isn't a multiple of the coarsest
            map's stride, the maps are larger than H / stride, as in the official code.
        """
        return self.features(self.encode(images))

    def encode(self, images: Tensor) -> Tensor:
        """Compute the latent (N, latent_channels, H // stride, W // stride)."""
        return self.latent_encoder(images)

    def features(self, latent: Tensor) -> dict[str, Tensor]:
        """Compute the features of `forward` from the latent of `encode`."""
        return self._named_features(self.refinement(latent))

    def steps(self, images: Tensor) -> Iterator[dict[str, Tensor]]:
        """Yield the features of every refinement step; the last are those of `forward`."""
        for step in self.refinement.steps(self.encode(images)):
            yield self._named_features(step)

    def _named_features(self, step: RefinementStep) -> dict[str, Tensor]:
        # The UNet's maps may be in half precision.
        features = [feature.to(step.prompts.dtype) for feature in step.features]
        if self.rearrangement is not None:
            features = self.rearrangement(features, step.prompts)
        names = list(self._all_shapes)[-len(features) :]  # the last step may lack the finest
        named = zip(names, features, strict=True)
        return {name: feature for name, feature in named if name in self._shapes}

    def output_shape(self) -> dict[str, ShapeSpec]:
        return dict(self._shapes)

    @property
    def size_divisibility(self) -> int:
        """Multiple to pad images to: raw maps only have their strides on such sizes."""
        if self.rearrangement is not None:
            return 0
        return max(shape.stride for shape in self._all_shapes.values())


def _check_normalization(cfg: CfgNode) -> None:
    """Check that images arrive as Stable Diffusion saw them; Detectron2's defaults are ImageNet's.

    Means and deviations up to 1 belong to images whose range isn't known here.

    Raises:
        InputError: The channel order isn't RGB, or 0..255 doesn't become about -1..1.
    """
    expected = (
        "Stable Diffusion reads RGB images in [-1, 1]: set INPUT.FORMAT to RGB, MODEL.PIXEL_MEAN "
        "and MODEL.PIXEL_STD to [127.5, 127.5, 127.5], as configs/Base-MetaPrompt.yaml does"
    )
    if cfg.INPUT.FORMAT != "RGB":
        raise InputError(f"INPUT.FORMAT is {cfg.INPUT.FORMAT!r}. {expected}")
    for mean, std in zip(cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD, strict=True):
        low, high = -mean / std, (255 - mean) / std
        if max(mean, std) > 1 and max(abs(low + 1), abs(high - 1)) > 0.1:
            raise InputError(
                f"MODEL.PIXEL_MEAN {cfg.MODEL.PIXEL_MEAN} and MODEL.PIXEL_STD "
                f"{cfg.MODEL.PIXEL_STD} bring 0..255 to {low:.1f}..{high:.1f}. {expected}"
            )


def _build_rearrangement(cfg: CfgNode, in_channels: Sequence[int]) -> nn.Module | None:
    prompt = cfg.MODEL.META_PROMPT
    arguments = {
        "in_channels": in_channels,
        "prompt_dim": cfg.MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM,
        "norm_num_groups": prompt.NORM_NUM_GROUPS,
    }
    if prompt.REARRANGE == "pyramid":
        return PyramidRearrangement(**arguments)
    if prompt.REARRANGE == "fused":
        return FusedRearrangement(**arguments, deconv_channels=prompt.DECONV_CHANNELS)
    return None


def _output_shapes(
    latent_encoder: LatentEncoder,
    refinement: RecurrentRefinement,
    rearrangement: nn.Module | None,
) -> dict[str, ShapeSpec]:
    """List the features' names (with log2 of the stride, as in Detectron2), channels, strides."""
    channels = refinement.unet.feature_channels
    strides = [latent_encoder.stride * 2**level for level in range(len(channels))]
    prefix = "up"
    if rearrangement is not None:
        prefix, channels = "p", (refinement.meta_prompts.num_prompts,) * len(channels)
    if isinstance(rearrangement, PyramidRearrangement):
        strides = [stride // 2 for stride in strides]
    if isinstance(rearrangement, FusedRearrangement):
        strides = strides[:1]
    return {
        f"{prefix}{stride.bit_length() - 1}": ShapeSpec(channels=width, stride=stride)
        for width, stride in zip(channels, strides, strict=False)
    }
