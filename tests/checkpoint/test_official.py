"""Official checkpoints under our names and back, bit by bit."""

from pathlib import Path

import pytest
import torch
from helpers import tiny_model

from metaprompt_d2.checkpoint import (
    OfficialWeights,
    config_of_official,
    from_official,
    is_official,
    to_official,
)
from metaprompt_d2.engine import SafeCheckpointer

HEAD = "unet.unet.diffusion_model.out.2.bias"

FIXTURES = {"seg_ade_r3_c1222.pt": "sem_seg", "depth_nyu_r3_c1222.pt": "depth"}


def load(golden: Path, fixture: str) -> dict[str, torch.Tensor]:
    return torch.load(golden / fixture, weights_only=True)["state_dict"]


@pytest.fixture(scope="module")
def official(golden: Path) -> dict[str, torch.Tensor]:
    return load(golden, "seg_ade_r3_c1222.pt")


def test_every_tensor_of_the_model_is_found_and_none_is_left(official: dict) -> None:
    ours = from_official(official).model
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
    assert torch.equal(from_official(official).model[name], official[theirs])


def test_linear_attention_of_the_vae_loses_its_two_pixel_axes(official: dict) -> None:
    theirs = official["encoder_vq.encoder.mid.attn_1.q.weight"]
    name = "backbone.latent_encoder.encoder.mid_block.attentions.0.to_q.weight"
    assert torch.equal(from_official(official).model[name], theirs[:, :, 0, 0])


def test_dead_tensors_are_left_out(official: dict) -> None:
    extra = {
        "sd_model.betas": torch.zeros(1000),
        "unet.unet.diffusion_model.time_embed.0.weight": torch.zeros(2, 2),
        "encoder_vq.post_quant_conv.weight": torch.zeros(4, 4, 1, 1),
    }
    assert from_official(official | extra).model.keys() == from_official(official).model.keys()


def test_the_file_given_is_not_changed(official: dict) -> None:
    before = list(official)
    from_official(official)
    assert list(official) == before


def test_a_copy_of_the_output_head_that_differs_is_refused(official: dict) -> None:
    name = "cross_unet_conv3.2.bias"
    with pytest.raises(ValueError, match=rf"{name}: differs from the UNet's output head"):
        from_official(official | {name: official[HEAD] + 1})


def test_all_unknown_names_are_listed(official: dict) -> None:
    extra = {"neck.weight": torch.zeros(1), "decode_head.more.bias": torch.zeros(1)}
    with pytest.raises(
        ValueError, match="2 tensors do not fit the official sem_seg model"
    ) as error:
        from_official(official | extra)
    for name in extra:
        assert f"{name}: no name of the official model" in str(error.value)


def test_an_unknown_name_within_the_unet_is_listed_too(official: dict) -> None:
    name = "unet.unet.diffusion_model.label_emb.0.weight"
    with pytest.raises(ValueError, match=rf"{name}: no name of the official model"):
        from_official(official | {name: torch.zeros(1)})


@pytest.mark.parametrize("fixture", FIXTURES)
def test_official_files_are_recognized(golden: Path, fixture: str) -> None:
    theirs = load(golden, fixture)
    assert is_official(theirs)
    assert is_official({f"module.{name}": value for name, value in theirs.items()})
    assert not is_official(from_official(theirs).model)
    assert not is_official({})


@pytest.mark.parametrize(("fixture", "task"), FIXTURES.items())
def test_there_and_back_is_the_same_file_bit_by_bit(golden: Path, fixture: str, task: str) -> None:
    theirs = load(golden, fixture)
    weights = from_official(theirs)
    assert weights.task == task
    back = to_official(weights)
    assert back.keys() == theirs.keys()
    for name, value in theirs.items():
        assert torch.equal(back[name], value), name


@pytest.mark.parametrize("fixture", FIXTURES)
def test_what_our_model_lacks_is_written_as_zero_or_computed(golden: Path, fixture: str) -> None:
    theirs = load(golden, fixture)
    weights = from_official(theirs)
    back = to_official(OfficialWeights(weights.task, weights.model))
    assert back.keys() == theirs.keys()
    for name, value in weights.unused.items():
        is_schedule = name.startswith("sd_model.")
        assert torch.equal(back[name], value if is_schedule else torch.zeros_like(value)), name


def test_one_refinement_step_has_no_use_for_the_output_head(official: dict) -> None:
    one_step = {
        name: value
        for name, value in official.items()
        if name not in ("t2", "t3") and not name.startswith("cross_unet_conv")
    }
    weights = from_official(one_step)
    model = tiny_model({"MODEL.META_PROMPT.REFINE_STEPS": 1})
    assert weights.model.keys() == model.state_dict().keys()
    assert HEAD in weights.unused
    assert to_official(weights).keys() == one_step.keys()
    report = str(weights.report("file"))
    assert "4 ignored: output head: one refinement step does not read it" in report


