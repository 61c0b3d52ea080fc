"""Adapters on the UNet: nothing changes at first, only they train, and they merge."""

import sys

import pytest
import torch
from helpers import smallest_unet, unet_inputs

from metaprompt_d2.diffusion import FeatureUNet, add_lora, base_names, is_adapter, merge_lora

# Attention projections, the feed-forward part, and convolutions.
TARGETS = ("to_q", "to_k", "to_v", "to_out.0", "ff.net.2", "conv1", "proj_in")


def adapted(targets: tuple[str, ...] = TARGETS) -> FeatureUNet:
    torch.manual_seed(1)
    unet = smallest_unet()
    add_lora(unet, rank=2, alpha=6, targets=targets)
    return unet


def trained(unet: FeatureUNet) -> FeatureUNet:
    """Give the adapters values as a training would."""
    with torch.no_grad():
        for name, parameter in unet.named_parameters():
            if is_adapter(name):
                parameter.normal_(std=0.3)
    return unet


def test_new_adapters_change_no_output() -> None:
    torch.manual_seed(1)
    plain = smallest_unet()
    unet = adapted()
    inputs = unet_inputs(unet, 8, 8)
    for before, after in zip(plain(*inputs), unet(*inputs), strict=True):
        assert torch.equal(before, after)


def test_only_adapters_are_trained() -> None:
    unet = adapted().double()
    # Queries and keys of a single token, on the coarsest map of smaller latents, have no gradient.
    features = unet(*(value.double() for value in unet_inputs(unet, 16, 16)))
    # The gradient of a plain sum vanishes in some layers but for rounding.
    sum((feature * torch.randn_like(feature)).sum() for feature in features).backward()
    for name, parameter in unet.named_parameters():
        assert (parameter.grad is not None) == is_adapter(name), name
        if is_adapter(name):  # B is zero at first, so A has no gradient
            assert bool(parameter.grad.any()) == (".lora_B." in name), name


def test_every_layer_that_ends_on_a_target_gets_an_adapter() -> None:
    unet = adapted(("attn2.to_k", "conv_in"))
    adapters = {name.split(".lora_")[0] for name in unet.state_dict() if is_adapter(name)}
    plain = {name.removesuffix(".weight") for name in smallest_unet().state_dict()}
    assert adapters == {name for name in plain if name.endswith(("attn2.to_k", "conv_in"))}


def test_merged_weights_give_the_adapted_outputs_in_a_plain_unet() -> None:
    unet = trained(adapted())
    inputs = unet_inputs(unet, 8, 8)
    with torch.no_grad():
        expected, unadapted = unet(*inputs), smallest_unet()(*inputs)
        merge_lora(unet)
        plain = smallest_unet()
        plain.load_state_dict(base_names(unet.state_dict()))  # all of it, and nothing else
        merged = plain(*inputs)
    for value, other, reference in zip(merged, unadapted, expected, strict=True):
        assert torch.allclose(value, reference, rtol=0, atol=2e-5 * reference.abs().max().item())
        assert not torch.allclose(other, reference, rtol=0.1)


def test_merging_leaves_a_plain_unet_as_it_is() -> None:
    unet = smallest_unet()
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    merge_lora(unet)
    after = unet.state_dict()
    assert all(torch.equal(value, after[name]) for name, value in before.items())


@pytest.mark.parametrize("targets", [("to_q", "to_z"), ("q",), ("norm1",), ()])
def test_a_target_without_a_layer_is_refused(targets: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r"^targets is "):
        adapted(targets)


def test_a_negative_rank_is_refused() -> None:
    with pytest.raises(
        ValueError, match="`r` should be a positive integer value but the value passed is -1"
    ):
        add_lora(smallest_unet(), rank=-1, alpha=1, targets=TARGETS)


def test_without_peft_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'peft>=0.17'"):
        adapted()
