"""Packed convolutions: the numbers of plain ones, and plain weights for whoever asks for them."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from helpers import smallest_cfg, smallest_unet, smallest_vae, unet_inputs
from torch import nn

from metaprompt_d2.diffusion.speedups import PackedConv2d, pack_convolutions
from metaprompt_d2.engine import load_model


def packed_and_plain(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, nn.Sequential]:
    """Two networks of the same weights; the first was called once, which packed it."""
    torch.manual_seed(0)
    plain = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 16, 3, stride=2, bias=False),
        nn.Conv2d(16, 4, 1),
    ).to(dtype)
    packed = copy.deepcopy(plain)
    pack_convolutions(packed)
    with torch.no_grad():
        packed(torch.rand(1, 3, 9, 12, dtype=dtype))
    return packed, plain


def is_packed(network: nn.Module) -> bool:
    sizes = [m.weight.numel() for m in network.modules() if isinstance(m, PackedConv2d)]
    assert len(sizes) >= 3
    assert len({size == 0 for size in sizes}) == 1, "some are, some aren't"
    return sizes[0] == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("channels_last", [False, True])
def test_any_image_gives_the_numbers_of_plain_convolutions(
    dtype: torch.dtype, channels_last: bool
) -> None:
    packed, plain = packed_and_plain(dtype)
    assert is_packed(packed)
    for shape in ((1, 3, 9, 12), (2, 3, 9, 12), (1, 3, 31, 5), (1, 3, 4, 4)):
        x = torch.rand(shape, dtype=dtype)
        if channels_last:
            x = x.contiguous(memory_format=torch.channels_last)
        with torch.no_grad():
            expected, output = plain(x), packed(x)
        tolerance = 1e-6 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(output, expected, rtol=tolerance, atol=tolerance)
    assert is_packed(packed)


def test_whole_networks_give_their_numbers() -> None:
    for plain, inputs in (
        (smallest_vae(), [torch.rand(2, 3, 40, 24)]),
        (smallest_unet().eval(), unet_inputs(smallest_unet(), 9, 12, batch_size=2)),
    ):
        packed = copy.deepcopy(plain)
        pack_convolutions(packed)
        with torch.no_grad():
            results = packed(*inputs), plain(*inputs)
        kernels = [m.weight.numel() for m in packed.modules() if isinstance(m, PackedConv2d)]
        assert kernels.count(0) >= len(kernels) - 1  # the UNet's output head doesn't run
        torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)


def _saved(network: nn.Module) -> dict:
    file = io.BytesIO()
    torch.save(network.state_dict(), file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    "read",
    [
        nn.Module.state_dict,
        _saved,
        lambda network: copy.deepcopy(network).state_dict(),
        lambda network: network.double().float().state_dict(),
        lambda network: network.train().state_dict(),
    ],
    ids=["state_dict", "save", "deepcopy", "double", "train"],
)
def test_whoever_asks_gets_the_plain_weights(read: Callable[[nn.Module], dict]) -> None:
    packed, plain = packed_and_plain()
    state = read(packed)
    assert state.keys() == plain.state_dict().keys()
    for name, expected in plain.state_dict().items():
        assert torch.equal(state[name], expected), name


def test_loaded_weights_are_used() -> None:
    packed, _ = packed_and_plain()
    _, other = packed_and_plain()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    packed.load_state_dict(other.state_dict())
    x = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        torch.testing.assert_close(packed(x), other(x), rtol=1e-4, atol=1e-4)


def test_it_trains_the_parameters_that_an_optimizer_holds() -> None:
    packed, plain = packed_and_plain()
    x = torch.rand(1, 3, 9, 12)
    for network in (packed, plain):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        with torch.no_grad():
            network(x)
        network(x).square().mean().backward()
        optimizer.step()
        with torch.no_grad():
            network.output = network(x)
    torch.testing.assert_close(packed.output, plain.output)
    assert is_packed(packed)


def test_under_autocast_and_in_exported_programs_it_is_a_plain_convolution() -> None:
    packed, plain = packed_and_plain()
    x = torch.rand(1, 3, 9, 12)
    with torch.no_grad():
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert torch.equal(packed(x), plain(x))
        assert not is_packed(packed)
        program = torch.export.export(packed, (x,))
        torch.testing.assert_close(program.module()(x), plain(x))
        packed(x)
    assert is_packed(packed)


def test_another_type_of_image_is_torchs_error() -> None:
    packed, _ = packed_and_plain()
    with torch.no_grad(), pytest.raises(RuntimeError, match="type"):
        packed(torch.rand(1, 3, 9, 12, dtype=torch.float64))


@pytest.mark.parametrize("packs", [True, False])
def test_models_for_inference_are_packed_by_key(packs: bool) -> None:
    model = load_model(smallest_cfg({"MODEL.SPEED.PACK_KERNELS": packs}))
    expected = copy.deepcopy(model.state_dict())
    layers = [m for m in model.modules() if isinstance(m, PackedConv2d)]
    assert bool(layers) == packs
    with torch.no_grad():
        model.eval()([{"image": torch.rand(3, 64, 64)}])
    for name, value in model.state_dict().items():
        assert torch.equal(value, expected[name]), name
