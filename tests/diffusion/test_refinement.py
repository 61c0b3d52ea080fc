"""Recurrent refinement: passes, what goes in between them, and where gradients go."""

import pytest
import torch
from helpers import smallest_refinement

from metaprompt_d2.diffusion import RecurrentRefinement


def passes(refinement: RecurrentRefinement) -> list:
    """What every pass of the UNet gets, recorded while `refinement` runs."""
    calls: list = []
    refinement.unet.register_forward_pre_hook(lambda _, inputs: calls.append(inputs))
    return calls


@pytest.mark.parametrize("num_steps", [1, 2, 4])
def test_the_unet_runs_once_a_step(num_steps: int) -> None:
    refinement = smallest_refinement(num_steps)
    calls = passes(refinement)
    refinement(torch.randn(1, 4, 8, 8))
    assert len(calls) == num_steps


def test_every_step_gets_its_own_embedding_and_prompts() -> None:
    refinement = smallest_refinement(3, per_step=True, adapter=True)
    calls = passes(refinement)
    refinement(torch.randn(2, 4, 8, 8))
    for step, (_, embedding, context, _) in enumerate(calls):
        assert torch.equal(embedding, refinement.step_embeddings[step].expand(2, -1))
        assert torch.equal(context, refinement.meta_prompts(step).expand(2, -1, -1))


def test_the_next_latent_is_what_the_output_head_makes_of_the_finest_map() -> None:
    refinement = smallest_refinement(3)
    latent = torch.randn(1, 4, 9, 12)
    with torch.no_grad():
        first, second, third = refinement.steps(latent)
    assert torch.equal(first.latent, latent)
    for before, after in ((first, second), (second, third)):
        head = refinement.unet
        expected = head.conv_out(head.conv_act(head.conv_norm_out(before.features[0])))
        torch.testing.assert_close(after.latent, expected)
    # An odd side works on the larger grid from the second step on.
    assert first.latent.shape[2:] == (9, 12)
    assert second.latent.shape[2:] == third.latent.shape[2:] == (16, 16)


def test_the_result_is_the_last_step() -> None:
    refinement = smallest_refinement(2, per_step=True)
    latent = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        *_, last = refinement.steps(latent)
        result = refinement(latent)
    assert torch.equal(result.prompts, refinement.meta_prompts(1))
    for ours, expected in zip(result.features, last.features, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("arguments", [{}, {"per_step": True, "adapter": True}])
def test_gradients_reach_every_steps_parameters(arguments: dict) -> None:
    refinement = smallest_refinement(3, **arguments)
    latent = torch.randn(1, 4, 8, 8)
    sum(feature.square().mean() for feature in refinement(latent).features).backward()
    for name, parameter in refinement.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    for embedding in (*refinement.step_embeddings, *refinement.meta_prompts.embeddings):
        assert embedding.grad.abs().max() > 0


def test_the_output_head_is_one_for_all_transitions() -> None:
    refinement = smallest_refinement(4)
    heads = [name for name, _ in refinement.named_parameters() if "conv_out" in name]
    assert heads == ["unet.conv_out.weight", "unet.conv_out.bias"]
    calls = []
    refinement.unet.conv_out.register_forward_hook(lambda *_: calls.append(1))
    refinement(torch.randn(1, 4, 8, 8))
    assert len(calls) == 3  # between four passes, not after the last


def test_step_embeddings_fit_the_unet() -> None:
    refinement = smallest_refinement(2)
    assert [tuple(p.shape) for p in refinement.step_embeddings] == [(1, 32)] * 2


def test_step_embeddings_are_drawn_from_a_standard_normal_distribution() -> None:
    values = torch.cat([p.flatten() for p in smallest_refinement(200).step_embeddings])
    # 6,400 draws: the mean's own deviation is 0.0125, the deviation's 0.009
    assert abs(values.mean().item()) < 0.06
    assert abs(values.std().item() - 1) < 0.05


def test_only_refinement_keeps_the_output_head() -> None:
    assert hasattr(smallest_refinement(2).unet, "conv_out")
    assert not hasattr(smallest_refinement(1).unet, "conv_out")


@pytest.mark.parametrize("num_steps", [1, 3])
def test_only_the_last_pass_stops_at_the_level_that_is_read(num_steps: int) -> None:
    refinement = smallest_refinement(num_steps)
    latent = torch.randn(1, 4, 8, 8)
    with torch.no_grad():
        every = refinement(latent)
        refinement.stop_at(2)
        *earlier, last = refinement.steps(latent)
    assert [len(step.features) for step in earlier] == [4] * (num_steps - 1)
    for value, expected in zip(last.features, every.features[2:], strict=True):
        assert torch.equal(value, expected)


@pytest.mark.parametrize("num_steps", [1, 2])
def test_what_no_pass_runs_is_not_trained(num_steps: int) -> None:
    refinement = smallest_refinement(num_steps)
    refinement.stop_at(2)
    features = refinement(torch.randn(1, 4, 8, 8)).features
    sum(feature.square().mean() for feature in features).backward()
    named = dict(refinement.named_parameters())
    assert {name for name, p in named.items() if p.requires_grad} == {
        name for name, p in named.items() if p.grad is not None
    }
    # A second pass reads the latent that the first one's finest map gives.
    assert named["unet.up_blocks.3.resnets.0.conv1.weight"].requires_grad == (num_steps == 2)