@pytest.mark.parametrize("fixture", FIXTURES)
def test_older_names_of_the_prompts_and_a_module_prefix_are_accepted(
    golden: Path, fixture: str
) -> None:
    theirs = load(golden, fixture)
    older = {
        f"module.{name.replace('meta_prompts', 'class_embeddings')}": value
        for name, value in theirs.items()
    }
    assert any("class_embeddings" in name for name in older)
    expected = from_official(theirs).model
    model = from_official(older).model
    assert model.keys() == expected.keys()
    assert all(torch.equal(model[name], value) for name, value in expected.items())


def test_prompts_and_adapters_of_every_step_are_accepted_in_segmentation_too(
    official: dict,
) -> None:
    """The layout of an older revision of the official code."""
    older = {name: value for name, value in official.items() if name != "meta_prompts"}
    for step in (1, 2, 3):
        older[f"class_embeddings{step}"] = torch.randn(24, 48)
        for layer in (0, 2):
            older[f"text_adapter{step}.fc.{layer}.weight"] = torch.randn(48, 48)
            older[f"text_adapter{step}.fc.{layer}.bias"] = torch.randn(48)
    weights = from_official(older)
    model = tiny_model({"MODEL.META_PROMPT.PER_STEP": True, "MODEL.META_PROMPT.ADAPTER": True})
    assert weights.model.keys() == model.state_dict().keys()
    keys, _ = config_of_official(weights)
    assert keys["MODEL.META_PROMPT.PER_STEP"]
    assert keys["MODEL.META_PROMPT.ADAPTER"]


@pytest.mark.parametrize(
    ("theirs", "name"),
    [
        ("encoder.t2", "backbone.refinement.step_embeddings.1"),
        ("encoder.meta_prompts3", "backbone.refinement.meta_prompts.embeddings.2"),
        (
            "encoder.text_adapter1.fc.2.weight",
            "backbone.refinement.meta_prompts.adapters.0.2.weight",
        ),
        ("encoder.layer1.1.bias", "backbone.rearrangement.branches.0.1.bias"),
        ("encoder.layer3.deconv_layers.3.weight", "backbone.rearrangement.branches.2.3.weight"),
        (
            "encoder.layer3.conv_layers.1.running_mean",
            "backbone.rearrangement.branches.2.7.running_mean",
        ),
        ("encoder.out_layer.0.weight", "backbone.rearrangement.fuse.0.weight"),
        ("decoder.deconv_layers.7.weight", "depth_head.decoder.7.weight"),
        ("decoder.conv_layers.0.weight", "depth_head.decoder.9.weight"),
        ("decoder.conv_layers.1.weight", "depth_head.decoder.10.weight"),
        ("last_layer_depth.2.bias", "depth_head.predictor.2.bias"),
        ("encoder.encoder_vq.quant_conv.bias", "backbone.latent_encoder.quant_conv.bias"),
    ],
)
def test_a_depth_tensor_stands_under_our_name(golden: Path, theirs: str, name: str) -> None:
    official = load(golden, "depth_nyu_r3_c1222.pt")
    assert torch.equal(from_official(official).model[name], official[theirs])


def test_a_model_that_the_official_code_lacks_is_refused(official: dict) -> None:
    weights = from_official(official)
    model = {name: v for name, v in weights.model.items() if not name.startswith("backbone.")}
    with pytest.raises(ValueError, match="has no place for 0 tensors"):
        to_official(OfficialWeights("sem_seg", model))
    model = weights.model | {"sem_seg_head.more.weight": torch.zeros(1)}
    with pytest.raises(ValueError, match=r"(?s)no place for 1 tensors.*sem_seg_head\.more\.weight"):
        to_official(OfficialWeights("sem_seg", model))


def test_an_official_file_of_another_number_of_steps_is_refused(
    golden: Path, tmp_path: Path, official: dict
) -> None:
    """The official readers aren't strict and hide it."""
    file = tmp_path / "latest.pth"
    torch.save({"state_dict": official}, file)
    model = tiny_model({"MODEL.META_PROMPT.REFINE_STEPS": 2})
    with pytest.raises(ValueError, match=r"refinement\.step_embeddings\.2: not in the model"):
        SafeCheckpointer(model).load(str(file))


def test_an_official_file_loads_as_model_weights(golden: Path, tmp_path: Path) -> None:
    fixture = torch.load(golden / "seg_ade_r3_c1222.pt", weights_only=True)
    file = tmp_path / "best_mIoU_iter_80000.pth"
    torch.save({"meta": {"CLASSES": "11"}, "state_dict": fixture["state_dict"]}, file)
    model = tiny_model()
    SafeCheckpointer(model).load(str(file))
    prompts = model.backbone.refinement.meta_prompts.embeddings[0]
    assert torch.equal(prompts, fixture["state_dict"]["meta_prompts"])
