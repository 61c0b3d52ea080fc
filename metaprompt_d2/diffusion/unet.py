"""Stable Diffusion's UNet as a feature extractor: decoder maps out instead of predicted noise."""

from collections.abc import Collection, Sequence
from typing import Any

import torch
from diffusers.models.unets.unet_2d_condition import UNet2DConditionModel
from torch import Tensor
from torch.nn import functional as F

from ..utils.errors import InputError


class FeatureUNet(UNet2DConditionModel):
    """diffusers' UNet, run block by block so that its decoder states can be read.

    It differs from a denoising pass (docs/method.md#unet):

    * The caller passes the step embedding, so the time MLP is missing.
    * `forward` returns one decoder map per level: the state before the level's last residual block
      and, at the finest level, the final state. It can stop at a coarser level.
    * A skip map is resized if the decoder's map has another size, so that latents of any size
      work. A latent side n becomes 8 * ceil(n / 8) at the finest of four levels.

    Parameter names, gradient checkpointing, attention processors and adapters are diffusers' own.
    """

    def __init__(
        self,
        *,
        latent_channels: int = 4,
        block_out_channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_block: int = 2,
        cross_attention_dim: int = 768,
        num_heads: int | Sequence[int] = 8,
        norm_num_groups: int = 32,
        linear_projection: bool = False,
    ):
        """Build the UNet with random weights.

        Args:
            latent_channels: Channels of the latent, in and out.
            block_out_channels: Widths of the levels, fine to coarse. All levels but the coarsest
                have cross-attention.
            layers_per_block: Residual blocks per level of the encoder (one more in the decoder).
            cross_attention_dim: Width of the context, i.e. of the meta prompts.
            num_heads: Attention heads of all levels, or of each level.
            norm_num_groups: Groups of every group norm.
            linear_projection: Whether linear layers (Stable Diffusion 2) instead of 1x1
                convolutions (Stable Diffusion 1) surround the transformers.

        Raises:
            InputError: A width isn't a multiple of its level's attention heads.
        """
        widths = tuple(block_out_channels)
        heads = [num_heads] * len(widths) if isinstance(num_heads, int) else num_heads
        if misfits := [w for w, count in zip(widths, heads, strict=False) if w % count]:
            raise InputError(
                f"UNet: block_out_channels is {widths}, but {misfits} aren't multiples of their "
                f"level's attention heads, num_heads {tuple(heads)}"
            )
        with_attention = len(widths) - 1
        super().__init__(
            in_channels=latent_channels,
            out_channels=latent_channels,
            block_out_channels=widths,
            down_block_types=("CrossAttnDownBlock2D",) * with_attention + ("DownBlock2D",),
            up_block_types=("UpBlock2D",) + ("CrossAttnUpBlock2D",) * with_attention,
            layers_per_block=layers_per_block,
            cross_attention_dim=cross_attention_dim,
            attention_head_dim=tuple(heads),  # diffusers' name for the number of heads
            norm_num_groups=norm_num_groups,
            use_linear_projection=linear_projection,
        )
        self.step_embedding_dim = 4 * widths[0]
        self.feature_channels = widths
        del self.time_proj, self.time_embedding

    def forward(
        self, latent: Tensor, step_embedding: Tensor, context: Tensor, finest: int = 0
    ) -> list[Tensor]:
        """Run the UNet.

        Args:
            latent: Latent (N, latent_channels, h, w).
            step_embedding: Step embedding (N, step_embedding_dim), which every residual block
                receives instead of the time embedding.
            context: Keys and values (N, tokens, cross_attention_dim) of the cross-attention.
            finest: Finest level to compute, 0 for all. The decoder stops at its map.

        Returns:
            Decoder maps of the levels from `finest` on, fine to coarse: (N, feature_channels[i],
            2^k * m, 2^k * n) with the coarsest (m, n) = the latent's size halved once a level,
            rounded up.
        """
        # 1. encoder
        hidden = self.conv_in(latent)
        skips = [hidden]
        block: Any
        for block in self.down_blocks:
            if getattr(block, "has_cross_attention", False):
                hidden, outputs = block(hidden, step_embedding, encoder_hidden_states=context)
            else:
                hidden, outputs = block(hidden, step_embedding)
            skips.extend(outputs)

        # 2. middle
        hidden = self.mid_block(hidden, step_embedding, encoder_hidden_states=context)

        # 3. decoder
        features: list[Tensor] = []
        for level, block in self._decoder():
            tap = _tap(level, block)
            for index in range(tap):
                hidden = _run_layer(block, index, hidden, skips.pop(), step_embedding, context)
            features.append(hidden)
            if level == finest:
                break
            for index in range(tap, len(block.resnets)):
                hidden = _run_layer(block, index, hidden, skips.pop(), step_embedding, context)
            for upsampler in block.upsamplers:
                # diffusers' upsampler does the same, but checks torch's version, which breaks
                # compiled graphs.
                hidden = upsampler.conv(F.interpolate(hidden, scale_factor=2.0, mode="nearest"))
        return features[::-1]

    def _decoder(self) -> list[tuple[int, Any]]:
        """List the decoder's blocks with their levels, coarse to fine."""
        count = len(self.up_blocks)
        return [(count - 1 - index, block) for index, block in enumerate(self.up_blocks)]

    def checkpoint_levels(self, levels: Collection[int]) -> None:
        """Recompute activations of some levels in the backward pass instead of storing them.

        Args:
            levels: Levels to recompute. Level 0 is the finest, with the largest activations; the
                middle block belongs to the coarsest level. Other levels store their activations.

        Raises:
            InputError: The UNet doesn't have such a level.
        """
        count = len(self.feature_channels)
        if unknown := sorted(set(levels) - set(range(count))):
            raise InputError(
                f"levels to checkpoint are {sorted(levels)}; {unknown} aren't in {[*range(count)]}"
            )
        self.enable_gradient_checkpointing()
        blocks = [*enumerate(self.down_blocks), (count - 1, self.mid_block), *self._decoder()]
        for level, block in blocks:
            for module in block.modules():
                if level not in levels and hasattr(module, "gradient_checkpointing"):
                    module.gradient_checkpointing = False

    def freeze_behind(self, finest: int) -> None:
        """Freeze the layers that `forward` doesn't run for `finest`: DDP rejects unused parameters.

        They stay in the state dict, so that checkpoints fit whatever levels are read.
        """
        for level, block in self._decoder():
            if level < finest:
                block.requires_grad_(False)
            elif level == finest:
                tap = _tap(level, block)
                attentions = getattr(block, "attentions", ())
                upsamplers = block.upsamplers or ()
                for layer in (*block.resnets[tap:], *attentions[tap:], *upsamplers):
                    layer.requires_grad_(False)

    def drop_output_head(self) -> None:
        """Drop the layers of `predict_latent`, since DDP rejects unused parameters."""
        del self.conv_norm_out, self.conv_act, self.conv_out

    def predict_latent(self, finest: Tensor) -> Tensor:
        """Predict the next latent (N, latent_channels, h, w) from the finest map of `forward`.

        This is the UNet's output head, Stable Diffusion's noise prediction.
        """
        return self.conv_out(self.conv_act(self.conv_norm_out(finest)))


