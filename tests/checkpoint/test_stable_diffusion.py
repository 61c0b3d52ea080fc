"""Diffusion weights in every format: values, the report, and every way not to fit."""

import json
import logging
import shutil
from pathlib import Path

import huggingface_hub
import numpy as np
import pytest
import torch
from detectron2.modeling import build_backbone
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.loaders.single_file_utils import (
    convert_ldm_unet_checkpoint,
    convert_ldm_vae_checkpoint,
)
from helpers import smallest_backbone, smallest_cfg, tiny_cfg, tiny_model
from huggingface_hub.errors import LocalEntryNotFoundError
from safetensors.torch import load_file, save_file
from torch import nn

from metaprompt_d2.checkpoint import diffusion_sizes, load_diffusion_weights
from metaprompt_d2.checkpoint.sizes import sizes_from_shapes
from metaprompt_d2.diffusion import FeatureUNet, LatentEncoder
from metaprompt_d2.utils.errors import InputError, MissingFileError

FILE = "diffusion_pytorch_model.safetensors"


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


def test_the_report_says_what_was_used_and_what_not_and_why(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    backbone = smallest_backbone()
    with caplog.at_level(logging.INFO, logger="metaprompt_d2"):
        report = load_diffusion_weights(backbone, str(folder))
    parts = backbone.refinement.unet, backbone.latent_encoder
    assert report.used == sum(len(part.state_dict()) for part in parts)
    assert report.missing == []
    in_file = sum(len(load_file(folder / part / FILE)) for part in ("unet", "vae"))
    assert report.used + sum(report.ignored.values()) == in_file
    assert f"{report.used} tensors used" in caplog.text
    assert "4 ignored: time MLP: learned step embeddings take its place" in caplog.text
    assert "ignored: VAE decoder: images are only encoded" in caplog.text
    assert "0 missing" in caplog.text


def test_a_model_without_refinement_has_no_use_for_the_output_head(folder: Path) -> None:
    backbone = smallest_backbone({"MODEL.META_PROMPT.REFINE_STEPS": 1})
    load_diffusion_weights(backbone, str(folder))
    tensors = load_file(folder / "unet" / FILE)
    assert torch.equal(backbone.refinement.unet.conv_in.bias, tensors["conv_in.bias"].float())


def expected_bias(folder: Path) -> torch.Tensor:
    return load_file(folder / "unet" / FILE)["conv_in.bias"].float()


def loaded_bias(source: Path | str, **arguments) -> torch.Tensor:
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(source), **arguments)
    return backbone.refinement.unet.conv_in.bias


def test_pickled_weights_are_read_too(folder: Path) -> None:
    expected = expected_bias(folder)
    file = folder / "unet" / FILE
    torch.save(load_file(file), file.with_suffix(".bin"))
    file.unlink()
    assert torch.equal(loaded_bias(folder), expected)


@pytest.mark.parametrize("safe", [True, False])
def test_weights_in_several_files_are_read(folder: Path, safe: bool) -> None:
    expected = expected_bias(folder)
    (folder / "unet" / FILE).unlink()
    unet = new_unet().half()
    with torch.no_grad():
        unet.conv_in.bias.copy_(expected)
    if safe:
        unet.save_pretrained(folder / "unet", max_shard_size="50KB")
    else:  # diffusers writes pickles no more
        tensors = unet.state_dict()
        names = sorted(tensors)
        shards = {"a.bin": names[:50], "b.bin": names[50:]}
        for file, part in shards.items():
            torch.save({name: tensors[name] for name in part}, folder / "unet" / file)
        index = {"weight_map": {name: file for file, part in shards.items() for name in part}}
        index_file = folder / "unet" / "diffusion_pytorch_model.bin.index.json"
        index_file.write_text(json.dumps(index))
    assert not (folder / "unet" / FILE).exists()
    assert torch.equal(loaded_bias(folder), expected)


def test_a_missing_shard_is_named(folder: Path) -> None:
    (folder / "unet" / FILE).unlink()
    new_unet().save_pretrained(folder / "unet", max_shard_size="50KB")
    shard = sorted((folder / "unet").glob("*-of-*.safetensors"))[0]
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=rf"lacks {shard.name}"):
        loaded_bias(folder)


