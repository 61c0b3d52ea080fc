"""Mask2Former's published layout and transformers' against our head, names and numbers."""

import random
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from mask2former_models import CHANNELS, tiny_config, tiny_head
from published_mask2former import PublishedMask2Former
from torch import Tensor, nn
from transformers import Mask2FormerForUniversalSegmentation

from metaprompt_d2.checkpoint import (
    config_of_mask2former,
    from_mask2former,
    mask2former_layout,
    to_mask2former,
)
from metaprompt_d2.utils.errors import InputError

# A model of one layer each, read from facebookresearch/Mask2Former's pixel_decoder/msdeformattn.py
# and transformer_decoder/mask2former_transformer_decoder.py. "/" stands for a weight and a bias.
PUBLISHED = """
criterion.empty_weight
sem_seg_head.pixel_decoder.input_proj.0.0/
sem_seg_head.pixel_decoder.input_proj.0.1/
sem_seg_head.pixel_decoder.input_proj.1.0/
sem_seg_head.pixel_decoder.input_proj.1.1/
sem_seg_head.pixel_decoder.input_proj.2.0/
sem_seg_head.pixel_decoder.input_proj.2.1/
sem_seg_head.pixel_decoder.transformer.level_embed
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.sampling_offsets/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.attention_weights/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.value_proj/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.self_attn.output_proj/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.norm1/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear1/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.linear2/
sem_seg_head.pixel_decoder.transformer.encoder.layers.0.norm2/
sem_seg_head.pixel_decoder.mask_features/
sem_seg_head.pixel_decoder.adapter_1.weight
sem_seg_head.pixel_decoder.adapter_1.norm/
sem_seg_head.pixel_decoder.layer_1.weight
sem_seg_head.pixel_decoder.layer_1.norm/
sem_seg_head.predictor.transformer_self_attention_layers.0.self_attn.in_proj_weight
sem_seg_head.predictor.transformer_self_attention_layers.0.self_attn.in_proj_bias
sem_seg_head.predictor.transformer_self_attention_layers.0.self_attn.out_proj/
sem_seg_head.predictor.transformer_self_attention_layers.0.norm/
sem_seg_head.predictor.transformer_cross_attention_layers.0.multihead_attn.in_proj_weight
sem_seg_head.predictor.transformer_cross_attention_layers.0.multihead_attn.in_proj_bias
sem_seg_head.predictor.transformer_cross_attention_layers.0.multihead_attn.out_proj/
sem_seg_head.predictor.transformer_cross_attention_layers.0.norm/
sem_seg_head.predictor.transformer_ffn_layers.0.linear1/
sem_seg_head.predictor.transformer_ffn_layers.0.linear2/
sem_seg_head.predictor.transformer_ffn_layers.0.norm/
sem_seg_head.predictor.decoder_norm/
sem_seg_head.predictor.query_feat.weight
sem_seg_head.predictor.query_embed.weight
sem_seg_head.predictor.level_embed.weight
sem_seg_head.predictor.input_proj.0/
sem_seg_head.predictor.input_proj.1/
sem_seg_head.predictor.input_proj.2/
sem_seg_head.predictor.class_embed/
sem_seg_head.predictor.mask_embed.layers.0/
sem_seg_head.predictor.mask_embed.layers.1/
sem_seg_head.predictor.mask_embed.layers.2/
"""


@pytest.fixture
def _double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def _published_names(with_projections: bool = True) -> set[str]:
    lines = PUBLISHED.split()
    if not with_projections:
        lines = [line for line in lines if ".predictor.input_proj." not in line]
    names = {line for line in lines if not line.endswith("/")}
    return names | {
        line.replace("/", kind)
        for line in lines
        for kind in (".weight", ".bias")
        if line.endswith("/")
    }


def _randomized(module: nn.Module) -> nn.Module:
    """Give all tensors other values than those they start with, which are often equal."""
    for value in module.state_dict().values():
        value.copy_(torch.randn(value.shape) / 3)
    return module


def _of_head(head: nn.Module) -> dict[str, Tensor]:
    return {f"sem_seg_head.{name}": value for name, value in head.state_dict().items()}