def _concat_skip(hidden: Tensor, skip: Tensor) -> Tensor:
    """Append an encoder map to the decoder's, resized if rounding made the sizes differ."""
    if skip.shape[-2:] != hidden.shape[-2:]:
        skip = F.interpolate(skip, size=hidden.shape[-2:], mode="bilinear", align_corners=False)
    return torch.cat([hidden, skip], dim=1)


def _tap(level: int, block: Any) -> int:
    """Return how many layers of a decoder level run before its map is read."""
    return len(block.resnets) - (0 if level == 0 else 1)


def _run_layer(
    block: Any, index: int, hidden: Tensor, skip: Tensor, step_embedding: Tensor, context: Tensor
) -> Tensor:
    """Run a residual block of a decoder level and, if the level has attention, its transformer."""
    hidden = _concat_skip(hidden, skip)
    resnet = block.resnets[index]
    if torch.is_grad_enabled() and block.gradient_checkpointing:
        hidden = block._gradient_checkpointing_func(resnet, hidden, step_embedding)
    else:
        hidden = resnet(hidden, step_embedding)
    if getattr(block, "has_cross_attention", False):
        # Transformers checkpoint their own blocks.
        transformer = block.attentions[index]
        hidden = transformer(hidden, encoder_hidden_states=context, return_dict=False)[0]
    return hidden
