"""Meta prompts: learned embeddings in place of the text embeddings of Stable Diffusion."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .sizes import check_at_least_one

__all__ = ["MetaPrompts", "respond"]


class MetaPrompts(nn.Module):
    """The prompts of every refinement step (arXiv 2312.14733, section 3.1).

    Segmentation shares one raw set between the steps; depth has a set and a two-layer adapter,
    which replaces the prompts by its output, for every step.
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
        """
        Args:
            num_prompts: prompts a set.
            dim: width of a prompt, the UNet's cross-attention width.
            num_steps: refinement steps.
            per_step: one set (and adapter) for every step instead of one for all.
            adapter: pass the prompts through Linear - GELU - Linear.

        Raises:
            ValueError: `num_prompts` or `num_steps` below 1.
        """
        super().__init__()
        check_at_least_one("MODEL.META_PROMPT.NUM_PROMPTS", num_prompts)
        check_at_least_one("MODEL.META_PROMPT.REFINE_STEPS", num_steps)
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
        """
        Args:
            step: refinement step, from 0.

        Returns:
            (num_prompts, dim), the step's prompts after their adapter.
        """
        index = step if len(self.embeddings) > 1 else 0
        prompts = self.embeddings[index]
        return self.adapters[index](prompts) if self.adapters else prompts


def respond(features: Tensor, prompts: Tensor) -> Tensor:
    """Re-arrange features by prompts: the plain dot product of every position with every prompt.

    Neither scaled nor normalised nor activated (official `einsum` of model.py, section 1.6 of the
    method). A 1x1 convolution whose kernels are the prompts, which keeps the memory layout.

    Args:
        features: (N, dim, h, w).
        prompts: (num_prompts, dim).

    Returns:
        (N, num_prompts, h, w).
    """
    return F.conv2d(features, prompts[:, :, None, None])
