"""Names of the official MetaPrompts checkpoints against ours, as rules that lead both ways.

In a rule `{1}` is a number counted from 1 and `{0}` the same counted from 0, `{n}` a number that
stays, `{*}` any rest; both sides have them in the same order. The first rule that fits holds.
"""

import re
from collections.abc import Iterable
from functools import cache

__all__ = ["DIFFUSION_PREFIXES", "official_rules", "rename"]

Rule = tuple[str, str]  # (official name, our name)

# The diffusion parts, whose inner names are CompVis' there and diffusers' here.
DIFFUSION_PREFIXES = {
    "unet": ("unet.unet.diffusion_model.", "backbone.refinement.unet."),
    "vae": ("encoder_vq.", "backbone.latent_encoder."),
}

_PROMPTS = "backbone.refinement.meta_prompts"
_REARRANGEMENT = "backbone.rearrangement"
_TOKEN = re.compile(r"\{([01n*])\}")
_FUSED_LEVELS = 4


def official_rules(task: str, *, prompt_sets: int, deconvolutions: int) -> list[Rule]:
    """
    Args:
        task: "sem_seg" or "depth".
        prompt_sets: sets of prompts in the checkpoint.
        deconvolutions: transposed convolutions of the depth decoder.

    Returns:
        rules for every name outside the UNet and the VAE (method sections 4.2 and 4.3).
    """
    one_for_all = task == "sem_seg" and prompt_sets == 1
    rules = [
        ("t{1}", "backbone.refinement.step_embeddings.{0}"),
        ("meta_prompts", f"{_PROMPTS}.embeddings.0")
        if one_for_all
        else ("meta_prompts{1}", _PROMPTS + ".embeddings.{0}"),
        ("text_adapter{1}.fc.{n}.{*}", _PROMPTS + ".adapters.{0}.{n}.{*}"),
    ]
    if task == "sem_seg":
        return rules + _segmentation_rules()
    rules += _fusion_rules()
    rules = [(f"encoder.{theirs}", ours) for theirs, ours in rules]
    return [
        *rules,
        *_deconvolution_rules("decoder", "depth_head.decoder", deconvolutions),
        ("last_layer_depth.{n}.{*}", "depth_head.predictor.{n}.{*}"),
    ]


def rename(name: str, rules: Iterable[Rule], *, to_official: bool) -> str | None:
    """The other side's name; None where no rule fits."""
    for official, ours in rules:
        pattern, template = (ours, official) if to_official else (official, ours)
        match = _expression(pattern).fullmatch(name)
        if match:
            values = iter(match.groups())
            numbers = iter(_TOKEN.findall(pattern))
            return _TOKEN.sub(lambda t: _counted(next(values), next(numbers), t[1]), template)  # noqa: B023
    return None


@cache
def _expression(pattern: str) -> re.Pattern:
    parts = _TOKEN.split(pattern)  # text and tokens in turn
    parts[::2] = map(re.escape, parts[::2])
    parts[1::2] = ("(.+)" if token == "*" else r"(\d+)" for token in parts[1::2])
    return re.compile("".join(parts))


def _counted(value: str, counted_from: str, counts_from: str) -> str:
    """A number that is counted from 0 or 1 on one side as the other side counts it."""
    if counted_from == counts_from:
        return value
    return str(int(value) + int(counts_from) - int(counted_from))


def _segmentation_rules() -> list[Rule]:
    return [
        ("upconv{1}.{*}", _REARRANGEMENT + ".projections.{0}.{*}"),
        *_convolution_rules("decode_head.psp_modules.{n}.1", "sem_seg_head.pyramid_pooling.{n}.1"),
        *_convolution_rules("decode_head.lateral_convs.{n}", "sem_seg_head.laterals.{n}"),
        *_convolution_rules("decode_head.fpn_convs.{n}", "sem_seg_head.outputs.{n}"),
        *_convolution_rules("decode_head.fpn_bottleneck", "sem_seg_head.fuse"),
        *_convolution_rules("decode_head.bottleneck", "sem_seg_head.bottleneck"),
        ("decode_head.conv_seg.{*}", "sem_seg_head.predictor.{*}"),
        *_convolution_rules("auxiliary_head.convs.0", "sem_seg_head.aux_head.0"),
        ("auxiliary_head.conv_seg.{*}", "sem_seg_head.aux_head.2.{*}"),
    ]


def _convolution_rules(official: str, ours: str) -> list[Rule]:
    """mmcv's conv module against Detectron2's convolution with a norm inside."""
    return [
        (f"{official}.bn.{{*}}", f"{ours}.norm.{{*}}"),
        (f"{official}.conv.{{*}}", f"{ours}.{{*}}"),
    ]


def _fusion_rules() -> list[Rule]:
    rules = [
        ("layer1.{n}.{*}", _REARRANGEMENT + ".branches.0.{n}.{*}"),
        ("out_layer.{n}.{*}", _REARRANGEMENT + ".fuse.{n}.{*}"),
    ]
    for level in range(1, _FUSED_LEVELS):
        branch = f"{_REARRANGEMENT}.branches.{level}"
        rules += _deconvolution_rules(f"layer{level + 1}", branch, level)
    return rules


def _deconvolution_rules(official: str, ours: str, count: int) -> list[Rule]:
    """Two lists there, one after the other here: transposed convolutions, then a convolution."""
    first = 3 * count  # each has a norm and an activation
    return [
        (f"{official}.conv_layers.0.{{*}}", f"{ours}.{first}.{{*}}"),
        (f"{official}.conv_layers.1.{{*}}", f"{ours}.{first + 1}.{{*}}"),
        (f"{official}.deconv_layers.{{n}}.{{*}}", f"{ours}.{{n}}.{{*}}"),
    ]
