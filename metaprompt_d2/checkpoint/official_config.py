"""The config keys that an official checkpoint means."""

import re
from collections.abc import Iterable
from typing import Any

from ..utils.errors import InputError
from .official import OfficialWeights
from .official_names import DIFFUSION_PREFIXES
from .sizes import sizes_from_shapes

__all__ = ["config_of_official"]

_OUR_PREFIXES = {part: ours for part, (_, ours) in DIFFUSION_PREFIXES.items()}
_PROMPTS = "backbone.refinement.meta_prompts"

# What the official code runs with and no tensor shows (method sections 2.2 and 3.1).
_PUBLISHED = {
    "sem_seg": {
        "MODEL.SEM_SEG_HEAD.POOL_SCALES": (1, 2, 3, 6),
        "MODEL.META_PROMPT.NORM_NUM_GROUPS": 16,
    },
    "depth": {
        "MODEL.DEPTH_HEAD.MAX_DEPTH": 10.0,
        "MODEL.DEPTH_HEAD.RESIZE_SCALE": 1,
        "MODEL.META_PROMPT.NORM_NUM_GROUPS": 16,
    },
}


def config_of_official(weights: OfficialWeights) -> tuple[dict[str, Any], list[str]]:
    """
    Args:
        weights: from `from_official`.

    Returns:
        values of config keys, and those keys that no tensor shows, which have the values that the
        official code runs with (maximum depth: NYU Depth v2's).

    Raises:
        InputError: tensors that say the sizes are missing.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.model.items()}
    unet, vae = (
        {
            name.removeprefix(start): shape
            for name, shape in shapes.items()
            if name.startswith(start)
        }
        for start in _OUR_PREFIXES.values()
    )
    sizes, untold = sizes_from_shapes(unet, vae)
    prompt_sets = _count(rf"{_PROMPTS}\.embeddings\.\d+", shapes)
    published = _PUBLISHED[weights.task]
    try:
        keys = {f"MODEL.DIFFUSION.{key}": value for key, value in sizes.items()} | {
            "MODEL.META_PROMPT.NUM_PROMPTS": shapes[f"{_PROMPTS}.embeddings.0"][0],
            "MODEL.META_PROMPT.PER_STEP": weights.task == "depth" or prompt_sets > 1,
            "MODEL.META_PROMPT.ADAPTER": f"{_PROMPTS}.adapters.0.0.weight" in shapes,
            "MODEL.META_PROMPT.REFINE_STEPS": _count(
                r"backbone\.refinement\.step_embeddings\.\d+", shapes
            ),
        }
        head = _segmentation_head if weights.task == "sem_seg" else _depth_head
        keys |= head(shapes)
    except KeyError as error:
        raise InputError(f"sizes cannot be told without the tensor {error}") from error
    return keys | published, [*(f"MODEL.DIFFUSION.{key}" for key in untold), *published]


def _segmentation_head(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    classes, width = shapes["sem_seg_head.predictor.weight"][:2]
    has_auxiliary_head = any(name.startswith("sem_seg_head.aux_head.") for name in shapes)
    return {
        "MODEL.META_ARCHITECTURE": "SlidingWindowSegmentor",
        "MODEL.META_PROMPT.REARRANGE": "pyramid",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": classes,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": width,
        "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT": 0.4 if has_auxiliary_head else 0.0,
    }


def _depth_head(shapes: dict[str, tuple[int, ...]]) -> dict[str, Any]:
    # (in, out, k, k) of the transposed convolutions; the stack's last convolution is none.
    stack = {
        int(match[1]): shape
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"depth_head\.decoder\.(\d+)\.weight", name)) and len(shape) == 4
    }
    last = stack.pop(max(stack))
    return {
        "MODEL.META_ARCHITECTURE": "DepthEstimator",
        "MODEL.META_PROMPT.REARRANGE": "fused",
        "MODEL.META_PROMPT.DECONV_CHANNELS": shapes["backbone.rearrangement.branches.1.0.weight"][
            1
        ],
        "MODEL.DEPTH_HEAD.DECONV_DIMS": tuple(stack[place][1] for place in sorted(stack)),
        "MODEL.DEPTH_HEAD.DECONV_KERNELS": tuple(stack[place][2] for place in sorted(stack)),
        "MODEL.DEPTH_HEAD.CONVS_DIM": last[0],
    }


def _count(pattern: str, names: Iterable[str]) -> int:
    return sum(re.fullmatch(pattern, name) is not None for name in names)