def test_former_names_of_the_vaes_attention_are_known(folder: Path) -> None:
    """Stable Diffusion 1.5's published folder still has them."""
    file = folder / "vae" / FILE
    former = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    tensors = {}
    for name, value in load_file(file).items():
        for today, then in former.items():
            name = name.replace(f"attentions.0.{today}.", f"attentions.0.{then}.")
        tensors[name] = value
    assert "encoder.mid_block.attentions.0.proj_attn.bias" in tensors
    save_file(tensors, file)
    backbone = smallest_backbone()
    assert load_diffusion_weights(backbone, str(folder)).missing == []
    query = backbone.latent_encoder.encoder.mid_block.attentions[0].to_q.weight
    assert torch.equal(query, tensors["encoder.mid_block.attentions.0.query.weight"].float())


@pytest.fixture
def hub(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Id of a model in the hub's cache, offline."""
    cache = tmp_path / "hub"
    repository = cache / "models--someone--tiny-diffusion"
    (repository / "refs").mkdir(parents=True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    (repository / "refs" / "main").write_text(commit)
    for part in ("unet", "vae"):
        shutil.copytree(folder / part, repository / "snapshots" / commit / part)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return "someone/tiny-diffusion"


def test_a_hub_id_is_read_from_the_cache_without_network(hub: str, folder: Path) -> None:
    assert torch.equal(loaded_bias(hub), expected_bias(folder))


def test_a_hub_id_that_is_not_in_the_cache_is_named_offline(hub: str) -> None:
    with pytest.raises(FileNotFoundError, match=r"someone/else/unet holds none of .*in its cache"):
        loaded_bias("someone/else")


def test_what_is_neither_a_path_nor_an_id_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="neither a folder in diffusers' layout, nor"):
        loaded_bias(tmp_path / "no" / "such.ckpt")


# --------------------------------------------------------------------------- one file, CompVis


@pytest.fixture(scope="module")
def compvis(golden: Path) -> dict[str, torch.Tensor]:
    """Stable Diffusion in the small, with decoder, text encoder and noise schedule."""
    return torch.load(golden / "sd_c1222_compvis.pt", weights_only=True)["state_dict"]


def same_as_diffusers(backbone: nn.Module, compvis: dict[str, torch.Tensor]) -> bool:
    """Compare with diffusers' own reading of the tensors."""
    config = {"layers_per_block": 2, "class_embed_type": None, "addition_embed_type": None}
    unet = convert_ldm_unet_checkpoint(dict(compvis), config)
    blocks = {"down_block_types": [None] * 4, "up_block_types": [None] * 4}
    vae = convert_ldm_vae_checkpoint(dict(compvis), blocks)
    parts = [(backbone.refinement.unet, unet), (backbone.latent_encoder, vae)]
    return all(
        torch.equal(value, expected[name].to(value.dtype))
        for part, expected in parts
        for name, value in part.state_dict().items()
    )


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_file_in_compvis_layout_gives_the_same_backbone(
    tmp_path: Path, compvis: dict, ending: str, dtype: torch.dtype
) -> None:
    tensors = {name: value.to(dtype) for name, value in compvis.items()}
    file = tmp_path / f"v1-5-pruned.{ending}"
    if ending == "ckpt":
        torch.save({"state_dict": tensors, "global_step": 3}, file)
    else:
        save_file(tensors, file)
    backbone = tiny_model().backbone
    report = load_diffusion_weights(backbone, str(file))
    assert same_as_diffusers(backbone, tensors)
    assert next(backbone.parameters()).dtype == torch.float32
    assert report.missing == []
    assert report.used + sum(report.ignored.values()) == len(tensors)
    assert "ignored: text encoder: meta prompts take its place" in str(report)


def test_moving_averages_in_the_file_are_left_aside(tmp_path: Path, compvis: dict) -> None:
    averages = {
        "model_ema." + name.removeprefix("model.").replace(".", ""): value + 1
        for name, value in compvis.items()
        if name.startswith("model.diffusion_model.")
    }
    file = tmp_path / "v1-5-pruned.ckpt"
    torch.save({"state_dict": compvis | averages}, file)
    backbone = tiny_model().backbone
    report = load_diffusion_weights(backbone, str(file))
    assert same_as_diffusers(backbone, compvis)
    assert f"{len(averages)} ignored: moving averages" in str(report)


def test_a_file_of_something_else_is_named(tmp_path: Path) -> None:
    file = tmp_path / "lora.safetensors"
    save_file({"lora.weight": torch.zeros(2)}, file)
    with pytest.raises(ValueError, match=r"lora\.safetensors has no tensor model\.diffusion_model"):
        loaded_bias(file)


# --------------------------------------------------------------------------- sizes


def test_sizes_come_from_the_folders_own_config(folder: Path) -> None:
    sizes = diffusion_sizes(str(folder))
    assert sizes["UNET.BLOCK_OUT_CHANNELS"] == (8, 16, 16, 16)
    assert sizes["UNET.NUM_HEADS"] == 2
    assert sizes["UNET.NORM_NUM_GROUPS"] == 4
    assert sizes["VAE.BLOCK_OUT_CHANNELS"] == (4, 8, 8, 8)


def second_generation(folder: Path) -> UNet2DConditionModel:
    """Stable Diffusion 2 in the small: wide context, linear projections, heads by level."""
    unet = UNet2DConditionModel(
        block_out_channels=(8, 16, 32, 32),
        layers_per_block=2,
        cross_attention_dim=24,
        attention_head_dim=(1, 2, 4, 4),
        norm_num_groups=4,
        use_linear_projection=True,
    )
    unet.save_pretrained(folder / "unet")
    new_vae().save_pretrained(folder / "vae")
    return unet


SECOND_GENERATION_KEYS = {
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (8, 16, 32, 32),
    "MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK": 2,
    "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": 24,
    "MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL": (1, 2, 4, 4),
    "MODEL.DIFFUSION.UNET.LINEAR_PROJECTION": True,
}


@pytest.mark.parametrize("by", ["keys", "config", "shapes"])
def test_stable_diffusion_2_builds_from_keys_or_from_the_weights(tmp_path: Path, by: str) -> None:
    unet = second_generation(tmp_path)
    keys = SECOND_GENERATION_KEYS
    if by != "keys":
        # What smallest_cfg sets (levels, groups, ...) must give way.
        keys = {
            "MODEL.DIFFUSION.WEIGHTS": str(tmp_path),
            "MODEL.DIFFUSION.SIZES_FROM_WEIGHTS": True,
        }
    if by == "shapes":
        for part in ("unet", "vae"):
            (tmp_path / part / "config.json").unlink()
        with pytest.raises(ValueError, match=r"(?i)norm_num_groups 32"):
            smallest_backbone(keys)  # groups cannot be told; 8 channels are too few for 32
        return
    cfg = smallest_cfg(keys)
    assert not cfg.MODEL.DIFFUSION.SIZES_FROM_WEIGHTS
    backbone = build_backbone(cfg)
    assert load_diffusion_weights(backbone, str(tmp_path)).missing == []
    ours = backbone.refinement.unet
    assert ours.config.attention_head_dim == (1, 2, 4, 4)
    transformers = [block.attentions[0].transformer_blocks[0] for block in ours.down_blocks[:3]]
    assert [transformer.attn1.heads for transformer in transformers] == [1, 2, 4]
    expected = unet.state_dict()
    for name, value in ours.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert set(backbone(torch.rand(1, 3, 64, 64))) == {"p2", "p3", "p4", "p5"}


def test_shapes_of_one_file_tell_the_sizes(golden: Path) -> None:
    sizes = diffusion_sizes(str(golden / "sd_c1222_compvis.pt"))
    node = tiny_cfg().MODEL.DIFFUSION
    for key, value in sizes.items():
        part, name = key.split(".")
        assert tuple(np.atleast_1d(node[part][name])) == tuple(np.atleast_1d(value)), key


def test_shapes_of_stable_diffusion_2_tell_its_heads() -> None:
    with torch.device("meta"):
        unet = FeatureUNet(
            cross_attention_dim=1024, num_heads=(5, 10, 20, 20), linear_projection=True
        )
        vae = LatentEncoder()
    shapes = [{k: tuple(v.shape) for k, v in part.state_dict().items()} for part in (unet, vae)]
    sizes, untold = sizes_from_shapes(*shapes)
    assert sizes["UNET.NUM_HEADS_PER_LEVEL"] == (5, 10, 20, 20)
    assert sizes["UNET.CROSS_ATTENTION_DIM"] == 1024
    assert sizes["UNET.LINEAR_PROJECTION"]
    assert "UNET.NUM_HEADS_PER_LEVEL" in untold


def test_a_unet_of_another_structure_is_refused(folder: Path) -> None:
    file = folder / "unet" / "config.json"
    config = json.loads(file.read_text()) | {"addition_embed_type": "text_time"}
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match="addition_embed_type text_time, expected None"):
        diffusion_sizes(str(folder))


