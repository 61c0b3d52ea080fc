"""Trace models with torch.export, for images of one size or of many."""

import torch
from torch.export import Dim, ExportedProgram

from ..utils.errors import InputError
from .modules import ExportableModel

_MAX_BATCH, _MAX_SIDE = 32, 8192


def export_program(
    model: ExportableModel,
    image_size: tuple[int, int],
    *,
    batch_size: int = 1,
    dynamic_batch: bool = False,
) -> ExportedProgram:
    """Trace a model.

    Args:
        model: Model to trace. With its `dynamic_size`, sides may have up to 8192 pixels.
        image_size: Image size as (height, width); with a dynamic size that of an example.
        batch_size: Number of images; with a dynamic batch that of an example.
        dynamic_batch: Whether the program takes 1 to 32 images.

    Raises:
        InputError: The model has a dynamic size, and doesn't take the image size.
    """
    dims = _list_dynamic_sides(model, image_size) if model.dynamic_size else {}
    if dynamic_batch:
        dims[0] = Dim("batch", min=1, max=_MAX_BATCH)
        batch_size = max(batch_size, 2)  # torch takes an example of 1 for a constant
    images = torch.rand(batch_size, 3, *image_size, device=model.model.device) * 255
    with torch.no_grad():
        return torch.export.export(
            model,
            (images,),
            dynamic_shapes=(dims or None,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def _list_dynamic_sides(model: ExportableModel, image_size: tuple[int, int]) -> dict[int, Dim]:
    multiple, least = model.side_multiple, model.least_side
    if any(side % multiple or side < least for side in image_size):
        raise InputError(
            f"--image-size is {image_size}; with a dynamic size, sides of this {model.task} model "
            f"are multiples of {multiple} from {least} on"
        )
    return {
        axis: multiple * Dim(name, min=least // multiple, max=_MAX_SIDE // multiple)
        for axis, name in ((2, "rows"), (3, "columns"))
    }
