"""Diffusion weights from a folder that diffusers itself wrote."""

from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from helpers import smallest_backbone
from safetensors.torch import load_file, save_file
from torch import nn

from metaprompt_d2.checkpoint import load_diffusion_weights


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A diffusion model of the sizes of `smallest_backbone`, in half precision."""
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 16, 16),
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 8, 8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
    )
    unet.half().save_pretrained(tmp_path / "unet")
    vae.half().save_pretrained(tmp_path / "vae")
    return tmp_path


def unet_file(folder: Path) -> Path:
    return folder / "unet/diffusion_pytorch_model.safetensors"


def test_every_tensor_of_encoder_and_unet_is_the_files_in_float32(folder: Path) -> None:
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(folder))
    for part, module in [("unet", backbone.refinement.unet), ("vae", backbone.latent_encoder)]:
        tensors = load_file(folder / part / "diffusion_pytorch_model.safetensors")
        for name, value in module.state_dict().items():
            assert value.dtype == torch.float32
            assert torch.equal(value, tensors[name].float()), name


def test_prompts_and_step_embeddings_are_left_as_they_were(folder: Path) -> None:
    backbone = smallest_backbone()
    before = backbone.refinement.meta_prompts.embeddings[0].clone()
    load_diffusion_weights(backbone, str(folder))
    assert torch.equal(backbone.refinement.meta_prompts.embeddings[0], before)


def test_bin_files_load_too(folder: Path) -> None:
    tensors = load_file(unet_file(folder))
    unet_file(folder).unlink()
    torch.save(tensors, folder / "unet/diffusion_pytorch_model.bin")
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(folder))
    own = backbone.refinement.unet.conv_in.weight
    assert torch.equal(own, tensors["conv_in.weight"].float())


def test_a_missing_file_is_named_with_what_was_expected(folder: Path) -> None:
    unet_file(folder).unlink()
    with pytest.raises(FileNotFoundError, match=r"MODEL\.DIFFUSION\.WEIGHTS: .*unet holds none"):
        load_diffusion_weights(smallest_backbone(), str(folder))


def test_all_tensors_that_do_not_fit_are_listed_with_the_files_sizes(folder: Path) -> None:
    wider = smallest_backbone({"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (8, 16, 16, 24)})
    with pytest.raises(ValueError, match="MODEL.DIFFUSION.UNET") as error:
        load_diffusion_weights(wider, str(folder))
    message = str(error.value)
    assert "block_out_channels [8, 16, 16, 16]" in message
    assert "mid_block.resnets.0.conv1.weight: (16, 16, 3, 3) in the file, (24, 24, 3, 3)" in message
    assert message.count("in the file") > 10


def test_missing_tensors_and_nan_are_listed(folder: Path) -> None:
    tensors = load_file(unet_file(folder))
    del tensors["conv_in.bias"]
    tensors["conv_in.weight"][0] = float("nan")
    save_file(tensors, unet_file(folder))
    with pytest.raises(ValueError, match="2 tensors") as error:
        load_diffusion_weights(smallest_backbone(), str(folder))
    assert "conv_in.bias: missing" in str(error.value)
    assert "conv_in.weight: holds NaN or infinity" in str(error.value)


def test_a_model_without_diffusion_parts_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="the model has no diffusion unet"):
        load_diffusion_weights(nn.Linear(2, 2), str(folder))
