"""Operations of fused attention: those of the explicit products, in fvcore's and torch's count."""

import pytest
import torch
from benchmarking.measure import _FLOPS
from detectron2.utils.analysis import FlopCountAnalysis
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from metaprompt_d2.modeling import attention_flops, attention_products, count_attention


class Fused(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value)


class Explicit(nn.Module):
    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        weights = (query @ key.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(dim=-1)
        return weights @ value


# Self-attention, and cross-attention with values of another width.
SHAPES = [
    ((2, 4, 9, 8), (2, 4, 9, 8), (2, 4, 9, 8)),
    ((1, 2, 16, 8), (1, 2, 5, 8), (1, 2, 5, 6)),
]


@pytest.mark.parametrize("shapes", SHAPES)
def test_fvcore_counts_fused_attention_as_the_two_products(shapes: tuple) -> None:
    inputs = tuple(map(torch.randn, shapes))
    explicit, fused = (FlopCountAnalysis(kind(), inputs) for kind in (Explicit, Fused))
    for analysis in (explicit, fused):
        analysis.unsupported_ops_warnings(False)
    assert fused.total() == 0
    fused = count_attention(FlopCountAnalysis(Fused(), inputs))
    (batch, heads, queries, width), (*_, keys, _), (*_, values) = shapes
    products = batch * heads * queries * keys * (width + values)
    assert fused.total() == explicit.total() == attention_products(*shapes) == products


@pytest.mark.parametrize("shapes", SHAPES)
def test_torch_counts_fused_attention_on_a_cpu_with_the_benchmarks_formula(shapes: tuple) -> None:
    inputs = tuple(map(torch.randn, shapes))
    counts = []
    for model in (Explicit(), Fused()):
        with FlopCounterMode(display=False, custom_mapping=_FLOPS) as counter:
            model(*inputs)
        counts.append(counter.get_total_flops())
    assert counts[0] == attention_flops(*shapes)
    # Torch's kernel for CPUs takes values of the queries' width only.
    assert counts[1] == counts[0]


@pytest.mark.parametrize("shapes", [SHAPES[0], ((1, 2, 16, 8), (1, 2, 5, 8), (1, 2, 5, 8))])
def test_the_gradient_counts_as_those_of_the_two_products(shapes: tuple) -> None:
    counts = []
    for model in (Explicit(), Fused()):
        inputs = [torch.randn(shape, requires_grad=True) for shape in shapes]
        with FlopCounterMode(display=False, custom_mapping=_FLOPS) as counter:
            model(*inputs).sum().backward()
        counts.append(counter.get_total_flops())
    (batch, heads, queries, width), (*_, keys, _), _ = shapes
    product = 2 * batch * heads * queries * keys * width
    assert counts == [6 * product] * 2  # two products, each with two gradients


def test_heads_may_share_keys() -> None:
    assert attention_products((1, 8, 3, 4), (1, 2, 5, 4), (1, 2, 5, 4)) == 8 * 3 * 5 * 8
