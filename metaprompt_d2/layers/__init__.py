"""Network layers and losses."""

from .deconv import DeconvStack, init_normal
from .float32 import Float32Sequential
from .losses import (
    heatmap_cross_entropy,
    lovasz_softmax,
    mean_cross_entropy,
    silog_loss,
    weighted_heatmap_mse,
)
from .resize import resize

__all__ = [
    "DeconvStack",
    "Float32Sequential",
    "heatmap_cross_entropy",
    "init_normal",
    "lovasz_softmax",
    "mean_cross_entropy",
    "resize",
    "silog_loss",
    "weighted_heatmap_mse",
]
