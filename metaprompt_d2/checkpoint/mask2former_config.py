"""Find the sizes of Mask2Former's head, as config keys."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ..utils.errors import InputError
from .mask2former_names import CLASSES, PIXEL_DECODER, TRANSFORMER
from .names import count

_OFFSETS_PER_HEAD = 3 * 4 * 2  # deformable attention: levels, points, coordinates


def config_of_mask2former(weights: Mapping[str, Tensor]) -> tuple[dict[str, Any], list[int]]:
    """Read the sizes of a `Mask2FormerHead` from its tensors.

    Args:
        weights: Tensors under our names.

    Returns:
        Values of config keys, and the numbers of channels of the head's features, fine to coarse.

    Raises:
        InputError: A tensor that shows a size is missing.
    """

    def size(name: str, axis: int = 0) -> int:
        shape = weights[name].shape if name in weights else ()
        if len(shape) <= axis:
            raise InputError(f"sizes cannot be told without the tensor {name}")
        return shape[axis]

    encoder_layer = f"{PIXEL_DECODER}.encoder.layers.0"
    queries, masks = f"{TRANSFORMER}.queries_features.weight", f"{PIXEL_DECODER}.mask_projection"
    head = "MODEL.MASK2FORMER"
    keys = {
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": size(f"{CLASSES}.bias") - 1,
        f"{head}.NUM_OBJECT_QUERIES": size(queries),
        f"{head}.CONVS_DIM": size(f"{masks}.weight", 1),
        f"{head}.MASK_DIM": size(f"{masks}.weight"),
        f"{head}.HIDDEN_DIM": size(queries, 1),
        f"{head}.NHEADS": size(f"{encoder_layer}.self_attn.sampling_offsets.bias")
        // _OFFSETS_PER_HEAD,
        f"{head}.ENC_LAYERS": count(r"pixel_decoder\.encoder\.layers\.\d+\.", weights),
        f"{head}.ENC_DIM_FEEDFORWARD": size(f"{encoder_layer}.fc1.bias"),
        f"{head}.DEC_LAYERS": 1 + count(r"transformer_module\.decoder\.layers\.\d+\.", weights),
        f"{head}.DIM_FEEDFORWARD": size(f"{TRANSFORMER}.decoder.layers.0.fc1.bias"),
    }
    adapters = count(r"pixel_decoder\.adapter_\d+\.", weights)
    channels = [size(f"{PIXEL_DECODER}.adapter_{n + 1}.0.weight", 1) for n in range(adapters)]
    channels += [size(f"{PIXEL_DECODER}.input_projections.{n}.0.weight", 1) for n in (2, 1, 0)]
    return keys, channels
