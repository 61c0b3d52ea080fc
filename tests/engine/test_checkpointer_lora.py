"""Weights of models without adapters below adapters, and checkpoints with adapters."""

from pathlib import Path

import pytest
import torch
from helpers import smallest_backbone, smallest_cfg, tiny_model
from torch import nn

from metaprompt_d2.checkpoint import from_official, load_diffusion_weights
from metaprompt_d2.diffusion import base_names, is_adapter
from metaprompt_d2.engine import SafeCheckpointer, build_optimizer

LORA = {"MODEL.DIFFUSION.LORA.RANK": 2}
MINI = Path(__file__).resolve().parents[2] / "configs/mini"


def saved(model: nn.Module, folder: Path) -> str:
    SafeCheckpointer(model, str(folder)).save("model_final")
    return str(folder / "model_final.pth")


def trained(overrides: dict) -> nn.Module:
    """A backbone whose adapters' zeros have been left."""
    model = smallest_backbone(overrides)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter)
    return model


def test_stable_diffusions_weights_load_below_adapters() -> None:
    sizes = {
        "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (48, 64, 96, 96),
        "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": 64,
        "MODEL.DIFFUSION.UNET.NUM_HEADS": 4,
        "MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS": 16,
        "MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": (16, 32, 48, 64),
        "MODEL.DIFFUSION.VAE.LATENT_CHANNELS": 8,
        "MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS": 8,
    }
    plain, adapted = smallest_backbone(sizes), smallest_backbone(sizes | LORA)
    reports = [load_diffusion_weights(model, str(MINI / "diffusion")) for model in (plain, adapted)]
    assert reports[0] == reports[1]
    below = base_names(adapted.refinement.unet.state_dict())
    expected = plain.refinement.unet.state_dict()
    assert below.keys() == expected.keys()
    assert all(torch.equal(below[name], value) for name, value in expected.items())


def test_a_plain_checkpoint_loads_below_adapters(tmp_path: Path) -> None:
    plain, adapted = smallest_backbone(), smallest_backbone(LORA)
    SafeCheckpointer(adapted).load(saved(plain, tmp_path))
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(adapted(images), plain(images), rtol=0, atol=0)


def test_a_checkpoint_with_adapters_loads_whole(tmp_path: Path) -> None:
    model, other = trained(LORA), smallest_backbone(LORA)
    SafeCheckpointer(other).load(saved(model, tmp_path))
    expected = model.state_dict()
    assert all(torch.equal(expected[k], value) for k, value in other.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({}, r"lora_A\S+: not in the model \(see MODEL\.DIFFUSION\.LORA .* --to plain\)"),
        ({"MODEL.DIFFUSION.LORA.RANK": 3}, r"lora_A\S+: \(2, \d+\) in the file, \(3, \d+\)"),
        (LORA | {"MODEL.DIFFUSION.LORA.TARGETS": ("to_q",)}, r"to_k\.lora_\S+: not in the model"),
        (
            LORA | {"MODEL.DIFFUSION.LORA.TARGETS": ("to_q", "to_k", "to_v", "to_out.0", "conv1")},
            r"conv1\.lora_\S+: missing in the file",
        ),
    ],
)
def test_other_adapters_than_the_models_are_refused(
    overrides: dict, message: str, tmp_path: Path
) -> None:
    file = saved(trained(LORA), tmp_path)
    with pytest.raises(ValueError, match=message):
        SafeCheckpointer(smallest_backbone(overrides)).load(file)


def test_an_official_checkpoint_loads_below_adapters(golden: Path) -> None:
    file = golden / "seg_ade_r3_c1222.pt"
    model = tiny_model(LORA)
    SafeCheckpointer(model).load(str(file))
    expected = from_official(torch.load(file, weights_only=True)["state_dict"]).model
    below = base_names(model.state_dict())
    assert all(torch.equal(below[name], value) for name, value in expected.items())


def test_adapters_train_at_the_full_rate_and_nothing_else_of_the_unet() -> None:
    for overrides in ({}, {"SOLVER.UNET_LAYER_DECAY": 0.5}):
        cfg = smallest_cfg(LORA | overrides)
        model = nn.ModuleDict({"backbone": smallest_backbone(LORA)})
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        rates = {
            names[id(parameter)]: group["lr"] / cfg.SOLVER.BASE_LR
            for group in build_optimizer(cfg, model).param_groups
            for parameter in group["params"]
        }
        of_unet = {name: rate for name, rate in rates.items() if ".unet." in name}
        assert of_unet and all(map(is_adapter, of_unet))
        nearest = [rate for name, rate in of_unet.items() if ".up_blocks.3.attentions.1." in name]
        assert nearest == pytest.approx([0.5 if overrides else 1.0] * len(nearest))
        # Blocks with attention: three of the encoder, the middle, six of the decoder.
        assert len(set(of_unet.values())) == (10 if overrides else 1)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_names_of_wrapped_models_do_not_hide_adapters(tmp_path: Path, prefix: str) -> None:
    model, file = trained(LORA), str(tmp_path / "wrapped.pth")
    torch.save({"model": {prefix + n: v for n, v in model.state_dict().items()}}, file)
    other = smallest_backbone(LORA)
    SafeCheckpointer(other, for_inference=True).load(file)
    expected = model.state_dict()
    assert all(torch.equal(expected[k], value) for k, value in other.state_dict().items())
    with pytest.raises(ValueError, match=r"lora_A\S+: not in the model"):
        SafeCheckpointer(smallest_backbone()).load(file)
