"""Operations of fused attention, which counters don't see by themselves."""

import math
from collections.abc import Sequence
from typing import Any


def attention_products(query: Sequence[int], key: Sequence[int], value: Sequence[int]) -> int:
    """Count the multiplications of the two products of `scaled_dot_product_attention`.

    Args:
        query: Shape (..., heads, queries, width).
        key: Shape (..., heads, keys, width), with as many heads or fewer.
        value: Shape (..., heads, keys, width of the values).
    """
    return math.prod(query[:-1]) * key[-2] * (query[-1] + value[-1])


def attention_flops(
    query: Sequence[int], key: Sequence[int], value: Sequence[int], *_: Any, **__: Any
) -> int:
    """Count multiplications and additions, as `torch.utils.flop_counter` does."""
    return 2 * attention_products(query, key, value)


def attention_gradient_flops(
    gradient: Sequence[int],
    query: Sequence[int],
    key: Sequence[int],
    value: Sequence[int],
    *_: Any,
    **__: Any,
) -> int:
    """Count multiplications and additions of the gradient of `scaled_dot_product_attention`.

    Each of the two products has two gradients. Fused kernels also compute the scores again, which
    torch's own formula counts; it is left out here, as utilization is about the model's operations.

    Args:
        gradient: Shape of the output's gradient.
        query, key, value: As in `attention_products`.
    """
    return 2 * attention_flops(query, key, value)


def count_attention(analysis: Any) -> Any:
    """Let fvcore's counter see fused attention; it would count nothing.

    fvcore and Detectron2 count a multiplication and its addition as one operation.

    Args:
        analysis: `FlopCountAnalysis` of fvcore or of `detectron2.utils.analysis`.

    Returns:
        The same object.
    """
    return analysis.set_op_handle("aten::scaled_dot_product_attention", _count)


def _count(inputs: list[Any], outputs: list[Any]) -> int:
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    return attention_products(query, key, value)