def test_a_config_without_a_size_is_named(folder: Path) -> None:
    file = folder / "vae" / "config.json"
    config = json.loads(file.read_text())
    del config["latent_channels"]
    file.write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"config\.json lacks the key 'latent_channels'"):
        diffusion_sizes(str(folder))


def test_sizes_from_weights_need_weights() -> None:
    with pytest.raises(ValueError, match=r"SIZES_FROM_WEIGHTS needs MODEL\.DIFFUSION\.WEIGHTS"):
        smallest_cfg({"MODEL.DIFFUSION.SIZES_FROM_WEIGHTS": True})


# --------------------------------------------------------------------------- what doesn't fit


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"DIFFUSION\.WEIGHTS: .*nowhere is neither"):
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
        assert f"unet.{name}: {sizes}" in message
    assert "block_out_channels [8, 16, 16, 16]" in message
    assert "MODEL.DIFFUSION.UNET" in message


def test_all_missing_tensors_are_listed(folder: Path) -> None:
    drop_tensors(folder)
    with pytest.raises(ValueError, match="2 tensors") as error:
        loaded_bias(folder)
    assert "unet.conv_in.bias: missing" in str(error.value)
    assert "vae.quant_conv.weight: missing" in str(error.value)


def test_missing_tensors_stay_at_random_where_that_is_allowed(folder: Path) -> None:
    drop_tensors(folder)
    backbone = smallest_backbone()
    before = backbone.refinement.unet.conv_in.bias.clone()
    report = load_diffusion_weights(backbone, str(folder), strict=False)
    assert report.missing == ["unet.conv_in.bias", "vae.quant_conv.weight"]
    assert "2 missing:\n    unet.conv_in.bias" in str(report)
    assert torch.equal(backbone.refinement.unet.conv_in.bias, before)
    expected = load_file(folder / "unet" / FILE)["conv_in.weight"].float()
    assert torch.equal(backbone.refinement.unet.conv_in.weight, expected)


