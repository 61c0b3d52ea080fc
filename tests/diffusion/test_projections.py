"""Kept projections: the numbers of fresh ones, whatever happened to the weights meanwhile."""

import copy
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

import pytest
import torch
from helpers import smallest_refinement, smallest_unet
from torch import Tensor, nn

from metaprompt_d2.diffusion import MetaPrompts, RecurrentRefinement
from metaprompt_d2.diffusion.lora import add_lora, merge_lora
from metaprompt_d2.diffusion.projections import ConditionLinear

LATENT = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))


def kept(refinement: RecurrentRefinement) -> list[Tensor]:
    with torch.no_grad():
        return refinement(LATENT).features


def fresh(refinement: RecurrentRefinement) -> list[Tensor]:
    """With gradients nothing is kept."""
    return [feature.detach() for feature in refinement(LATENT).features]


def assert_equal(ours: list[Tensor], expected: list[Tensor]) -> None:
    for feature, other in zip(ours, expected, strict=True):
        torch.testing.assert_close(feature, other, rtol=1e-4, atol=1e-5)


def an_update(refinement: RecurrentRefinement) -> None:
    for feature in refinement(LATENT).features:
        feature.square().mean().backward(retain_graph=True)
    torch.optim.AdamW(refinement.parameters(), lr=0.1, fused=True).step()


def other_weights(refinement: RecurrentRefinement) -> None:
    state = refinement.state_dict()
    refinement.load_state_dict({name: value + 0.1 for name, value in state.items()})


def other_prompts(refinement: RecurrentRefinement) -> None:
    with torch.no_grad():
        refinement.meta_prompts.embeddings[0].add_(1)


def other_step_embedding(refinement: RecurrentRefinement) -> None:
    with torch.no_grad():
        refinement.step_embeddings[-1].add_(1)


def written_through_data(refinement: RecurrentRefinement) -> None:
    refinement.train()
    for parameter in refinement.parameters():
        parameter.data.add_(0.1)
    refinement.eval()


def another_layer(refinement: RecurrentRefinement) -> None:
    layer = next(m for m in refinement.modules() if isinstance(m, ConditionLinear))
    layer.weight = nn.Parameter(layer.weight.detach() + 1)


@pytest.mark.parametrize(
    "change",
    [
        an_update,
        other_weights,
        other_prompts,
        other_step_embedding,
        written_through_data,
        another_layer,
    ],
)
@pytest.mark.parametrize("arguments", [{}, {"per_step": True, "adapter": True}])
def test_after_a_change_of_weights_the_numbers_are_those_of_fresh_projections(
    change: Callable[[RecurrentRefinement], None], arguments: dict
) -> None:
    refinement = smallest_refinement(3, **arguments).eval()
    before = kept(refinement)
    assert_equal(before, fresh(refinement))
    change(refinement)
    after = kept(refinement)
    assert_equal(after, fresh(refinement))
    assert not any(torch.allclose(a, b) for a, b in zip(before, after, strict=True))


def test_adapters_and_their_merging_are_followed() -> None:
    pytest.importorskip("peft")
    refinement = smallest_refinement(1).eval()
    before = kept(refinement)
    add_lora(refinement.unet, rank=2, alpha=2.0, targets=["to_k", "to_v", "time_emb_proj"])
    for name, parameter in refinement.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter)
    adapted = kept(refinement)
    assert_equal(adapted, fresh(refinement))
    assert not torch.allclose(adapted[0], before[0])
    kept(refinement)
    merge_lora(refinement)
    assert_equal(kept(refinement), adapted)


def test_projections_are_made_once_a_step_for_all_images() -> None:
    refinement = smallest_refinement(2).eval()
    layers = [m for m in refinement.modules() if isinstance(m, ConditionLinear)]
    assert len(layers) == 2 * 10 + 14  # keys and values, residual blocks
    with patch.object(nn.Linear, "forward", autospec=True, side_effect=nn.Linear.forward) as calls:
        first = kept(refinement)
        made = [call.args for call in calls.call_args_list if call.args[0] in layers]
        calls.reset_mock()
        second = kept(refinement)
        again = [call.args for call in calls.call_args_list if call.args[0] in layers]
    assert len(made) == 2 * len(layers)
    assert {len(x) for _, x in made} == {1}  # for one item of the batch
    assert again == []
    for ours, expected in zip(second, first, strict=True):
        assert torch.equal(ours, expected)


def test_gradients_flow_after_inference() -> None:
    refinement = smallest_refinement(2)
    kept(refinement)
    sum(feature.square().mean() for feature in refinement(LATENT).features).backward()
    assert [name for name, p in refinement.named_parameters() if p.grad is None] == []


def test_another_type_and_autocast_are_noticed() -> None:
    refinement = smallest_refinement(2).eval()
    exact = kept(refinement)
    with torch.autocast("cpu", torch.bfloat16):
        rough = kept(refinement)
    assert rough[0].dtype == torch.bfloat16
    assert_equal(kept(refinement), exact)
    refinement.double()
    assert kept(refinement)[0].dtype == torch.float64
    assert_equal([feature.float() for feature in kept(refinement)], exact)


def test_inference_mode_and_copies_work() -> None:
    refinement = smallest_refinement(2).eval()
    with torch.inference_mode():
        first = refinement(LATENT).features
    assert_equal(first, kept(refinement))
    other = copy.deepcopy(refinement)
    other_prompts(other)
    assert_equal(kept(other), fresh(other))
    assert_equal(kept(refinement), first)


def test_an_error_within_a_pass_leaves_the_layers_as_they_were() -> None:
    refinement = smallest_refinement(1).eval()
    kept(refinement)
    with pytest.raises(RuntimeError), torch.no_grad():
        refinement(torch.randn(1, 3, 8, 8))
    layers = [m for m in refinement.modules() if isinstance(m, ConditionLinear)]
    assert {layer.output for layer in layers} == {None}


def test_threads_that_share_a_model_do_not_mix_their_steps() -> None:
    refinement = smallest_refinement(3, per_step=True).eval()
    expected = kept(refinement)
    with ThreadPoolExecutor(4) as pool:
        for features in pool.map(kept, [refinement] * 12):
            assert_equal(features, expected)


def test_compiled_passes_use_them_and_follow_changes() -> None:
    refinement = RecurrentRefinement(
        unet=smallest_unet(block_out_channels=(8, 16)),
        meta_prompts=MetaPrompts(num_prompts=6, dim=16, num_steps=1),
        num_steps=1,
    ).eval()
    eager = copy.deepcopy(refinement)
    refinement.unet.compile(backend="eager", fullgraph=True)
    before = kept(refinement)
    assert_equal(before, kept(eager))
    for model in (refinement, eager):
        other_weights(model)
    after = kept(refinement)
    assert_equal(after, kept(eager))
    assert not torch.allclose(after[0], before[0])
