"""Find the config of an official checkpoint."""

import re
from typing import Any

from ..utils.errors import InputError
from .names import below, count
from .official import OfficialWeights
from .official_names import OUR_UNET, OUR_VAE
from .sizes import Shapes, sizes_from_shapes

_REFINEMENT = "backbone.refinement"

# Settings of the official code that no tensor's shape shows (docs/method.md#official-checkpoints).
_PUBLISHED: dict[str, dict[str, Any]] = {
    "sem_seg": {"MODEL.SEM_SEG_HEAD.POOL_SCALES": (1, 2, 3, 6)},
    "depth": {
        "MODEL.DEPTH_HEAD.MAX_DEPTH": 10.0,  # NYU Depth v2's
        "MODEL.DEPTH_HEAD.RESIZE_SCALE": 1,
    },
}


def config_of_official(weights: OfficialWeights) -> tuple[dict[str, Any], list[str]]:
    """Find the config keys of the model that official weights fit.

    Returns:
        The values of the keys, and those keys that no tensor's shape shows, which have the
        official code's values.

    Raises:
        InputError: Tensors whose shapes show the sizes are missing.
    """
    shapes = {name: tuple(value.shape) for name, value in weights.model.items()}
    sizes, unseen = sizes_from_shapes(below(OUR_UNET, shapes), below(OUR_VAE, shapes))
    prompts = f"{_REFINEMENT}.meta_prompts"
    prompt_sets = count(rf"^{prompts}\.embeddings\.\d+$", shapes)
    steps = count(rf"^{_REFINEMENT}\.step_embeddings\.\d+$", shapes)
    head = _segmentation_head if weights.task == "sem_seg" else _depth_head
    published = _PUBLISHED[weights.task] | {"MODEL.META_PROMPT.NORM_NUM_GROUPS": 16}
    try:
        keys = {
            **{f"MODEL.DIFFUSION.{key}": value for key, value in sizes.items()},
            "MODEL.META_PROMPT.NUM_PROMPTS": shapes[f"{prompts}.embeddings.0"][0],
            "MODEL.META_PROMPT.PER_STEP": weights.task == "depth" or prompt_sets > 1,
            "MODEL.META_PROMPT.ADAPTER": f"{prompts}.adapters.0.0.weight" in shapes,
            "MODEL.META_PROMPT.REFINE_STEPS": steps,
            **head(shapes),
            **published,
        }
    except KeyError as error:
        raise InputError(f"sizes cannot be told without the tensor {error}") from error
    return keys, [*(f"MODEL.DIFFUSION.{key}" for key in unseen), *published]


def _segmentation_head(shapes: Shapes) -> dict[str, Any]:
    classes, width = shapes["sem_seg_head.predictor.weight"][:2]
    auxiliary_head = below("sem_seg_head.aux_head.", shapes)
    return {
        "MODEL.META_ARCHITECTURE": "SlidingWindowSegmentor",
        "MODEL.META_PROMPT.REARRANGE": "pyramid",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": classes,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": width,
        "MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT": 0.4 if auxiliary_head else 0.0,
    }


def _depth_head(shapes: Shapes) -> dict[str, Any]:
    convolutions = {
        int(match[1]): shape
        for name, shape in shapes.items()
        if (match := re.fullmatch(r"depth_head\.decoder\.(\d+)\.weight", name)) and len(shape) == 4
    }
    if not convolutions:
        raise KeyError("depth_head.decoder.0.weight")
    # Transposed convolutions (in, out, k, k), then a convolution (out, in, k, k).
    *transposed, last = (convolutions[place] for place in sorted(convolutions))
    branch = shapes["backbone.rearrangement.branches.1.0.weight"]
    return {
        "MODEL.META_ARCHITECTURE": "DepthEstimator",
        "MODEL.META_PROMPT.REARRANGE": "fused",
        "MODEL.META_PROMPT.DECONV_CHANNELS": branch[1],
        "MODEL.DEPTH_HEAD.DECONV_DIMS": tuple(shape[1] for shape in transposed),
        "MODEL.DEPTH_HEAD.DECONV_KERNELS": tuple(shape[2] for shape in transposed),
        "MODEL.DEPTH_HEAD.CONVS_DIM": last[0],
    }
