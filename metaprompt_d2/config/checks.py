"""Check config values: the range of each key, and keys against each other."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

from ..utils.errors import InputError, get_registered
from .defaults import add_metaprompt_config
from .ranges import CHOICES, OPTIONAL, PAIRS, RANGES, ignore_value_expected


def check_config(cfg: CfgNode) -> None:
    """Check every value by itself, and the sizes of the networks against each other.

    Raises:
        InputError: The message names the first key whose value is null, not finite, of another
            type than its default, out of its range or not one of its choices, a size that doesn't
            fit another one, a label of ignored pixels that is a class, or a device that torch
            doesn't know.
    """
    defaults = get_cfg()
    add_metaprompt_config(defaults)
    for key, value, default in _leaves(cfg, defaults):
        _check_value(key, value, default)
    for expected in cfg.TEST.EXPECTED_RESULTS:
        kinds = [type(part) for part in expected] if isinstance(expected, list | tuple) else []
        if kinds[:2] != [str, str] or len(kinds) != 4 or not {*kinds[2:]} <= {int, float}:
            raise InputError(
                f"TEST.EXPECTED_RESULTS holds {expected!r}, not [task, metric, value, tolerance]"
            )
    try:
        torch.device(cfg.MODEL.DEVICE)
    except RuntimeError as error:
        raise InputError(f"MODEL.DEVICE is {cfg.MODEL.DEVICE!r}: {error}") from error
    means, deviations = cfg.MODEL.PIXEL_MEAN, cfg.MODEL.PIXEL_STD
    if len(means) != len(deviations):
        raise InputError(
            f"MODEL.PIXEL_MEAN holds {len(means)} numbers, MODEL.PIXEL_STD {len(deviations)}: "
            "expected one of each per channel"
        )
    head = cfg.MODEL.SEM_SEG_HEAD
    if expected := ignore_value_expected(head.IGNORE_VALUE, head.NUM_CLASSES):
        raise InputError(
            f"MODEL.SEM_SEG_HEAD.IGNORE_VALUE is {head.IGNORE_VALUE}, expected {expected} "
            "(MODEL.SEM_SEG_HEAD.NUM_CLASSES)"
        )
    weights = cfg.MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS
    number = cfg.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS
    if len(weights) not in (0, number):
        raise InputError(
            f"MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS holds {len(weights)} numbers, expected {number} "
            "(MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS)"
        )
    _check_network_sizes(cfg)


def check_combinations(cfg: CfgNode) -> None:
    """Check keys of the training against each other; a test may use a config that can't be trained.

    Raises:
        InputError: Keys contradict each other; the message names all of them.
    """
    if found := list(_contradictions(cfg)):
        raise InputError("keys that contradict each other: " + "; ".join(found))


def _contradictions(cfg: CfgNode) -> Iterator[str]:
    diffusion, solver = cfg.MODEL.DIFFUSION, cfg.SOLVER
    if diffusion.LORA.RANK != 0 and diffusion.FREEZE_UNET:
        yield (
            f"MODEL.DIFFUSION.LORA.RANK {diffusion.LORA.RANK} trains adapters and freezes the rest "
            "of the UNet by itself; MODEL.DIFFUSION.FREEZE_UNET True would freeze them, too"
        )
    if solver.UNET_LAYER_DECAY != 1 and diffusion.FREEZE_UNET:
        yield (
            f"SOLVER.UNET_LAYER_DECAY {solver.UNET_LAYER_DECAY} scales the UNet's learning rates, "
            "but with MODEL.DIFFUSION.FREEZE_UNET True it has none: set one of them to 1.0 or False"
        )
    for key in ("WEIGHT_DECAY_NORM", "WEIGHT_DECAY_BIAS"):
        if solver[key] and not solver.DECAY_VECTORS:
            yield (
                f"SOLVER.{key} {solver[key]} needs SOLVER.DECAY_VECTORS True, which is False and "
                "applies no weight decay to norms and biases"
            )
    levels = tuple(diffusion.GRADIENT_CHECKPOINTING_LEVELS)
    if levels and not diffusion.GRADIENT_CHECKPOINTING:
        yield (
            f"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS {levels} needs "
            "MODEL.DIFFUSION.GRADIENT_CHECKPOINTING True"
        )
    if solver.AMP.CONVERT_FROZEN and not solver.AMP.ENABLED:
        yield "SOLVER.AMP.CONVERT_FROZEN True needs SOLVER.AMP.ENABLED True"


def check_registered_parts(cfg: CfgNode) -> None:
    """Check the names of the parts that Detectron2 builds, whose own errors are assertions.

    Raises:
        UnknownKeyError: A name isn't registered.
    """
    model = cfg.MODEL
    get_registered(BACKBONE_REGISTRY, model.BACKBONE.NAME, "MODEL.BACKBONE.NAME")
    get_registered(META_ARCH_REGISTRY, model.META_ARCHITECTURE, "MODEL.META_ARCHITECTURE")
    get_registered(SEM_SEG_HEADS_REGISTRY, model.SEM_SEG_HEAD.NAME, "MODEL.SEM_SEG_HEAD.NAME")


def _leaves(node: CfgNode, defaults: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield full name, value and default of every key that has a default."""
    for key, default in defaults.items():
        value = node[key]
        if not isinstance(default, CfgNode):
            yield f"{prefix}{key}", value, default
        elif isinstance(value, CfgNode):
            yield from _leaves(value, default, f"{prefix}{key}.")
        else:
            raise InputError(f"{prefix}{key} is {value!r}, expected keys below it")


