"""Half precision: what config nodes ask for, autocast, and weights converted once."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import nn

from ..utils.errors import InputError

__all__ = ["amp_dtype", "autocast", "convert_weights", "half_precision"]

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def amp_dtype(node: Any, name: str) -> torch.dtype | None:
    """The type that a config node with ENABLED and DTYPE asks for; None for float32.

    Args:
        node: such as cfg.SOLVER.AMP.
        name: of the node, for the message.

    Raises:
        InputError: another DTYPE than "float16" and "bfloat16".
    """
    dtype = half_precision(node.DTYPE, f"{name}.DTYPE")
    return dtype if node.ENABLED else None


def half_precision(dtype: str, key: str) -> torch.dtype:
    """
    Args:
        dtype: "float16" or "bfloat16".
        key: that says so, for the message.

    Raises:
        InputError: another one.
    """
    if dtype not in _DTYPES:
        raise InputError(f"{key} is {dtype!r}, expected one of {list(_DTYPES)}")
    return _DTYPES[dtype]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Autocast to a type; None leaves things as they are, also within another autocast."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)


def convert_weights(module: nn.Module, dtype: torch.dtype) -> None:
    """Convert parameters and buffers in place, one after the other."""
    nn.Module.to(module, dtype)  # diffusers' own `to` warns of conversions
