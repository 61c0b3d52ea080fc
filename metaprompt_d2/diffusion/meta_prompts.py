"""Meta prompts: learned embeddings that replace the text embeddings of Stable Diffusion."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..utils.errors import InputError


class MetaPrompts(nn.Module):
    """The prompts of every refinement step (docs/method.md#meta-prompts).

    Segmentation shares one set between the steps. Depth has a set and a two-layer adapter for
    every step; the adapter's output replaces the prompts.
    """

    def __init__(
        self,
        *,
        num_prompts: int = 150,
        dim: int = 768,
        num_steps: int = 3,
        per_step: bool = False,
        adapter: bool = False,
    ):
        """Draw the prompts from N(0, 1).

        Args:
            num_prompts: Prompts per set.
            dim: Width of a prompt, i.e. of the UNet's cross-attention.
            num_steps: Refinement steps.
            per_step: Whether every step has its own set (and adapter).
            adapter: Whether prompts pass through Linear - GELU - Linear.

        Raises:
            InputError: `num_prompts` or `num_steps` is below 1.
        """
        super().__init__()
        if min(num_prompts, num_steps) < 1:
            raise InputError(
                f"num_prompts is {num_prompts}, num_steps is {num_steps}, expected at least 1"
            )
        self.num_prompts = num_prompts
        self.dim = dim
        num_sets = num_steps if per_step else 1
        self.embeddings = nn.ParameterList(
            nn.Parameter(torch.randn(num_prompts, dim)) for _ in range(num_sets)
        )
        self.adapters = nn.ModuleList(
            nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.Linear(dim, dim))
            for _ in range(num_sets if adapter else 0)
        )

    def forward(self, step: int) -> Tensor:
        """Return the prompts (num_prompts, dim) of a step, from 0, after the adapter."""
        index = step if len(self.embeddings) > 1 else 0
        prompts = self.embeddings[index]
        return self.adapters[index](prompts) if self.adapters else prompts


def respond(features: Tensor, prompts: Tensor) -> Tensor:
    """Rearrange features by prompts: the dot product of every position with every prompt.

    Features (N, dim, h, w) and prompts (num_prompts, dim) give responses (N, num_prompts, h, w),
    which are not scaled, normalized or activated (docs/method.md#feature-rearrangement). A 1x1
    convolution with the prompts as kernels computes them, because it keeps the memory layout.
    """
    return F.conv2d(features, prompts[:, :, None, None])
