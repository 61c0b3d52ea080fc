"""The UNet as a feature extractor: sizes, what it leaves out, checkpointing, errors."""

import hypothesis.strategies as st
import pytest
import torch
from diffusers import UNet2DConditionModel
from helpers import smallest_unet, unet_inputs
from hypothesis import given, settings
from torch.nn import functional as F

from metaprompt_d2.diffusion import FeatureUNet

UNET = smallest_unet().eval()


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 26), st.integers(1, 26))
def test_a_latent_of_any_size_gives_8m_4m_2m_m(height: int, width: int) -> None:
    m, n = (-(-side // 8) for side in (height, width))  # rounded up
    with torch.no_grad():
        features = UNET(*unet_inputs(UNET, height, width))
    assert [tuple(feature.shape) for feature in features] == [
        (1, 8, 8 * m, 8 * n),
        (1, 16, 4 * m, 4 * n),
        (1, 16, 2 * m, 2 * n),
        (1, 16, m, n),
    ]


@pytest.mark.parametrize(
    ("side", "sides"),
    [
        (42, [48, 24, 12, 6]),
        (53, [56, 28, 14, 7]),
        (56, [56, 28, 14, 7]),
        (65, [72, 36, 18, 9]),
        (85, [88, 44, 22, 11]),
    ],
)
def test_sides_stand_in_the_official_table(side: int, sides: list[int]) -> None:
    with torch.no_grad():
        features = UNET(*unet_inputs(UNET, side, 8))
    assert [feature.shape[2] for feature in features] == sides


def test_parameters_are_diffusers_own_without_the_time_mlp() -> None:
    theirs = UNet2DConditionModel(
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    ).state_dict()
    ours = UNET.state_dict()
    assert theirs.keys() - ours.keys() == {
        f"time_embedding.linear_{i}.{kind}" for i in (1, 2) for kind in ("weight", "bias")
    }
    assert {name: value.shape for name, value in ours.items()} == {
        name: theirs[name].shape for name in ours
    }


def test_the_denoising_pass_of_diffusers_gives_the_same_prediction() -> None:
    """Where no size is odd, block by block equals diffusers' own forward pass."""
    theirs = UNet2DConditionModel(
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    ).eval()
    theirs.load_state_dict(UNET.state_dict(), strict=False)
    latent, _, context = unet_inputs(UNET, 16, 24, batch_size=2)
    with torch.no_grad():
        expected = theirs(latent, 3, encoder_hidden_states=context).sample
        time = torch.tensor([3, 3])
        embedding = theirs.time_embedding(theirs.time_proj(time))
        ours = UNET.predict_latent(UNET(latent, embedding, context)[0])
    torch.testing.assert_close(ours, expected)


def test_every_module_takes_part() -> None:
    unet = smallest_unet()
    features = unet(*unet_inputs(unet, 8, 8, batch_size=2))
    loss = sum(feature.square().mean() for feature in features)
    (loss + unet.predict_latent(features[0]).square().mean()).backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None] == []


def test_without_refinement_the_output_head_is_left_out() -> None:
    unet = smallest_unet()
    unet.drop_output_head()
    names = {name.split(".")[0] for name in unet.state_dict()}
    assert names == {"conv_in", "down_blocks", "mid_block", "up_blocks"}
    features = unet(*unet_inputs(unet, 8, 8))
    sum(feature.square().mean() for feature in features).backward()
    assert [name for name, p in unet.named_parameters() if p.grad is None] == []


def test_step_embedding_and_context_steer_every_map() -> None:
    latent, embedding, context = unet_inputs(UNET, 8, 8)
    with torch.no_grad():
        reference = UNET(latent, embedding, context)
        for other in (UNET(latent, embedding + 1, context), UNET(latent, embedding, context + 1)):
            assert not any(torch.allclose(a, b) for a, b in zip(reference, other, strict=True))


def test_batch_items_do_not_see_each_other() -> None:
    latent, embedding, context = unet_inputs(UNET, 12, 8, batch_size=2)
    with torch.no_grad():
        together = UNET(latent, embedding, context)
        alone = UNET(latent[1:], embedding[1:], context[1:])
    for both, one in zip(together, alone, strict=True):
        torch.testing.assert_close(both[1:], one, rtol=1e-4, atol=1e-5)


def test_gradient_checkpointing_changes_neither_maps_nor_gradients() -> None:
    unet = smallest_unet()
    inputs = unet_inputs(unet, 10, 9)
    results = []
    for enable in (unet.disable_gradient_checkpointing, unet.enable_gradient_checkpointing):
        enable()
        unet.zero_grad()
        features = unet(*inputs)
        sum(feature.square().mean() for feature in features).backward()
        gradients = [p.grad.clone() for p in unet.parameters() if p.grad is not None]
        results.append([*(feature.detach() for feature in features), *gradients])
    assert len(results[0]) > 100
    for plain, checkpointed in zip(*results, strict=True):
        torch.testing.assert_close(plain, checkpointed)


def test_gradient_checkpointing_recomputes_the_decoders_residual_blocks() -> None:
    unet = smallest_unet()
    unet.enable_gradient_checkpointing()
    calls = []
    for block in unet.up_blocks:
        for resnet in block.resnets:
            resnet.register_forward_pre_hook(lambda *_: calls.append(1))
    num_resnets = sum(len(block.resnets) for block in unet.up_blocks)
    features = unet(*unet_inputs(unet, 8, 8))
    assert len(calls) == num_resnets
    features[0].sum().backward()
    assert len(calls) == 2 * num_resnets


def kept_and_gradients(levels: tuple[int, ...] | None) -> tuple[int, list[torch.Tensor]]:
    """Bytes that a forward pass saves for the backward pass, and all gradients; None: off."""
    torch.manual_seed(0)
    unet = smallest_unet()
    if levels is not None:
        unet.checkpoint_levels(levels)
    own = {parameter.untyped_storage().data_ptr() for parameter in unet.parameters()}
    kept: dict[int, int] = {}

    def remember(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        features = unet(*unet_inputs(unet, 16, 16))
    sum(feature.sum() for feature in features).backward()
    return sum(kept.values()), [parameter.grad for parameter in unet.parameters()]


def test_the_more_levels_are_recomputed_the_less_is_kept_and_gradients_stay() -> None:
    order = [None, (3,), (1,), (0,), (0, 1), (0, 1, 2), (0, 1, 2, 3)]
    results = [kept_and_gradients(levels) for levels in order]
    kept = [size for size, _ in results]
    assert kept == sorted(kept, reverse=True)
    assert len(set(kept)) == len(kept)
    assert kept[-1] < 0.5 * kept[0]
    reference = results[0][1]
    for _, gradients in results[1:]:
        for value, expected in zip(gradients, reference, strict=True):
            if expected is not None:  # the output head is not part of the maps
                assert torch.equal(value, expected)


def test_all_levels_are_what_diffusers_checkpoints() -> None:
    ours, theirs = smallest_unet(), smallest_unet()
    ours.checkpoint_levels(range(4))
    theirs.enable_gradient_checkpointing()
    states = [
        {
            name: module.gradient_checkpointing
            for name, module in unet.named_modules()
            if hasattr(module, "gradient_checkpointing")
        }
        for unet in (ours, theirs)
    ]
    assert states[0] == states[1]
    assert all(states[0].values())


def test_a_level_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match=r"are \[0, 4\]; \[4\] aren't in \[0, 1,"):
        smallest_unet().checkpoint_levels((0, 4))


@pytest.mark.parametrize("num_levels", [2, 3])
def test_fewer_levels_work(num_levels: int) -> None:
    unet = smallest_unet(block_out_channels=(8, 16, 16)[:num_levels])
    features = unet(*unet_inputs(unet, 5, 6))
    factor = 2 ** (num_levels - 1)
    m, n = -(-5 // factor), -(-6 // factor)
    assert [tuple(feature.shape[2:]) for feature in features] == [
        (factor // 2**level * m, factor // 2**level * n) for level in range(num_levels)
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"norm_num_groups": 3}, "must be divisible by num_groups"),
        ({"num_heads": 16}, r"block_out_channels is .* \[8\] aren't .* num_heads \(16, "),
        ({"num_heads": (2, 2)}, r"same number of `num_attention_heads` as .*\(2, 2\)"),
    ],
)
def test_widths_that_do_not_fit_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        smallest_unet(**arguments)


