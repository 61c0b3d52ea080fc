"""`meta_prompt_backbone`: presets have the published sizes, nodes build and can be changed."""

import pytest
import torch
from descriptions import describe
from detectron2.config import LazyCall as L
from detectron2.config import LazyConfig, instantiate
from detectron2.modeling import SimpleFeaturePyramid, build_backbone
from helpers import SMALLEST
from omegaconf import OmegaConf

from metaprompt_d2.engine import load_config
from metaprompt_d2.modeling import MetaPromptBackbone, meta_prompt_backbone

# What a config needs for the same sizes; those of "sd2" as in docs/weights.md.
KEYS = {
    "sd1.5": ("Base-MetaPrompt.yaml", []),
    "sd2": (
        "Base-MetaPrompt.yaml",
        [
            *("MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM", 1024),
            *("MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL", (5, 10, 20, 20)),
            *("MODEL.DIFFUSION.UNET.LINEAR_PROJECTION", True),
        ],
    ),
    "mini": ("mini/Base-Mini.yaml", []),
}


@pytest.mark.parametrize("preset", KEYS)
def test_a_preset_is_the_model_of_a_config(preset: str) -> None:
    file, keys = KEYS[preset]
    cfg = load_config(f"metaprompt_d2://{file}", [*keys, "MODEL.META_PROMPT.REFINE_STEPS", 2])
    prompts = cfg.MODEL.META_PROMPT.NUM_PROMPTS
    with torch.device("meta"):
        expected = build_backbone(cfg)
        backbone = instantiate(meta_prompt_backbone(preset, num_prompts=prompts, num_steps=2))
    assert describe(backbone) == describe(expected)
    assert [(n, v.shape) for n, v in backbone.state_dict().items()] == [
        (n, v.shape) for n, v in expected.state_dict().items()
    ]


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        ("pyramid", ["p2", "p3", "p4", "p5"]),
        ("fused", ["p3"]),
        ("none", ["up3", "up4", "up5", "up6"]),
    ],
)
def test_arguments_reach_the_model(mode: str, names: list[str]) -> None:
    node = meta_prompt_backbone(
        "mini", num_prompts=5, num_steps=2, per_step=True, adapter=True, rearrange=mode
    )
    with torch.device("meta"):
        backbone = instantiate(node)
    assert isinstance(backbone, MetaPromptBackbone)
    assert list(backbone.output_shape()) == names
    prompts = backbone.refinement.meta_prompts
    assert [value.shape for value in prompts.embeddings] == [(5, 64)] * 2
    assert len(prompts.adapters) == 2


def test_one_override_changes_all_that_must_agree() -> None:
    cfg = OmegaConf.create(
        {"model": {"backbone": meta_prompt_backbone("mini", out_features=["p5"])}}
    )
    sizes = SMALLEST["MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS"]
    LazyConfig.apply_overrides(
        cfg,
        [
            f"model.backbone.refinement.unet.block_out_channels={list(sizes)}",
            "model.backbone.refinement.unet.cross_attention_dim=32",
            "model.backbone.refinement.unet.norm_num_groups=4",
            "model.backbone.latent_encoder.latent_channels=2",
            "model.backbone.refinement.num_steps=1",
        ],
    )
    backbone = instantiate(cfg.model.backbone)
    features = backbone(torch.zeros(1, 3, 64, 64))
    assert features["p5"].shape == (1, 150, 2, 2)


def test_it_is_the_net_of_another_projects_backbone() -> None:
    node = L(SimpleFeaturePyramid)(
        net=meta_prompt_backbone("mini", rearrange="none", num_steps=1, out_features=["up4"]),
        in_feature="up4",
        out_channels=8,
        scale_factors=(2.0, 1.0, 0.5),
        norm="LN",
    )
    features = instantiate(node)(torch.zeros(1, 3, 64, 64))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "p3": (1, 8, 8, 8),
        "p4": (1, 8, 4, 4),
        "p5": (1, 8, 2, 2),
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"preset": "sdxl"}, r"preset is 'sdxl', expected one of \['sd1.5', 'sd2', 'mini'\]"),
        ({"rearrange": "fpn"}, "rearrange is 'fpn', expected 'pyramid', 'fused' or 'none'"),
    ],
)
def test_unknown_names_are_refused(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        meta_prompt_backbone(**arguments)
