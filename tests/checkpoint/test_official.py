"""Names of the official segmentation checkpoints under ours."""

from pathlib import Path

import pytest
import torch
from helpers import tiny_model

from metaprompt_d2.checkpoint.official import from_official_sem_seg, is_official_sem_seg
from metaprompt_d2.engine import SafeCheckpointer

HEAD = "unet.unet.diffusion_model.out.2.bias"


@pytest.fixture(scope="module")
def official(golden: Path) -> dict[str, torch.Tensor]:
    return torch.load(golden / "seg_ade_r3_c1222.pt", weights_only=True)["state_dict"]


def test_every_tensor_of_the_model_is_found_and_none_is_left(official: dict) -> None:
    ours = from_official_sem_seg(official)
    expected = {name: value.shape for name, value in tiny_model().state_dict().items()}
    assert {name: value.shape for name, value in ours.items()} == expected


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("t1", "backbone.refinement.step_embeddings.0"),
        ("t3", "backbone.refinement.step_embeddings.2"),
        ("meta_prompts", "backbone.refinement.meta_prompts.embeddings.0"),
        ("upconv2.0.weight", "backbone.rearrangement.projections.1.0.weight"),
        ("upconv4.1.bias", "backbone.rearrangement.projections.3.1.bias"),
        (HEAD, "backbone.refinement.unet.conv_out.bias"),
        (
            "unet.unet.diffusion_model.input_blocks.0.0.weight",
            "backbone.refinement.unet.conv_in.weight",
        ),
        (
            "unet.unet.diffusion_model.output_blocks.5.0.emb_layers.1.bias",
            "backbone.refinement.unet.up_blocks.1.resnets.2.time_emb_proj.bias",
        ),
        (
            "unet.unet.diffusion_model.middle_block.1.norm.weight",
            "backbone.refinement.unet.mid_block.attentions.0.norm.weight",
        ),
        ("encoder_vq.quant_conv.bias", "backbone.latent_encoder.quant_conv.bias"),
        (
            "encoder_vq.encoder.down.1.block.0.norm1.weight",
            "backbone.latent_encoder.encoder.down_blocks.1.resnets.0.norm1.weight",
        ),
        ("decode_head.psp_modules.2.1.conv.weight", "sem_seg_head.pyramid_pooling.2.1.weight"),
        (
            "decode_head.psp_modules.0.1.bn.running_mean",
            "sem_seg_head.pyramid_pooling.0.1.norm.running_mean",
        ),
        ("decode_head.bottleneck.conv.weight", "sem_seg_head.bottleneck.weight"),
        ("decode_head.lateral_convs.1.bn.weight", "sem_seg_head.laterals.1.norm.weight"),
        ("decode_head.fpn_convs.2.conv.weight", "sem_seg_head.outputs.2.weight"),
        ("decode_head.fpn_bottleneck.bn.bias", "sem_seg_head.fuse.norm.bias"),
        ("decode_head.conv_seg.bias", "sem_seg_head.predictor.bias"),
        ("auxiliary_head.convs.0.conv.weight", "sem_seg_head.aux_head.0.weight"),
        ("auxiliary_head.conv_seg.weight", "sem_seg_head.aux_head.2.weight"),
    ],
)
def test_a_tensor_stands_under_our_name(official: dict, theirs: str, name: str) -> None:
    assert torch.equal(from_official_sem_seg(official)[name], official[theirs])


def test_linear_attention_of_the_vae_loses_its_two_pixel_axes(official: dict) -> None:
    theirs = official["encoder_vq.encoder.mid.attn_1.q.weight"]
    name = "backbone.latent_encoder.encoder.mid_block.attentions.0.to_q.weight"
    assert torch.equal(from_official_sem_seg(official)[name], theirs[:, :, 0, 0])


def test_dead_tensors_are_left_out(official: dict) -> None:
    extra = {
        "sd_model.betas": torch.zeros(1000),
        "unet.unet.diffusion_model.time_embed.0.weight": torch.zeros(2, 2),
        "encoder_vq.post_quant_conv.weight": torch.zeros(4, 4, 1, 1),
    }
    assert from_official_sem_seg(official | extra).keys() == from_official_sem_seg(official).keys()


def test_the_file_given_is_not_changed(official: dict) -> None:
    before = list(official)
    from_official_sem_seg(official)
    assert list(official) == before


def test_a_copy_of_the_output_head_that_differs_is_refused(official: dict) -> None:
    name = "cross_unet_conv3.2.bias"
    with pytest.raises(ValueError, match=rf"{name} differs from the UNet's output head"):
        from_official_sem_seg(official | {name: official[HEAD] + 1})


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'neck\.weight' is no name of the official"):
        from_official_sem_seg({"neck.weight": torch.zeros(1)})


def test_official_files_are_recognised(golden: Path, official: dict) -> None:
    depth = torch.load(golden / "depth_nyu_r3_c1222.pt", weights_only=True)["state_dict"]
    assert is_official_sem_seg(official)
    assert not is_official_sem_seg(depth)
    assert not is_official_sem_seg(from_official_sem_seg(official))
    assert not is_official_sem_seg({})


def test_an_official_file_loads_as_model_weights(golden: Path, tmp_path: Path) -> None:
    fixture = torch.load(golden / "seg_ade_r3_c1222.pt", weights_only=True)
    file = tmp_path / "best_mIoU_iter_80000.pth"
    torch.save({"meta": {"CLASSES": "11"}, "state_dict": fixture["state_dict"]}, file)
    model = tiny_model()
    SafeCheckpointer(model).load(str(file))
    prompts = model.backbone.refinement.meta_prompts.embeddings[0]
    assert torch.equal(prompts, fixture["state_dict"]["meta_prompts"])
