"""Config values that mean nothing, found before anything is built from them."""

import math
from collections.abc import Iterator
from typing import Any

import torch
from detectron2.config import CfgNode, get_cfg

from ..utils.errors import InputError
from .defaults import add_metaprompt_config

__all__ = ["check_combinations", "check_config"]

# Least values; of every element where a key holds several. Detectron2's keys and ours that no
# class checks in its constructor.
_LEAST = {
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.CROP.SIZE": 0,
    "INPUT.MAX_SIZE_TEST": 0,
    "INPUT.MAX_SIZE_TRAIN": 0,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.MIN_SIZE_TRAIN": 0,
    "INPUT.PERSON_CROP.SIZE": 1,
    "INPUT.SCALE_RANGE": 0,
    "MODEL.DEPTH_HEAD.CONVS_DIM": 1,
    "MODEL.DEPTH_HEAD.DECONV_DIMS": 1,
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": 1,
    "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": 1,
    "MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK": 1,
    "MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS": 1,
    "MODEL.DIFFUSION.UNET.NUM_HEADS": 1,
    "MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL": 1,
    "MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": 1,
    "MODEL.DIFFUSION.VAE.LATENT_CHANNELS": 1,
    "MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK": 1,
    "MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS": 1,
    "MODEL.HEATMAP_HEAD.DECONV_DIMS": 1,
    "MODEL.HEATMAP_HEAD.STRIDE": 1,
    "MODEL.META_PROMPT.DECONV_CHANNELS": 1,
    "MODEL.META_PROMPT.NORM_NUM_GROUPS": 1,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 1,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 1,
    "MODEL.SEM_SEG_HEAD.POOL_SCALES": 1,
    "SOLVER.ACCUMULATION_STEPS": 1,
    "SOLVER.BASE_LR": 0,
    "SOLVER.CHECKPOINT_PERIOD": 1,
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.LOG_PERIOD": 1,
    "SOLVER.MAX_ITER": 0,
    "SOLVER.WARMUP_ITERS": 0,
    "SOLVER.WEIGHT_DECAY": 0,
    "TEST.EVAL_PERIOD": 0,
    "TEST.NUM_PICTURES": 0,
    "TEST.POSE.PEOPLE_PER_BATCH": 1,
}

_CHOICES = {
    "INPUT.CROP.TYPE": ("relative_range", "relative", "absolute", "absolute_range"),
    "INPUT.FORMAT": ("BGR", "L", "RGB", "YUV-BT.601"),
}


def check_config(cfg: CfgNode) -> None:
    """
    Raises:
        InputError: naming the first key whose value is null, not finite, of other types than
            its default or too small, not one of its choices, or a device that torch doesn't know.
    """
    defaults = get_cfg()
    add_metaprompt_config(defaults)
    for key, value, default in _leaves(cfg, defaults):
        _check_type(key, value, default)
        if value not in _CHOICES.get(key, [value]):
            raise InputError(f"{key} is {value!r}, expected one of {_CHOICES[key]}")
        least = _LEAST.get(key)
        values = value if isinstance(value, list | tuple) else [value]
        if least is not None and any(number < least for number in values):
            raise InputError(f"{key} is {value}, expected at least {least}")
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


def _leaves(node: CfgNode, defaults: CfgNode, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Full name, value and default of every key that has a default."""
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


def check_combinations(cfg: CfgNode) -> None:
    """
    Raises:
        InputError: keys of a config that contradict each other; all are named.
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
