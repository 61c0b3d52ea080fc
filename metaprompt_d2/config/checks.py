"""Check config values: the range of each key, and keys against each other.

What a single class needs is checked again in its constructor, by the argument's name.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.modeling import BACKBONE_REGISTRY, META_ARCH_REGISTRY, SEM_SEG_HEADS_REGISTRY

from ..utils.errors import InputError, get_registered
from .defaults import add_metaprompt_config
from .ranges import CHOICES, LENGTHS, RANGES

# Parts that Detectron2 builds by name. The package's own registries are checked when they are read.
_REGISTRIES = {
    "MODEL.BACKBONE.NAME": BACKBONE_REGISTRY,
    "MODEL.META_ARCHITECTURE": META_ARCH_REGISTRY,
    "MODEL.SEM_SEG_HEAD.NAME": SEM_SEG_HEADS_REGISTRY,
}


def check_config(cfg: CfgNode) -> None:
    """Check every value by itself, and the sizes of the networks against each other.

    Raises:
        InputError: The message names the first key whose value is null, not finite, of another
            type than its default, out of its range or not one of its choices, a size that doesn't
            fit another one, or a device that torch doesn't know.
    """
    defaults = get_cfg()
    add_metaprompt_config(defaults)
    for key, value, default in _leaves(cfg, defaults):
        _check_type(key, value, default)
        _check_range(key, value)
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
    _check_network_sizes(cfg)


def check_combinations(cfg: CfgNode) -> None:
    """Check keys of the training against each other.

    Apart from `check_config`, because a checkpoint may be evaluated with a config that cannot be
    trained.

    Raises:
        InputError: Keys contradict each other; the message names all of them.
    """
    diffusion = cfg.MODEL.DIFFUSION
    lora, frozen = diffusion.LORA.RANK != 0, diffusion.FREEZE_UNET
    decays = cfg.SOLVER.UNET_LAYER_DECAY != 1
    levels = tuple(diffusion.GRADIENT_CHECKPOINTING_LEVELS)
    amp = cfg.SOLVER.AMP
    contradictions = [
        (
            lora and frozen,
            f"MODEL.DIFFUSION.LORA.RANK {diffusion.LORA.RANK} trains adapters and freezes the rest "
            "of the UNet by itself; MODEL.DIFFUSION.FREEZE_UNET True would freeze them, too",
        ),
        (
            decays and frozen,
            f"SOLVER.UNET_LAYER_DECAY {cfg.SOLVER.UNET_LAYER_DECAY} scales the UNet's learning "
            "rates, but with MODEL.DIFFUSION.FREEZE_UNET True it has none: set one of them to 1.0 "
            "or False",
        ),
        (
            levels and not diffusion.GRADIENT_CHECKPOINTING,
            f"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS {levels} needs "
            "MODEL.DIFFUSION.GRADIENT_CHECKPOINTING True",
        ),
        (
            amp.CONVERT_FROZEN and not amp.ENABLED,
            "SOLVER.AMP.CONVERT_FROZEN True needs SOLVER.AMP.ENABLED True",
        ),
    ]
    found = [message for holds, message in contradictions if holds]
    if found:
        raise InputError("keys that contradict each other: " + "; ".join(found))


def check_registered_parts(cfg: CfgNode) -> None:
    """Check the names of the parts that Detectron2 builds; call it before `build_model`.

    Raises:
        UnknownKeyError: A name that is not registered.
    """
    for key, registry in _REGISTRIES.items():
        get_registered(registry, _value(cfg, key), key)


def _value(cfg: CfgNode, key: str) -> Any:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def _leaves(node: CfgNode, defaults: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield full name, value and default of every key that has a default."""
    for key, default in defaults.items():
        value = node[key]
        if isinstance(default, CfgNode):
            if not isinstance(value, CfgNode):
                raise InputError(f"{prefix}{key} is {value!r}, expected keys below it")
            yield from _leaves(value, default, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value, default


def _check_type(key: str, value: Any, default: Any) -> None:
    if value is None and default is not None:
        raise InputError(f"{key} is null, expected a value such as {default!r}")
    if isinstance(value, float) and not math.isfinite(value):
        raise InputError(f"{key} is {value}, expected a finite number")
    if isinstance(default, list | tuple) and default and isinstance(value, list | tuple):
        wants_numbers = all(isinstance(part, int | float) for part in default)
        for part in value:
            if wants_numbers and not isinstance(part, int | float):
                raise InputError(f"{key} is {value!r}, expected numbers such as {default!r}")
            if isinstance(part, float) and not math.isfinite(part):
                raise InputError(f"{key} is {value}, expected finite numbers")


def _check_range(key: str, value: Any) -> None:
    parts: Sequence[Any] = value if isinstance(value, list | tuple) else [value]
    choices = CHOICES.get(key, parts)
    if any(part not in choices for part in parts):
        raise InputError(f"{key} is {value!r}, expected one of {choices}")
    if len(parts) != LENGTHS.get(key, len(parts)):
        raise InputError(f"{key} is {value}, expected {LENGTHS[key]} numbers")
    if key not in RANGES:
        return
    for part in parts:
        if not isinstance(part, int | float):
            raise InputError(f"{key} is {value!r}, expected numbers")
        if expected := RANGES[key].expected(part):
            raise InputError(f"{key} is {value}, expected {expected}")


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
