"""Recurrent refinement: the UNet's own output goes back in, each step with its own embedding."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .meta_prompts import MetaPrompts
from .unet import FeatureUNet

__all__ = ["RecurrentRefinement", "RefinementStep"]


class RefinementStep(NamedTuple):
    """What one pass through the UNet took and gave."""

    latent: Tensor  # (N, latent_channels, h, w), the pass's input
    prompts: Tensor  # (num_prompts, dim), after the adapter
    features: list[Tensor]  # decoder maps, fine to coarse


class RecurrentRefinement(nn.Module):
    """S passes of the UNet (arXiv 2312.14733, section 3.3).

    Between the passes the UNet's pre-trained output head turns the finest map into the next
    latent. Nothing is detached: gradients reach all passes. Only the last pass's maps are used.
    The UNet may be of another floating point type than prompts and step embeddings.
    """

    def __init__(self, *, unet: FeatureUNet, meta_prompts: MetaPrompts, num_steps: int = 3):
        """
        Args:
            unet: loses its output head where `num_steps` is 1.
            meta_prompts: made for the same number of steps.
            num_steps: S, passes through the UNet.
        """
        super().__init__()
        if num_steps == 1:
            unet.drop_output_head()
        self.unet = unet
        self.meta_prompts = meta_prompts
        self.step_embeddings = nn.ParameterList(
            nn.Parameter(torch.randn(1, unet.step_embedding_dim)) for _ in range(num_steps)
        )

    def steps(self, latent: Tensor) -> Iterator[RefinementStep]:
        """Yield every pass in turn, for looking inside.

        Args:
            latent: (N, latent_channels, h, w) from the VAE encoder.
        """
        dtype, batch_size = self.unet.dtype, latent.shape[0]
        for step, embedding in enumerate(self.step_embeddings):
            prompts = self.meta_prompts(step)
            origins = [embedding, *self.meta_prompts.parameters()]
            ready, context = embedding.to(dtype), prompts.to(dtype)
            with self.unet.kept_projections.used(step, ready, context, origins):
                features = self.unet(
                    # One layout for encoder's and UNet's latents: one compiled program.
                    latent.to(dtype).contiguous(),
                    ready.expand(batch_size, -1),
                    context.expand(batch_size, -1, -1),
                )
            yield RefinementStep(latent, prompts, features)
            if step + 1 < len(self.step_embeddings):
                latent = self.unet.predict_latent(features[0])

    def forward(self, latent: Tensor) -> RefinementStep:
        """
        Args:
            latent: (N, latent_channels, h, w) from the VAE encoder.

        Returns:
            the last pass.
        """
        for step in self.steps(latent):
            last = step
        return last
