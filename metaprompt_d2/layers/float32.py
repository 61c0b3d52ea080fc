"""Layers that compute in float32 under autocast."""

import torch
from torch import Tensor, nn


class Float32Sequential(nn.Sequential):
    """A sequence of layers that leaves autocast, for norms over few values.

    BatchNorm divides by the deviation of its input. Over the few values of a pooled map this can be
    much smaller than their mean, and then the rounding of half precision decides the output and its
    gradient. Without autocast, the layers run as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Run the layers; the result has the type of `x`."""
        if not torch.is_autocast_enabled(x.device.type):
            return super().forward(x)
        with torch.autocast(x.device.type, enabled=False):
            return super().forward(x.float()).to(x.dtype)
