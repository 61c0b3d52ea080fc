"""Read the weights of a checkpoint in any layout, and compare them with a model."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from torch import Tensor, nn

from ..diffusion import base_names, is_adapter
from ..utils.errors import InputError
from .mask2former import MASK2FORMER_LAYOUTS, from_mask2former, mask2former_layout
from .names import match_names, unwrapped
from .official import from_official, is_official
from .tensor_files import TensorFileError, find_state_dict, load_checkpoint
from .versions import versions_of, with_versions

logger = logging.getLogger(__name__)

_ADAPTER_ADVICE = (
    " (see MODEL.DIFFUSION.LORA in the config.yaml of the file's training, or merge adapters into "
    "the weights with tools/convert_checkpoint.py --to plain)"
)
# Parts of names of tensors that inference doesn't need.
_FOR_TRAINING = (".aux_head.", "num_batches_tracked")
# Tensors that Detectron2's models take from their config.
_FROM_CONFIG = ("pixel_mean", "pixel_std")


def read_weights(file: str) -> dict[str, Any]:
    """Read a checkpoint of this package, of the official code, of Detectron2, Caffe2 or pycls.

    Returns:
        What `DetectionCheckpointer` expects: the state dict as "model", and what else the file
        holds. "official" says that the file was an official checkpoint.

    Raises:
        MissingFileError: The file doesn't exist.
        TensorFileError: It can't be read, or holds no weights.
    """
    loaded = load_checkpoint(file)
    state_dict = find_state_dict(loaded, file)
    if is_official(state_dict):
        try:
            weights = from_official(state_dict)
        except InputError as error:
            raise TensorFileError(f"{file}: {error}") from error
        return {"model": weights.model, "official": weights.task}
    is_bare = state_dict.keys() <= loaded.keys()
    if "blobs" in loaded or is_bare and any(isinstance(v, np.ndarray) for v in loaded.values()):
        # Detectron 1, and ImageNet models of Caffe2.
        return _of_other_names(state_dict, "Caffe2", "_momentum")
    if "model_state" in loaded:
        return _of_other_names(state_dict, "pycls", "num_batches_tracked")
    return (dict(loaded) if "model" in loaded else {}) | {"model": state_dict}


def _of_other_names(state_dict: dict[str, Tensor], author: str, unused: str) -> dict[str, Any]:
    kept = {name: value for name, value in state_dict.items() if not name.endswith(unused)}
    return {"model": kept, "__author__": author, "matching_heuristics": True}


def match_weights(model: nn.Module, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename tensors to the names of a model, whatever DDP and torch.compile add to either.

    Weights of a model without adapters (LoRA) get the names of their base layers. Mask2Former's
    weights are converted for a model with our head; the log says so.

    Raises:
        InputError: Two tensors get the same name, or one can't be converted.
    """
    own = {name: name for name in model.state_dict()}
    # A wrapper comes before the module in it, whose version counts.
    versions = {unwrapped(name): version for name, version in versions_of(state_dict).items()}
    modules = {name: unwrapped(name) for name, _ in model.named_modules(remove_duplicate=False)}
    layout = mask2former_layout(state_dict)
    if layout in MASK2FORMER_LAYOUTS and mask2former_layout(own) == "ours":
        state_dict = from_mask2former(state_dict)
        logger.info("Converted the head's weights from %s", MASK2FORMER_LAYOUTS[layout])
    return with_versions(
        match_names(state_dict, base_names(own) | own),
        {name: versions[plain] for name, plain in modules.items() if plain in versions},
    )


def find_misfits(
    model: nn.Module,
    given: Mapping[str, Tensor],
    incompatible: Any,
    *,
    is_whole: bool,
    is_for_inference: bool,
    may_differ: Sequence[str],
) -> list[str]:
    """List the reasons why weights don't fit a model, after what fits was loaded.

    Args:
        model: The model.
        given: The weights, from `match_weights`.
        incompatible: Result of fvcore's `Checkpointer`.
        is_whole: Whether all tensors of the model must be in the file, and no others.
        is_for_inference: Whether tensors for training alone may differ.
        may_differ: Beginnings of names of tensors that the file may have in another shape, unless
            for inference, or have on its own.

    Raises:
        InputError: No parameter of the model was loaded.
    """
    missing = _unset(model, incompatible)
    parameters = {name for name, _ in model.named_parameters()}
    if parameters and parameters <= set(missing):
        raise InputError(
            f"none of the checkpoint's {len(given)} tensors belongs to the model; "
            f"its first is {min(given)!r}"
        )
    skipped = () if is_for_inference else tuple(may_differ)
    problems = [
        f"{name}: {tuple(in_file)} in the file, {tuple(in_model)} in the model"
        for name, in_file, in_model in incompatible.incorrect_shapes
        if not name.startswith(skipped)
    ]
    # A model may have adapters that the file lacks, but all or none of them.
    has_adapters = any(map(is_adapter, given))
    problems += [
        f"{name}: missing in the file"
        for name in missing
        if (has_adapters if is_adapter(name) else is_whole)
    ]
    unneeded = _FOR_TRAINING if is_for_inference else ()
    problems += [
        f"{name}: not in the model" + _ADAPTER_ADVICE * is_adapter(name)
        for name in incompatible.unexpected_keys
        if is_whole or is_adapter(name)
        if not any(part in f".{name}" for part in unneeded)
        if not name.startswith(tuple(may_differ)) and name not in _FROM_CONFIG
    ]
    problems += [
        f"{name}: {given[name].dtype} in the file, {value.dtype} in the model"
        for name, value in model.state_dict().items()
        if name in given and value.is_floating_point() > given[name].is_floating_point()
    ]
    return problems


def _unset(model: nn.Module, incompatible: Any) -> list[str]:
    """List the tensors that the file lacks, also under other names of the same tensor."""
    tensors: dict[str, Tensor] = dict(model.named_buffers(remove_duplicate=False))
    tensors.update(model.named_parameters(remove_duplicate=False))
    of_other_shapes = {name for name, *_ in incompatible.incorrect_shapes}
    missing = set(incompatible.missing_keys)
    loaded = {id(value) for name, value in tensors.items() if name not in missing}
    return [
        name
        for name in incompatible.missing_keys
        if name not in of_other_shapes and id(tensors.get(name)) not in loaded
    ]
