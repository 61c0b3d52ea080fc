"""What objects were made with, for comparing those of two configs."""

from dataclasses import fields, is_dataclass
from types import FunctionType, MethodType

import numpy as np
import torch
from omegaconf import DictConfig, ListConfig
from torch import nn


def describe(value: object) -> object:
    """All that an object was made with, in plain values that can be compared."""
    if isinstance(value, torch.Tensor | np.ndarray):
        return value.tolist() if np.prod(value.shape) < 100 else tuple(value.shape)
    if isinstance(value, dict | DictConfig):
        return {key: describe(item) for key, item in value.items() if key != "_target_"}
    if isinstance(value, list | tuple | ListConfig | set):
        return [describe(item) for item in value]
    if isinstance(value, FunctionType | MethodType | type):
        return value.__qualname__
    if is_dataclass(value):  # without what its cached properties have computed
        return [type(value).__name__, *(describe(getattr(value, f.name)) for f in fields(value))]
    if isinstance(value, nn.Module):
        own = {key: item for key, item in vars(value).items() if not key.startswith("_")}
        parts = {name: describe(part) for name, part in value.named_children()}
        return [type(value).__name__, describe(own), parts]
    if hasattr(value, "__dict__"):
        own = {key: item for key, item in vars(value).items() if not key.startswith("__")}
        return [type(value).__name__, describe(own)]
    return value
