"""Diffusion weights from diffusers' folders: values, and every way in which a folder can misfit."""

import logging
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from helpers import smallest_backbone
from safetensors.torch import load_file, save_file
from torch import nn

from metaprompt_d2.checkpoint import load_diffusion_weights

FILE = "diffusion_pytorch_model.safetensors"
TIME_MLP = 4  # tensors of the UNet that the backbone has no use for


def new_unet(channels: tuple[int, ...] = (8, 16, 16, 16)) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        block_out_channels=channels,
        layers_per_block=1,
        cross_attention_dim=16,
        attention_head_dim=2,
        norm_num_groups=4,
    )


def new_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(4, 8, 8, 8),
        norm_num_groups=4,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A tiny diffusion model in half precision, as `save_pretrained` writes it."""
    new_unet().half().save_pretrained(tmp_path / "unet")
    new_vae().half().save_pretrained(tmp_path / "vae")
    return tmp_path


def test_values_of_the_files_stand_in_the_model(folder: Path) -> None:
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(folder))
    parts = {"unet": backbone.refinement.unet, "vae": backbone.latent_encoder}
    for name, part in parts.items():
        tensors = load_file(folder / name / FILE)
        state = part.state_dict()
        assert state
        for key, value in state.items():
            assert value.dtype == torch.float32
            assert torch.equal(value, tensors[key].float()), key


def test_prompts_and_projections_stay_as_they_are(folder: Path) -> None:
    backbone = smallest_backbone()
    before = {k: v.clone() for k, v in backbone.state_dict().items()}
    load_diffusion_weights(backbone, str(folder))
    changed = {k.split(".")[0] for k, v in backbone.state_dict().items() if (v != before[k]).any()}
    assert changed == {"refinement", "latent_encoder"}
    for name, value in backbone.refinement.state_dict().items():
        if not name.startswith("unet."):
            assert torch.equal(value, before[f"refinement.{name}"])


def test_unused_tensors_are_counted_in_the_log(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = smallest_backbone()
    with caplog.at_level(logging.INFO, logger="metaprompt_d2"):
        load_diffusion_weights(backbone, str(folder))
    used = len(backbone.refinement.unet.state_dict())
    assert f"{used} tensors used, {TIME_MLP} ignored" in caplog.text


def test_a_model_without_refinement_has_no_use_for_the_output_head(folder: Path) -> None:
    backbone = smallest_backbone({"MODEL.META_PROMPT.REFINE_STEPS": 1})
    load_diffusion_weights(backbone, str(folder))
    tensors = load_file(folder / "unet" / FILE)
    assert torch.equal(backbone.refinement.unet.conv_in.bias, tensors["conv_in.bias"].float())


def test_pickled_weights_are_read_too(folder: Path) -> None:
    file = folder / "unet" / FILE
    torch.save(load_file(file), file.with_suffix(".bin"))
    expected = load_file(file)["conv_in.weight"].float()
    file.unlink()
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(folder))
    assert torch.equal(backbone.refinement.unet.conv_in.weight, expected)


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"DIFFUSION\.WEIGHTS: .*nowhere/unet"):
        load_diffusion_weights(smallest_backbone(), str(tmp_path / "nowhere"))


@pytest.mark.parametrize("part", ["unet", "vae"])
def test_a_missing_file_is_named(folder: Path, part: str) -> None:
    (folder / part / FILE).unlink()
    with pytest.raises(FileNotFoundError, match=rf"{folder}/{part} holds none of {FILE}"):
        load_diffusion_weights(smallest_backbone(), str(folder))


def test_all_shapes_that_differ_are_listed_with_the_sizes_on_both_sides(folder: Path) -> None:
    backbone = smallest_backbone({"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (16, 32, 32, 32)})
    tensors = load_file(folder / "unet" / FILE)
    state = backbone.refinement.unet.state_dict()
    differing = [name for name, value in state.items() if value.shape != tensors[name].shape]
    assert len(differing) > 10
    with pytest.raises(ValueError, match=r"does not fit the model") as error:
        load_diffusion_weights(backbone, str(folder))
    message = str(error.value)
    assert f"{len(differing)} tensors" in message
    for name in differing:
        sizes = f"{tuple(tensors[name].shape)} in the file, {tuple(state[name].shape)} in the model"
        assert f"{name}: {sizes}" in message
    assert "block_out_channels [8, 16, 16, 16]" in message
    assert "MODEL.DIFFUSION.UNET" in message


def test_missing_and_broken_tensors_are_listed_in_one_error(folder: Path) -> None:
    file = folder / "unet" / FILE
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    tensors["conv_out.bias"][1] = float("nan")
    tensors["conv_in.weight"][0, 0, 0, 0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(ValueError, match="3 tensors") as error:
        load_diffusion_weights(smallest_backbone(), str(folder))
    message = str(error.value)
    assert "conv_in.bias: missing" in message
    assert "conv_out.bias: holds NaN or infinity" in message
    assert "conv_in.weight: holds NaN or infinity" in message


def test_nan_in_a_tensor_without_use_does_no_harm(folder: Path) -> None:
    file = folder / "unet" / FILE
    tensors = load_file(file)
    tensors["time_embedding.linear_1.bias"].fill_(float("nan"))
    save_file(tensors, file)
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(folder))
    assert all(torch.isfinite(p).all() for p in backbone.parameters())


def test_nothing_is_loaded_from_a_part_that_does_not_fit(folder: Path) -> None:
    file = folder / "unet" / FILE
    tensors = load_file(file)
    del tensors["conv_in.bias"]
    save_file(tensors, file)
    backbone = smallest_backbone()
    before = backbone.refinement.unet.conv_in.weight.clone()
    with pytest.raises(ValueError, match="1 tensors"):
        load_diffusion_weights(backbone, str(folder))
    assert torch.equal(backbone.refinement.unet.conv_in.weight, before)


def test_a_model_without_diffusion_parts_is_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"the model has no diffusion unet"):
        load_diffusion_weights(nn.Linear(2, 2), str(folder))