def _random_sizes(seed: int) -> dict[str, Any]:
    choose = random.Random(seed)
    heads = choose.choice((1, 2, 4))
    return {
        "num_classes": choose.randint(1, 9),
        "num_queries": choose.randint(1, 9),
        "conv_dim": choose.choice((32, 64)),
        "hidden_dim": choose.choice((32, 64)),
        "mask_dim": choose.randint(1, 9),
        "num_heads": heads,
        "encoder_layers": choose.choice((1, 3, 11)),
        "encoder_feedforward_dim": choose.randint(1, 9),
        "decoder_layers": choose.choice((2, 4, 12)),
        "feedforward_dim": choose.randint(1, 9),
    }


def _assert_equal(given: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(given[name], value), name


@pytest.mark.parametrize("conv_dim", [32, 64])
def test_names_are_those_of_the_published_source(conv_dim: int) -> None:
    expected = _published_names(with_projections=conv_dim != 32)
    sizes = {"conv_dim": conv_dim, "encoder_layers": 1, "decoder_layers": 2}
    ours = _of_head(tiny_head(**sizes))
    assert set(to_mask2former(ours, "mask2former")) == expected
    assert set(from_mask2former({name: torch.zeros(3) for name in expected})) == set(ours)
    # The independent model that numbers are compared with.
    assert set(PublishedMask2Former(CHANNELS, **sizes).state_dict()) == expected


@pytest.mark.parametrize("conv_dim", [32, 64])
@pytest.mark.usefixtures("_double")
def test_predictions_are_those_of_the_published_model(conv_dim: int) -> None:
    """Names and the order of queries, keys and values: any mix-up changes the numbers."""
    model = _randomized(PublishedMask2Former(CHANNELS, conv_dim=conv_dim)).eval()
    head = tiny_head(conv_dim=conv_dim).eval()
    weights = from_mask2former(model.state_dict())
    head.load_state_dict({n.removeprefix("sem_seg_head."): v for n, v in weights.items()})
    features = {
        f"res{level + 2}": torch.randn(2, width, 16 >> level, 24 >> level)
        for level, width in enumerate(CHANNELS)
    }
    predicted, _ = head(features)
    for ours, theirs in zip(predicted, model(features), strict=True):
        assert theirs.abs().max() > 0.1
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["mask2former", "transformers"])
@pytest.mark.parametrize("seed", range(4))
def test_ours_to_theirs_to_ours_is_bit_identical(layout: str, seed: int) -> None:
    ours = _of_head(_randomized(tiny_head(**_random_sizes(seed))))
    theirs = to_mask2former(ours, layout)
    assert mask2former_layout(theirs) == layout
    assert not set(theirs) & set(ours)
    _assert_equal(from_mask2former(theirs), ours)


@pytest.mark.parametrize("seed", range(4))
def test_published_to_ours_to_published_is_bit_identical(seed: int) -> None:
    model = _randomized(PublishedMask2Former(CHANNELS, **_random_sizes(seed)))
    theirs = model.state_dict() | {"backbone.stem.conv1.weight": torch.randn(2)}
    ours = from_mask2former(theirs)
    assert mask2former_layout(ours) == "ours"
    assert "backbone.stem.conv1.weight" in ours
    again = to_mask2former(ours, "mask2former")
    _assert_equal(again, theirs)


def test_the_published_code_loads_what_is_written() -> None:
    """It renames the tensors of state dicts that don't say the version of their names."""
    model, other = (_randomized(PublishedMask2Former(CHANNELS)) for _ in range(2))
    written = to_mask2former(from_mask2former(model.state_dict()), "mask2former")
    with pytest.raises(RuntimeError, match="pixel_decoder.pixel_decoder.mask_features"):
        other.load_state_dict(dict(written))
    other.load_state_dict(written)
    _assert_equal(other.state_dict(), model.state_dict())


def test_transformers_to_ours_to_transformers_is_bit_identical() -> None:
    """With Swin, which keeps its names, and the names of a model that was compiled."""
    theirs = _randomized(Mask2FormerForUniversalSegmentation(tiny_config()).float()).state_dict()
    theirs = {name: value for name, value in theirs.items() if value.is_floating_point()}
    ours = from_mask2former({f"module._orig_mod.{name}": v for name, v in theirs.items()})
    head = _of_head(tiny_head())
    assert {name for name in ours if name.startswith("sem_seg_head.")} == set(head)
    assert all(ours[name].shape == value.shape for name, value in head.items())
    _assert_equal(to_mask2former(ours, "transformers"), theirs)