def test_step_embedding_is_four_times_the_finest_width() -> None:
    assert UNET.step_embedding_dim == 32
    assert UNET.feature_channels == (8, 16, 16, 16)
    assert isinstance(UNET, FeatureUNet)


def test_maps_are_the_states_before_a_levels_last_block_and_the_final_state() -> None:
    unet = smallest_unet(layers_per_block=2).eval()
    seen = {}

    def remember(name: tuple[int, int]):
        return lambda _, inputs, output: seen.update({name: output})

    for level, block in enumerate(unet.up_blocks):
        # A block is a residual block and, but for the coarsest level, the transformer behind it.
        last_parts = block.attentions if level else block.resnets
        for index, part in enumerate(last_parts):
            part.register_forward_hook(remember((level, index)))
    with torch.no_grad():
        features = unet(*unet_inputs(unet, 8, 16))
    states = {name: out[0] if isinstance(out, tuple) else out for name, out in seen.items()}
    assert len(states) == 4 * 3
    # The official `UNetWrapper` taps output blocks 11, 7, 4 and 1, of three per level.
    for feature, block in zip(features, (11, 7, 4, 1), strict=True):
        assert torch.equal(feature, states[divmod(block, 3)])


def test_a_skip_of_another_size_is_resized_bilinearly_and_comes_second() -> None:
    unet = smallest_unet().eval()
    joined, skips = [], []
    unet.conv_in.register_forward_hook(lambda _, inputs, output: skips.append(output))
    last_resnet = unet.up_blocks[-1].resnets[-1]
    last_resnet.register_forward_pre_hook(lambda _, inputs: joined.append(inputs[0]))
    with torch.no_grad():
        unet(*unet_inputs(unet, 9, 10))
    (hidden,), (skip,) = joined, skips
    assert skip.shape[2:] == (9, 10)
    expected = F.interpolate(skip, size=(16, 16), mode="bilinear", align_corners=False)
    torch.testing.assert_close(hidden[:, 8:], expected)