def _check_value(key: str, value: Any, default: Any) -> None:
    if value is None and key in OPTIONAL:
        return
    if value is None and default is not None:
        raise InputError(f"{key} is null, expected a value such as {default!r}")
    is_list = isinstance(value, list | tuple)
    parts = value if is_list else [value]
    defaults = default if is_list and isinstance(default, list | tuple) else ()
    of_numbers = key in RANGES or (defaults and all(isinstance(d, int | float) for d in defaults))
    for part in parts:
        if of_numbers and not isinstance(part, int | float):
            raise InputError(f"{key} is {value!r}, expected numbers such as {default!r}")
        if isinstance(part, float) and not math.isfinite(part):
            what = "finite numbers" if is_list else "a finite number"
            raise InputError(f"{key} is {value}, expected {what}")
        if key in CHOICES and part not in CHOICES[key]:
            raise InputError(f"{key} is {value!r}, expected one of {CHOICES[key]}")
        if key in RANGES and (expected := RANGES[key].expected(part)):
            raise InputError(f"{key} is {value}, expected {expected}")
    if key in PAIRS and len(parts) != 2:
        raise InputError(f"{key} is {value}, expected 2 numbers")


def _check_network_sizes(cfg: CfgNode) -> None:
    """Check that widths are multiples of the groups and the attention heads they are divided in."""
    unet, prompts = cfg.MODEL.DIFFUSION.UNET, cfg.MODEL.META_PROMPT
    for name in ("UNET", "VAE"):
        node, prefix = cfg.MODEL.DIFFUSION[name], f"MODEL.DIFFUSION.{name}"
        widths = tuple(node.BLOCK_OUT_CHANNELS)
        if misfits := [width for width in widths if width % node.NORM_NUM_GROUPS]:
            raise InputError(
                f"{prefix}.BLOCK_OUT_CHANNELS {widths}: {misfits} are no multiples "
                f"of {prefix}.NORM_NUM_GROUPS {node.NORM_NUM_GROUPS}"
            )
    widths = tuple(unet.BLOCK_OUT_CHANNELS)
    heads = tuple(unet.NUM_HEADS_PER_LEVEL) or (unet.NUM_HEADS,) * len(widths)
    if len(heads) != len(widths):
        raise InputError(
            f"MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL {heads} has {len(heads)} levels, "
            f"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS {widths} has {len(widths)}"
        )
    if misfits := [width for width, count in zip(widths, heads, strict=True) if width % count]:
        raise InputError(
            f"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS {widths}: {misfits} are no multiples of the "
            f"attention heads {heads} (NUM_HEADS, NUM_HEADS_PER_LEVEL)"
        )
    levels = range(len(widths))
    if unknown := sorted(set(cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS) - set(levels)):
        raise InputError(
            f"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS names {unknown}, expected of "
            f"{list(levels)}"
        )
    normed = {"pyramid": [unet.CROSS_ATTENTION_DIM], "fused": [widths[0], unet.CROSS_ATTENTION_DIM]}
    for width in normed.get(prompts.REARRANGE, []):
        if width % prompts.NORM_NUM_GROUPS:
            raise InputError(
                f"{width} channels of the UNet are no multiple of MODEL.META_PROMPT."
                f"NORM_NUM_GROUPS {prompts.NORM_NUM_GROUPS}"
            )