@pytest.mark.parametrize("layout", ["mask2former", "transformers"])
def test_a_backbone_that_a_layout_does_not_have_is_left_out(layout: str) -> None:
    backbones = {"backbone.a": torch.zeros(1), "model.pixel_level_module.encoder.a": torch.zeros(1)}
    ours = _of_head(tiny_head())
    written = to_mask2former(ours | backbones, layout)
    kept = {"mask2former": "backbone.a", "transformers": "model.pixel_level_module.encoder.a"}
    assert set(written) & set(backbones) == {kept[layout]}


def test_attentions_of_a_backbone_stay_as_they_are() -> None:
    """Also where its layers are named as the head's."""
    names = ["backbone.layers.0.self_attn.in_proj_weight", "backbone.self_attn.q_proj.weight"]
    backbone = {name: torch.randn(3, 2) for name in names}
    ours = _of_head(tiny_head()) | backbone
    theirs = to_mask2former(ours, "mask2former")
    assert backbone.items() <= theirs.items()
    _assert_equal(from_mask2former(theirs), ours)


def test_the_older_name_of_the_queries_is_read_and_todays_is_written() -> None:
    model = PublishedMask2Former(CHANNELS).state_dict()
    name, older = (f"sem_seg_head.predictor.{n}.weight" for n in ("query_feat", "static_query"))
    ours = from_mask2former(model)
    model[older] = model[name]
    with pytest.raises(InputError, match=r"query_feat.weight and .*static_query.weight"):
        from_mask2former(model)
    del model[name]
    _assert_equal(from_mask2former(model), ours)
    assert name in to_mask2former(ours, "mask2former")


def test_layouts_are_told_by_their_names() -> None:
    assert mask2former_layout(["module.sem_seg_head.decoders.class_predictor.bias"]) == "ours"
    for others in (["backbone.stem.conv1.weight"], ["sem_seg_head.predictor.weight"], []):
        assert mask2former_layout(others) is None
    state_dict = {"module.sem_seg_head.predictor.weight": torch.zeros(1)}
    assert list(from_mask2former(state_dict)) == ["sem_seg_head.predictor.weight"]


@pytest.mark.parametrize("shape", [(), (7, 2)])
def test_queries_keys_and_values_that_cannot_be_divided_are_named(shape: tuple[int, ...]) -> None:
    model = PublishedMask2Former(CHANNELS).state_dict()
    layer = "transformer_self_attention_layers.1.self_attn"
    model[f"sem_seg_head.predictor.{layer}.in_proj_weight"] = torch.zeros(shape)
    with pytest.raises(InputError, match=r"layers\.1\.self_attn\.in_proj_weight: \(") as error:
        from_mask2former(model)
    assert str(shape) in str(error.value)


def test_a_missing_part_of_an_attention_is_named() -> None:
    ours = _of_head(tiny_head())
    name = "sem_seg_head.decoders.transformer_module.decoder.layers.0.self_attn.v_proj.bias"
    del ours[name]
    with pytest.raises(InputError, match=f"{name} is missing"):
        to_mask2former(ours, "mask2former")


@pytest.mark.parametrize("seed", range(4))
def test_sizes_are_read_from_the_tensors(seed: int) -> None:
    sizes = _random_sizes(seed)
    keys, channels = config_of_mask2former(_of_head(tiny_head(**sizes)))
    assert list(keys.values()) == [
        sizes[name]
        for name in (
            *("num_classes", "num_queries", "conv_dim", "mask_dim", "hidden_dim", "num_heads"),
            *("encoder_layers", "encoder_feedforward_dim", "decoder_layers", "feedforward_dim"),
        )
    ]
    assert channels == list(CHANNELS)


def test_a_tensor_that_shows_a_size_and_is_missing_is_named() -> None:
    ours = _of_head(tiny_head())
    name = "sem_seg_head.decoders.pixel_decoder.mask_projection.weight"
    for broken in (None, torch.zeros(3)):
        weights = {n: v for n, v in ours.items() if n != name}
        if broken is not None:
            weights[name] = broken
        with pytest.raises(InputError, match=f"without the tensor {name}"):
            config_of_mask2former(weights)
