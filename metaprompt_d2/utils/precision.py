"""Half precision types of config nodes, and autocast."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from .errors import InputError

_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def amp_dtype(node: Any, name: str) -> torch.dtype | None:
    """Read a config node with the keys ENABLED and DTYPE; None stands for float32.

    Args:
        node: Node such as cfg.TEST.AMP.
        name: Full name of the node, for the error message.
    """
    dtype = half_precision(node.DTYPE, f"{name}.DTYPE")
    return dtype if node.ENABLED else None


def half_precision(dtype: str, key: str) -> torch.dtype:
    """Look up the half precision type that a key holds.

    Raises:
        InputError: It is neither "float16" nor "bfloat16".
    """
    if dtype not in _DTYPES:
        raise InputError(f"{key} is {dtype!r}, expected one of {list(_DTYPES)}")
    return _DTYPES[dtype]


def autocast(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager:
    """Autocast to a type. None changes nothing, also within another autocast."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype=dtype)
