"""Models of the compact fixtures, and the outputs of their stages."""

from collections.abc import Callable, Mapping

from compact_fixtures import CompactFixture
from detectron2.modeling import build_model
from golden_stages import depth_outputs, segmentor_outputs, unet_outputs
from helpers import M64_SIZES, tiny_cfg, tiny_depth_cfg
from torch import Tensor, nn

from metaprompt_d2.checkpoint import from_official
from metaprompt_d2.checkpoint.compvis import UNET_PREFIX, from_compvis_unet
from metaprompt_d2.diffusion import FeatureUNet

Outputs = Mapping[str, Tensor]


def unet_of(fixture: CompactFixture) -> nn.Module:
    unet = FeatureUNet(**M64_SIZES)
    tensors = {name.removeprefix(UNET_PREFIX): v for name, v in fixture.state_dict.items()}
    unet.load_state_dict(from_compvis_unet(tensors))
    return unet


def all_unet_outputs(unet: nn.Module, inputs: Mapping[str, Tensor]) -> Outputs:
    return unet_outputs(unet, inputs, "a") | unet_outputs(unet, inputs, "odd")


def whole_model(cfg_of: Callable) -> Callable[[CompactFixture], nn.Module]:
    def build(fixture: CompactFixture) -> nn.Module:
        model = build_model(cfg_of())
        model.load_state_dict(from_official(fixture.state_dict).model)
        return model

    return build


def at_both_sizes(stages: Callable, odd: str) -> Callable[[nn.Module, Mapping], Outputs]:
    def outputs(model: nn.Module, inputs: Mapping[str, Tensor]) -> Outputs:
        others = stages(model, inputs[f"image_{odd}"])
        return stages(model, inputs["image"]) | {f"{odd}/{k}": v for k, v in others.items()}

    return outputs


# Fixture -> (its model, its stages)
CASES = {
    "unet_m64": (unet_of, all_unet_outputs),
    "seg_ade_r3_c1222": (whole_model(tiny_cfg), at_both_sizes(segmentor_outputs, "120x136")),
    "depth_nyu_r3_c1222": (whole_model(tiny_depth_cfg), at_both_sizes(depth_outputs, "100x140")),
}


def float32_noise(fixture: CompactFixture, key: str) -> float:
    """The official code's own float32 noise; another image's where a key has none of its own."""
    return fixture.noise.get(key, fixture.noise.get(key.split("/", 1)[-1]))
