"""Meta prompts: sharing, adapters, and the rearrangement's dot product."""

import pytest
import torch
from torch.nn import functional as F

from metaprompt_d2.diffusion import MetaPrompts, respond


def test_shared_prompts_are_the_same_raw_set_in_every_step() -> None:
    prompts = MetaPrompts(num_prompts=5, dim=8, num_steps=3)
    assert len(prompts.embeddings) == 1
    assert all(prompts(step) is prompts.embeddings[0] for step in range(3))
    assert [tuple(p.shape) for p in prompts.parameters()] == [(5, 8)]


def test_every_step_has_its_own_set_if_asked_for() -> None:
    prompts = MetaPrompts(num_prompts=5, dim=8, num_steps=3, per_step=True)
    assert [prompts(step) is prompts.embeddings[step] for step in range(3)] == [True] * 3
    assert not torch.equal(prompts(0), prompts(1))


def test_the_adapter_replaces_the_prompts_by_its_output() -> None:
    prompts = MetaPrompts(num_prompts=5, dim=8, num_steps=2, per_step=True, adapter=True)
    for step in range(2):
        first, _, second = prompts.adapters[step]
        hidden = F.gelu(prompts.embeddings[step] @ first.weight.T + first.bias)
        torch.testing.assert_close(prompts(step), hidden @ second.weight.T + second.bias)


def test_a_shared_set_has_one_shared_adapter() -> None:
    prompts = MetaPrompts(num_prompts=5, dim=8, num_steps=3, adapter=True)
    assert len(prompts.adapters) == 1
    assert torch.equal(prompts(0), prompts(2))


def test_a_single_step_with_its_own_set_is_the_same_as_a_shared_one() -> None:
    prompts = MetaPrompts(num_prompts=5, dim=8, num_steps=1, per_step=True)
    assert prompts(0) is prompts.embeddings[0]


def test_prompts_are_drawn_from_a_standard_normal_distribution() -> None:
    values = MetaPrompts(num_prompts=200, dim=100).embeddings[0]
    # 20,000 draws: the mean's own deviation is 0.007, the deviation's 0.005
    assert abs(values.mean().item()) < 0.04
    assert abs(values.std().item() - 1) < 0.03


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_prompts": 0}, r"num_prompts is 0"),
        ({"num_steps": 0}, r"num_steps is 0"),
        ({"num_steps": -1}, r"num_steps is -1"),
    ],
)
def test_counts_below_one_are_refused_by_their_name(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaPrompts(**({"dim": 8} | arguments))


def test_respond_is_the_dot_product_of_every_position_with_every_prompt() -> None:
    features, prompts = torch.randn(2, 8, 3, 5).double(), torch.randn(6, 8).double()
    expected = torch.einsum("bchw,nc->bnhw", features, prompts)
    torch.testing.assert_close(respond(features, prompts), expected)


def test_respond_by_hand() -> None:
    features = torch.tensor([1.0, 2.0]).view(1, 2, 1, 1)
    prompts = torch.tensor([[3.0, 4.0], [-1.0, 0.5]])
    assert respond(features, prompts).flatten().tolist() == [11, 0]