def drop_tensors(folder: Path) -> None:
    for part, name in (("unet", "conv_in.bias"), ("vae", "quant_conv.weight")):
        file = folder / part / FILE
        tensors = load_file(file)
        del tensors[name]
        save_file(tensors, file)


def test_all_tensors_with_nan_are_listed(folder: Path) -> None:
    file = folder / "unet" / FILE
    tensors = load_file(file)
    tensors["conv_out.bias"][1] = float("nan")
    tensors["conv_in.weight"][0, 0, 0, 0] = float("inf")
    save_file(tensors, file)
    with pytest.raises(ValueError, match="2 tensors hold NaN or infinity") as error:
        loaded_bias(folder)
    assert "unet.conv_out.bias" in str(error.value)
    assert "unet.conv_in.weight" in str(error.value)


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


@pytest.mark.parametrize("variant", ["fp16", "non_ema", "bf16"])
@pytest.mark.parametrize("parts", [("unet", "vae"), ("unet",)])
@pytest.mark.parametrize("is_sharded", [False, True])
def test_a_folder_may_hold_a_variant_alone(
    folder: Path, variant: str, parts: tuple[str, ...], is_sharded: bool
) -> None:
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    vae = AutoencoderKL.from_pretrained(folder / "vae")
    expected = unet.conv_in.bias.detach()
    for part in parts:
        (folder / part / FILE).unlink()
    size = "50KB" if is_sharded else "5GB"
    unet.save_pretrained(folder / "unet", variant=variant, max_shard_size=size)
    if "vae" in parts:
        vae.save_pretrained(folder / "vae", variant=variant)
    assert not (folder / "unet" / FILE).exists()
    assert torch.equal(loaded_bias(folder), expected)


