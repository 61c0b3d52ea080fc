"""`MetaPromptBackbone`: its stated shapes are true, its keys are checked, its size is SD 1.5's."""

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from helpers import smallest_backbone

from metaprompt_d2.diffusion import FusedRearrangement, PyramidRearrangement, is_adapter
from metaprompt_d2.engine import load_config

# Names, channels (6 prompts, or the UNet's widths) and strides in every mode.
FEATURES = {
    "pyramid": {"p2": (6, 4), "p3": (6, 8), "p4": (6, 16), "p5": (6, 32)},
    "fused": {"p3": (6, 8)},
    "none": {"up3": (8, 8), "up4": (16, 16), "up5": (16, 32), "up6": (16, 64)},
}
REARRANGE = "MODEL.META_PROMPT.REARRANGE"


@pytest.fixture(scope="module", params=list(FEATURES))
def mode(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def backbone(mode: str) -> torch.nn.Module:
    return smallest_backbone({REARRANGE: mode}).eval()


def pixels(mean: float, std: float) -> dict:
    return {"MODEL.PIXEL_MEAN": [mean] * 3, "MODEL.PIXEL_STD": [std] * 3}


def test_stated_names_channels_and_strides(backbone: torch.nn.Module, mode: str) -> None:
    shapes = backbone.output_shape()
    assert {name: (s.channels, s.stride) for name, s in shapes.items()} == FEATURES[mode]


@pytest.mark.parametrize("size", [(64, 64), (128, 64), (64, 192)])
def test_features_have_the_stated_shapes(backbone: torch.nn.Module, size: tuple[int, int]) -> None:
    with torch.no_grad():
        features = backbone(torch.zeros(2, 3, *size))
    expected = {
        name: (2, shape.channels, size[0] // shape.stride, size[1] // shape.stride)
        for name, shape in backbone.output_shape().items()
    }
    assert {name: tuple(feature.shape) for name, feature in features.items()} == expected
    assert list(features) == list(expected)


@pytest.mark.parametrize("size", [(8, 8), (61, 100), (120, 136)])
def test_sizes_that_are_not_multiples_of_64_are_rounded_up(
    backbone: torch.nn.Module, size: tuple[int, int]
) -> None:
    with torch.no_grad():
        features = backbone(torch.zeros(1, 3, *size))
    # The latent rounds down, the coarsest map of the UNet up; everything else is doublings of it.
    rows, columns = (-(-(side // 8) // 8) for side in size)
    for name, shape in backbone.output_shape().items():
        doublings = 64 // shape.stride
        assert features[name].shape[2:] == (doublings * rows, doublings * columns), name


def test_size_divisibility_asks_for_padding_where_raw_maps_need_it(
    backbone: torch.nn.Module, mode: str
) -> None:
    assert backbone.size_divisibility == (64 if mode == "none" else 0)


def test_output_shape_cannot_be_changed_from_outside(backbone: torch.nn.Module) -> None:
    backbone.output_shape().clear()
    assert backbone.output_shape()


def test_an_unknown_rearrangement_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"META_PROMPT\.REARRANGE is 'FPN'.*'pyramid', 'fused'"):
        smallest_backbone({REARRANGE: "FPN"})


@pytest.mark.parametrize("key", ["NUM_PROMPTS", "REFINE_STEPS"])
@pytest.mark.parametrize("value", [0, -2])
def test_counts_below_one_are_refused_by_their_key(key: str, value: int) -> None:
    with pytest.raises(ValueError, match=rf"MODEL\.META_PROMPT\.{key} is {value}"):
        smallest_backbone({f"MODEL.META_PROMPT.{key}": value})


def test_gray_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.PIXEL_MEAN has 1 channels"):
        smallest_backbone({"MODEL.PIXEL_MEAN": [0.5], "MODEL.PIXEL_STD": [1.0]})


def test_training_moves_prompts_and_unet_but_not_the_vae(backbone: torch.nn.Module) -> None:
    trainable = {name for name, p in backbone.named_parameters() if p.requires_grad}
    frozen = {name for name, p in backbone.named_parameters() if not p.requires_grad}
    assert frozen == {name for name in frozen if name.startswith("latent_encoder.")}
    assert any(name.startswith("refinement.unet.") for name in trainable)


def test_a_frozen_unet_leaves_prompts_embeddings_and_projections_to_train() -> None:
    backbone = smallest_backbone({"MODEL.DIFFUSION.FREEZE_UNET": True})
    features = backbone(torch.rand(1, 3, 64, 64))
    sum(feature.square().mean() for feature in features.values()).backward()
    moved = {name for name, p in backbone.named_parameters() if p.grad is not None}
    assert {name.split(".")[1] for name in moved} == {
        "meta_prompts",
        "step_embeddings",
        "projections",
    }
    # Both steps' embeddings, although the UNet between them is frozen.
    assert {f"refinement.step_embeddings.{step}" for step in (0, 1)} <= moved


def test_adapters_train_in_a_frozen_unet() -> None:
    pytest.importorskip("peft")
    keys = {"MODEL.DIFFUSION.FREEZE_UNET": True, "MODEL.DIFFUSION.LORA.RANK": 2}
    unet = smallest_backbone(keys).refinement.unet
    assert {name for name, p in unet.named_parameters() if p.requires_grad} == {
        name for name, _ in unet.named_parameters() if is_adapter(name)
    }


def test_gradient_checkpointing_is_switched_on_by_its_key() -> None:
    key = "MODEL.DIFFUSION.GRADIENT_CHECKPOINTING"
    for enabled in (False, True):
        unet = smallest_backbone({key: enabled}).refinement.unet
        assert unet.is_gradient_checkpointing == enabled


def test_the_prompt_keys_reach_the_model() -> None:
    keys = {"PER_STEP": True, "ADAPTER": True, "REFINE_STEPS": 3, "NUM_PROMPTS": 7}
    backbone = smallest_backbone({f"MODEL.META_PROMPT.{key}": v for key, v in keys.items()})
    prompts = backbone.refinement.meta_prompts
    assert len(prompts.embeddings) == len(prompts.adapters) == 3
    assert prompts(2).shape == (7, 16)
    assert len(backbone.refinement.step_embeddings) == 3


def test_the_rearrangement_keys_reach_the_model() -> None:
    keys = {REARRANGE: "fused", "MODEL.META_PROMPT.DECONV_CHANNELS": 5}
    keys["MODEL.META_PROMPT.NORM_NUM_GROUPS"] = 2
    rearrangement = smallest_backbone(keys).rearrangement
    assert isinstance(rearrangement, FusedRearrangement)
    assert rearrangement.branches[1][0].out_channels == 5
    assert rearrangement.fuse[1].num_groups == 2
    assert isinstance(smallest_backbone().rearrangement, PyramidRearrangement)
    assert smallest_backbone({REARRANGE: "none"}).rearrangement is None


@pytest.mark.parametrize("num_levels", [2, 3])
def test_fewer_levels_build_run_and_state_their_shapes(mode: str, num_levels: int) -> None:
    sizes = {"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (8, 16, 16)[:num_levels], REARRANGE: mode}
    backbone = smallest_backbone(sizes)
    features = backbone(torch.zeros(1, 3, 64, 32))
    shapes = backbone.output_shape()
    assert len(shapes) == (1 if mode == "fused" else num_levels)
    for name, shape in shapes.items():
        assert features[name].shape[1:] == (shape.channels, 64 // shape.stride, 32 // shape.stride)


def test_another_vae_changes_the_strides() -> None:
    backbone = smallest_backbone({"MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": (4, 8, 8)})
    assert [(n, s.stride) for n, s in backbone.output_shape().items()] == [
        ("p1", 2),
        ("p2", 4),
        ("p3", 8),
        ("p4", 16),
    ]


# ------------------------------------------------------------------ Stable Diffusion 1.5's size

# The official models' sizes, without the tensors that they keep but never use.
TIME_MLP = 320 * 1280 + 1280 + 1280 * 1280 + 1280
POST_QUANT_CONV = 4 * 4 + 4
OUTPUT_HEAD = 2 * 320 + 4 * 320 * 9 + 4
UNET = 859_421_124 + 99_840 - TIME_MLP


def count(module: torch.nn.Module, *, trainable_only: bool = False) -> int:
    return sum(p.numel() for p in module.parameters() if p.requires_grad or not trainable_only)


def full_size(overrides: list) -> torch.nn.Module:
    cfg = load_config("metaprompt_d2://cityscapes_seg.yaml", ["MODEL.DEVICE", "meta", *overrides])
    with torch.device("meta"):
        return build_model(cfg)


def test_the_dead_tensors_are_counted_right() -> None:
    assert (TIME_MLP, POST_QUANT_CONV, OUTPUT_HEAD) == (2_050_560, 20, 12_164)


def test_encoder_and_unet_have_stable_diffusions_size() -> None:
    backbone = full_size([]).backbone
    assert count(backbone.latent_encoder) == 34_163_684 - POST_QUANT_CONV == 34_163_664
    assert count(backbone.refinement.unet) == UNET == 857_470_404


@pytest.mark.parametrize(
    ("num_classes", "steps", "trainable", "total"),
    [
        (150, 3, 912_018_928, 946_182_612),  # ADE20K
        # Cityscapes: 131 classes less in each of two classifiers of 512 channels
        (19, 3, 912_018_928 - 2 * 131 * 513, 946_182_612 - 2 * 131 * 513),
        (19, 1, 911_881_962, 946_045_646),  # Cityscapes with extra data
    ],
)
def test_segmentation_models_have_the_official_size(
    num_classes: int, steps: int, trainable: int, total: int
) -> None:
    model = full_size(
        ["MODEL.SEM_SEG_HEAD.NUM_CLASSES", num_classes, "MODEL.META_PROMPT.REFINE_STEPS", steps]
    )
    unused = TIME_MLP + (OUTPUT_HEAD if steps == 1 else 0)
    assert count(model, trainable_only=True) == trainable - unused
    assert count(model) == total - unused - POST_QUANT_CONV


def test_the_depth_backbone_has_the_official_size() -> None:
    keys = {"NUM_PROMPTS": 50, "PER_STEP": True, "ADAPTER": True, "REARRANGE": "fused"}
    cfg = load_config(
        "metaprompt_d2://cityscapes_seg.yaml",
        [part for key, value in keys.items() for part in (f"MODEL.META_PROMPT.{key}", value)],
    )
    with torch.device("meta"):
        backbone = build_backbone(cfg)
    # The official 923,575,273 include the decoder.
    deconvs = (50 + 32 + 32) * 32 * 2 * 2 + 3 * 2 * 32
    conv = 192 * 32 * 9 + 192 + 2 * 192
    last = 192 * 192 * 9 + 192 + 192 * 9 + 1
    assert count(backbone) == 923_575_273 - POST_QUANT_CONV - deconvs - conv - last


def test_features_can_be_chosen_and_others_have_no_parameters() -> None:
    every = smallest_backbone()
    chosen = smallest_backbone({"MODEL.META_PROMPT.OUT_FEATURES": ("p4",)})
    chosen.load_state_dict(every.state_dict(), strict=False)
    images = torch.randn(1, 3, 64, 64)
    assert list(chosen.output_shape()) == ["p4"]
    torch.testing.assert_close(chosen(images), {"p4": every(images)["p4"]})
    dropped = every.state_dict().keys() - chosen.state_dict().keys()
    assert {name.split(".")[:3][-1] for name in dropped} == {"0", "1", "3"}


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize(
    ("mode", "names"),
    [("none", ("up5",)), ("none", ("up4", "up6")), ("pyramid", ("p4",)), ("fused", ("p3",))],
)
def test_what_lies_behind_the_features_that_are_read_neither_runs_nor_trains(
    mode: str, names: tuple[str, ...], steps: int
) -> None:
    keys = {REARRANGE: mode, "MODEL.META_PROMPT.REFINE_STEPS": steps}
    every = smallest_backbone(keys)
    chosen = smallest_backbone(keys | {"MODEL.META_PROMPT.OUT_FEATURES": names})
    incompatible = chosen.load_state_dict(every.state_dict(), strict=False)
    assert not incompatible.missing_keys
    assert all(".projections." in name for name in incompatible.unexpected_keys)
    images = torch.randn(1, 3, 64, 128)
    features, expected = chosen(images), every(images)
    assert list(features) == list(names)
    for name in names:
        assert torch.equal(features[name], expected[name])
    sum(feature.square().mean() for feature in features.values()).backward()
    for name, parameter in chosen.named_parameters():
        assert parameter.requires_grad == (parameter.grad is not None), name


def test_adapters_of_layers_that_do_not_run_are_not_trained() -> None:
    pytest.importorskip("peft")
    keys = {REARRANGE: "none", "MODEL.META_PROMPT.REFINE_STEPS": 1}
    keys |= {"MODEL.META_PROMPT.OUT_FEATURES": ("up5",), "MODEL.DIFFUSION.LORA.RANK": 2}
    backbone = smallest_backbone(keys)
    backbone(torch.randn(1, 3, 64, 64))["up5"].square().mean().backward()
    adapters = {n: p for n, p in backbone.named_parameters() if is_adapter(n)}
    assert {n for n, p in adapters.items() if p.requires_grad} == {
        n for n, p in adapters.items() if p.grad is not None
    }
    assert any(not p.requires_grad for p in adapters.values())


def test_a_feature_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="out_features names .'p9'."):
        smallest_backbone({"MODEL.META_PROMPT.OUT_FEATURES": ("p9",)})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"INPUT.FORMAT": "BGR"}, "INPUT.FORMAT is 'BGR'"),
        # Detectron2's defaults, and torchvision's models'
        (pixels(103.53, 1.0), r"bring 0\.\.255 to -103\.5\.\.151\.5"),
        (pixels(123.675, 58.395), r"bring 0\.\.255 to -2\.1\.\.2\.2"),
        (pixels(0.0, 255.0), r"bring 0\.\.255 to -0\.0\.\.1\.0"),
    ],
)
def test_images_that_stable_diffusion_did_not_learn_from_are_refused(
    overrides: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message + r".*RGB images in \[-1, 1\]: set INPUT.FORMAT"):
        smallest_backbone(overrides)
