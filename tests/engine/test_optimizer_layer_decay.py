"""Layer-wise decay of the UNet's learning rate, also on top of rules."""

import pytest
from detectron2.modeling import build_model
from pose_files import smallest_pose_cfg

from metaprompt_d2.engine.optimizer import group_parameters, unet_layer_scales


def pose_names() -> list[str]:
    return [name for name, _ in build_model(smallest_pose_cfg()).named_parameters()]


def test_rates_rise_by_one_factor_per_block() -> None:
    scales = unet_layer_scales(pose_names(), 0.5)
    prefix = "backbone.refinement.unet"

    def scale(part: str) -> float:
        (value,) = {value for name, value in scales.items() if name.startswith(f"{prefix}.{part}.")}
        return value

    # One residual block a level of the encoder, two a level of the decoder.
    assert scale("conv_in") == 0.5 ** (1 + 4 + 1 + 8)
    assert scale("down_blocks.0.resnets.0") == 0.5**13
    assert scale("down_blocks.0.attentions.0") == scale("down_blocks.0.downsamplers.0") == 0.5**13
    assert scale("down_blocks.3.resnets.0") == 0.5**10
    assert scale("mid_block") == 0.5**9
    assert scale("up_blocks.0.resnets.0") == 0.5**8
    assert scale("up_blocks.0.resnets.1") == scale("up_blocks.0.upsamplers.0") == 0.5**7
    assert scale("up_blocks.3.resnets.1") == 0.5
    assert all(name.startswith(prefix) for name in scales)


def test_all_of_the_unet_but_its_output_head_is_scaled() -> None:
    names = [
        *pose_names(),
        "backbone.refinement.unet.conv_out.weight",
        "backbone.refinement.unet.conv_norm_out.weight",
    ]
    left = [name for name in names if ".unet." in name and name not in unet_layer_scales(names, 1)]
    assert left == names[-2:]


def test_decay_and_rules_multiply() -> None:
    model = build_model(smallest_pose_cfg())
    groups = group_parameters(
        model,
        [[r"\.unet\.", 0.1, 1.0]],
        base_lr=1.0,
        weight_decay=1.0,
        unet_layer_decay=0.5,
    )
    rates = {name: group["lr"] for group in groups for name in group["names"]}
    assert rates["backbone.refinement.unet.conv_in.weight"] == pytest.approx(0.1 * 0.5**14)
    assert rates["heatmap_head.predictor.weight"] == 1


def test_a_decay_that_is_not_positive_is_refused() -> None:
    with pytest.raises(ValueError, match="decay is 0, expected more than 0"):
        unet_layer_scales([], 0)