def test_the_weights_themselves_come_before_variants(folder: Path) -> None:
    expected = expected_bias(folder)
    new_unet().save_pretrained(folder / "unet", variant="fp16")
    assert torch.equal(loaded_bias(folder), expected)


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2", "bfloat16", "float64"])
@pytest.mark.parametrize("is_pickled", [False, True])
def test_weights_of_any_floating_point_type_load(folder: Path, kind: str, is_pickled: bool) -> None:
    parts = {"unet": new_unet(), "vae": new_vae()}
    for part, module in parts.items():
        tensors = {n: v.to(getattr(torch, kind)) for n, v in module.state_dict().items()}
        (torch.save if is_pickled else save_file)(tensors, folder / part / FILE)
    backbone = smallest_backbone()
    load_diffusion_weights(backbone, str(folder))
    expected = parts["unet"].state_dict()
    for name, value in backbone.refinement.unet.state_dict().items():
        assert torch.equal(value, expected[name].to(getattr(torch, kind)).float()), name


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        (
            "conv_in.weight.SCB",
            torch.ones(8),
            r"quantized with scales \(unet\.conv_in\.weight\.SCB",
        ),
        ("conv_in.scale_weight", torch.ones(()), "quantized with scales"),
        (
            "conv_in.bias",
            torch.ones(8, dtype=torch.int8),
            r"conv_in\.bias: torch\.int8 in the file",
        ),
    ],
)
def test_quantized_weights_are_refused(
    folder: Path, name: str, value: torch.Tensor, reason: str
) -> None:
    file = folder / "unet" / FILE
    save_file(load_file(file) | {name: value}, file)
    with pytest.raises(InputError, match=reason):
        loaded_bias(folder)


@pytest.mark.parametrize(
    ("extra", "kind"),
    [(5, "an inpainting model"), (4, "a model that edits images"), (1, "conditioned on depth")],
)
def test_a_unet_that_takes_more_than_a_latent_is_named(folder: Path, extra: int, kind: str) -> None:
    file, config = folder / "unet" / FILE, folder / "unet/config.json"
    tensors = load_file(file)
    weight = tensors["conv_in.weight"]
    more = torch.zeros(len(weight), extra, 3, 3, dtype=weight.dtype)
    save_file(tensors | {"conv_in.weight": torch.cat([weight, more], 1)}, file)
    message = rf"{folder.name}: the UNet takes {4 + extra} channels.*have 4: it is .*{kind}"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"in_channels": 4 + extra}))
    with pytest.raises(InputError, match=message) as error:
        loaded_bias(folder)
    assert "SIZES_FROM_WEIGHTS" not in str(error.value)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod."])
def test_weights_of_a_wrapped_unet_load(folder: Path, prefix: str) -> None:
    expected, file = expected_bias(folder), folder / "unet" / FILE
    save_file({prefix + name: value for name, value in load_file(file).items()}, file)
    assert torch.equal(loaded_bias(folder), expected)


def test_an_index_never_leads_out_of_its_folder(folder: Path) -> None:
    file = folder / "unet" / FILE
    shutil.move(file, folder / "outside.safetensors")
    for names in ({"a": "../outside.safetensors"}, {"a": 3}, ["a"]):
        index = folder / "unet" / f"{FILE}.index.json"
        index.write_text(json.dumps({"weight_map": names}))
        with pytest.raises(InputError, match=r"names '\.\./outside|has no weight_map"):
            loaded_bias(folder)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("models/sd-1-4", r"the\s+folder models is here; it holds sd-1-5"),
        ("weights/v1-5.ckpt", "is neither a folder"),
        ("weights/V1-5.SAFETENSORS", "is neither a folder"),
        ("./models", "holds none of"),
        ("models/sd-1-5/unet/x", "is neither a folder"),
    ],
)
def test_a_mistyped_path_does_not_ask_the_hub(
    name: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise AssertionError("the hub was asked")

    (tmp_path / "models/sd-1-5").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("metaprompt_d2.checkpoint.sources.hf_hub_download", fail)
    with pytest.raises(MissingFileError, match=reason):
        loaded_bias(name)


def test_a_hub_that_does_not_answer_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def unreachable(repository: str, name: str) -> None:
        asked.append(name)
        raise LocalEntryNotFoundError("no connection")

    monkeypatch.setattr("metaprompt_d2.checkpoint.sources.hf_hub_download", unreachable)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    with pytest.raises(MissingFileError, match="owner/name is neither .* can't be reached"):
        loaded_bias("owner/name")
    assert len(asked) == 1
