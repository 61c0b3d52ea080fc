"""Packed convolutions: the numbers of plain ones, and plain kernels for whoever needs them."""

import copy
import io
from collections.abc import Callable

import pytest
import torch
from helpers import smallest_refinement, smallest_unet, smallest_vae, unet_inputs
from torch import Tensor, nn

from metaprompt_d2.diffusion.speedups import PackedConv2d, pack_convolutions

# Without the instructions, a type isn't packed.
DTYPES = [torch.float32]
if torch.ops.mkldnn._is_mkldnn_bf16_supported():
    DTYPES.append(torch.bfloat16)


def plain_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.Conv2d(8, 16, 3, stride=2, bias=False),
        nn.Conv2d(16, 4, 1),
    )


def packed_and_plain(dtype: torch.dtype = torch.float32) -> tuple[nn.Sequential, nn.Sequential]:
    """Two networks with the same weights; the first was called once, which packed it."""
    plain = plain_network().to(dtype)
    packed = copy.deepcopy(plain)
    pack_convolutions(packed)
    predict(packed, torch.rand(1, 3, 9, 12, dtype=dtype))
    return packed, plain


def predict(network: nn.Module, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x)


def is_packed(network: nn.Module) -> bool:
    freed = [bool(m.weight.isnan().all()) for m in network.modules() if isinstance(m, nn.Conv2d)]
    assert len(freed) >= 3
    assert len(set(freed)) == 1, "some are, some aren't"
    return freed[0]


@pytest.mark.parametrize("dtype", DTYPES)
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
        tolerance = 1e-6 if dtype == torch.float32 else 0.02
        torch.testing.assert_close(
            predict(packed, x), predict(plain, x), rtol=tolerance, atol=tolerance
        )
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
        kernels = [m.weight for m in packed.modules() if isinstance(m, PackedConv2d)]
        freed = sum(bool(kernel.isnan().all()) for kernel in kernels)
        assert freed >= len(kernels) - 1  # the UNet's output head doesn't run
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


def test_loaded_and_assigned_weights_are_used() -> None:
    x = torch.rand(1, 3, 9, 12)
    packed, other = packed_and_plain()
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    packed.load_state_dict(other.state_dict())
    torch.testing.assert_close(predict(packed, x), predict(other, x), rtol=1e-4, atol=1e-4)
    other[0].weight = nn.Parameter(torch.randn(8, 3, 3, 3))
    packed[0].weight = nn.Parameter(other[0].weight.detach().clone())
    torch.testing.assert_close(predict(packed, x), predict(other, x), rtol=1e-4, atol=1e-4)


def test_writing_to_a_packed_kernel_is_an_error_and_its_shape_stays() -> None:
    packed, plain = packed_and_plain()
    assert [p.shape for p in packed.parameters()] == [p.shape for p in plain.parameters()]
    writes = [lambda p: p.add_(1), lambda p: p.copy_(plain[0].weight), nn.init.normal_]
    for write in writes:
        with torch.no_grad(), pytest.raises(RuntimeError, match="single memory location"):
            write(packed[0].weight)


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("made", ["before packing", "while packed"])
@pytest.mark.parametrize("predicts", ["never", "before backward", "before step"])
def test_an_optimizer_trains_the_kernels_whenever_somebody_predicts(
    fused: bool, made: str, predicts: str
) -> None:
    """Without `train()`: the models stay in eval mode all along."""
    x, results = torch.rand(1, 3, 9, 12), []
    for packs in (True, False):
        network = plain_network().eval()
        if made == "before packing":
            optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused)
        if packs:
            pack_convolutions(network)
            predict(network, x)
            assert is_packed(network)
        if made == "while packed":
            optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused)
        for _ in range(2):
            loss = network(x).square().mean()
            if predicts == "before backward":
                predict(network, x)
            loss.backward()
            if predicts == "before step":
                predict(network, x)
            optimizer.step()
            optimizer.zero_grad()
        results.append([predict(network, x), *(p.detach() for p in network.parameters())])
    for ours, expected in zip(*results, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("fused", [False, True])
def test_gradients_from_before_packing_are_applied(fused: bool) -> None:
    x, results = torch.rand(1, 3, 9, 12), []
    for packs in (True, False):
        network = plain_network()
        optimizer = torch.optim.AdamW(network.parameters(), lr=0.1, fused=fused)
        network(x).square().mean().backward()
        if packs:
            pack_convolutions(network)
        predict(network, x)
        optimizer.step()
        results.append(predict(network, x))
    torch.testing.assert_close(*results)


def test_gradients_pass_through_frozen_packed_layers() -> None:
    packed, plain = packed_and_plain()
    grads = []
    for network in (packed, plain):
        network.requires_grad_(False)
        x = torch.rand(1, 3, 9, 12, generator=torch.Generator().manual_seed(0)).requires_grad_()
        loss = network(x).square().mean()
        predict(network, x)
        loss.backward()
        grads.append(x.grad)
    torch.testing.assert_close(*grads)


def test_a_prediction_after_a_step_equals_a_fresh_computation() -> None:
    """Fused optimizers write to weights without counting it as a change."""
    refinement, latent = smallest_refinement(3).eval(), torch.randn(2, 4, 8, 8)
    pack_convolutions(refinement.unet)
    optimizer = torch.optim.AdamW(refinement.parameters(), lr=1e-2, fused=True)
    with torch.no_grad():
        before = refinement(latent).features
    sum(feature.square().mean() for feature in refinement(latent).features).backward()
    with torch.no_grad():
        refinement(latent)
        optimizer.step()
        after = refinement(latent).features
        fresh = smallest_refinement(3).eval()
        fresh.load_state_dict(refinement.state_dict())
        expected = fresh(latent).features
    for ours, truth, old in zip(after, expected, before, strict=True):
        torch.testing.assert_close(ours, truth, rtol=1e-4, atol=1e-5)
        assert not torch.allclose(ours, old, rtol=1e-2)


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