@pytest.mark.parametrize("finest", [0, 1, 2, 3])
def test_the_decoder_stops_at_the_finest_level_that_is_read(finest: int) -> None:
    unet = smallest_unet(layers_per_block=2).eval()
    inputs = unet_inputs(unet, 10, 9)
    with torch.no_grad():
        every = unet(*inputs)
        calls = []
        for layer in (layer for block in unet.up_blocks for layer in block.resnets):
            layer.register_forward_pre_hook(lambda *_: calls.append(1))
        some = unet(*inputs, finest)
    assert len(some) == 4 - finest
    for value, expected in zip(some, every[finest:], strict=True):
        assert torch.equal(value, expected)
    # Three layers a level, and two at the last one unless it is the finest.
    assert len(calls) == 3 * (4 - finest) - (finest > 0)


@pytest.mark.parametrize("finest", [0, 1, 2, 3])
def test_layers_behind_the_finest_map_are_frozen_and_no_others(finest: int) -> None:
    unet = smallest_unet()
    unet.drop_output_head()
    names = unet.state_dict().keys()
    unet.freeze_behind(finest)
    features = unet(*unet_inputs(unet, 8, 8), finest)
    sum(feature.square().mean() for feature in features).backward()
    trained = {name for name, p in unet.named_parameters() if p.requires_grad}
    assert trained == {name for name, p in unet.named_parameters() if p.grad is not None}
    assert (trained == names) == (finest == 0)
    assert unet.state_dict().keys() == names
