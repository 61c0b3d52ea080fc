"""Recurrent refinement: several UNet passes, each on the latent that the last one predicted."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from .meta_prompts import MetaPrompts
from .unet import FeatureUNet


class RefinementStep(NamedTuple):
    """Input and output of one pass through the UNet."""

    latent: Tensor  # (N, latent_channels, h, w), input of the pass
    prompts: Tensor  # (num_prompts, dim), after the adapter
    features: list[Tensor]  # decoder maps, fine to coarse; the last pass may lack the finest


class RecurrentRefinement(nn.Module):
    """S passes of the UNet (docs/method.md#recurrent-refinement).

    Between two passes, the UNet's pre-trained output head turns the finest map into the next
    latent. Nothing is detached, so gradients reach all passes. Only the last pass's maps are used.
    """

    def __init__(self, *, unet: FeatureUNet, meta_prompts: MetaPrompts, num_steps: int = 3):
        """Put the parts together.

        Args:
            unet: The UNet. It loses its output head if `num_steps` is 1.
            meta_prompts: Prompts for the same number of steps.
            num_steps: Number of passes, S.
        """
        super().__init__()
        if num_steps == 1:
            unet.drop_output_head()
        self.unet = unet
        self.meta_prompts = meta_prompts
        self.step_embeddings = nn.ParameterList(
            nn.Parameter(torch.randn(1, unet.step_embedding_dim)) for _ in range(num_steps)
        )
        self.finest = 0

    def stop_at(self, finest: int) -> None:
        """Let the last pass stop at the map of a level, 0 the finest, if nobody reads finer maps.

        If there is a single pass, the layers behind that map aren't trained.
        """
        self.finest = finest
        if len(self.step_embeddings) == 1:
            self.unet.freeze_behind(finest)

    def steps(self, latent: Tensor) -> Iterator[RefinementStep]:
        """Yield every pass on a latent (N, latent_channels, h, w) in turn, for looking inside."""
        size, last = latent.shape[0], len(self.step_embeddings) - 1
        for step, embedding in enumerate(self.step_embeddings):
            prompts = self.meta_prompts(step)
            inputs = latent, embedding.expand(size, -1), prompts.expand(size, -1, -1)
            features = self.unet(*inputs, self.finest if step == last else 0)
            yield RefinementStep(latent, prompts, features)
            if step < last:
                latent = self.unet.predict_latent(features[0])

    def forward(self, latent: Tensor) -> RefinementStep:
        """Run all passes on a latent (N, latent_channels, h, w), and return the last."""
        for step in self.steps(latent):  # one at a time, to free the maps of earlier steps
            last = step
        return last
