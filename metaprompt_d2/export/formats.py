"""Files that run without this package: torch.export's `.pt2` and ONNX."""

import json
import os
import tempfile
from pathlib import Path

import torch
from torch.export import Dim, ExportedProgram

from ..checkpoint import write_whole
from .modules import TASKS, ExportableModel

__all__ = ["INPUT_NAME", "METADATA_NAME", "OUTPUT_NAME", "export_program", "save_onnx", "save_pt2"]

INPUT_NAME, OUTPUT_NAME = "images", "prediction"
# What describes a .pt2 within it.
METADATA_NAME = "metaprompt_d2.json"
_MAX_BATCH, _MAX_SIDE = 32, 8192


def export_program(
    model: ExportableModel,
    image_size: tuple[int, int],
    *,
    batch_size: int = 1,
    dynamic_size: bool = False,
    dynamic_batch: bool = False,
) -> ExportedProgram:
    """Trace a model.

    Args:
        model: of `exportable`.
        image_size: (height, width) of the images; of the example where it is dynamic.
        batch_size: images at once; the example's where it is dynamic.
        dynamic_size: take any multiple of the task's (`TASKS`) up to 8192 pixels a side.
        dynamic_batch: take 1 to 32 images.

    Raises:
        ValueError: sizes that the model cannot take, or a dynamic size of crops.
    """
    multiple = TASKS[model.task][1]
    dims: dict[int, object] = {}
    if dynamic_batch:
        dims[0] = Dim("batch", min=1, max=_MAX_BATCH)
        batch_size = max(batch_size, 2)  # torch takes an example of 1 for a constant
    if dynamic_size:
        if multiple is None:
            raise ValueError(f"the crops of a {model.task} model have one size")
        if any(side % multiple for side in image_size):
            raise ValueError(
                f"images of {image_size[0]}x{image_size[1]}: a dynamic size of a {model.task} "
                f"model has sides that are multiples of {multiple}"
            )
        for axis, name in ((2, "height"), (3, "width")):
            dims[axis] = multiple * Dim(f"{name}_{multiple}", min=1, max=_MAX_SIDE // multiple)
    device = model.model.device
    images = torch.rand(batch_size, 3, *image_size, device=device) * 255
    with torch.no_grad():
        return torch.export.export(
            model,
            (images,),
            dynamic_shapes=({axis: dims[axis] for axis in dims} or None,),
            prefer_deferred_runtime_asserts_over_guards=True,
        )


def save_pt2(program: ExportedProgram, file: Path, metadata: dict) -> None:
    """Write a program for `torch.export.load`, whole or not at all."""
    extra = {METADATA_NAME: json.dumps(metadata)}
    write_whole(file, lambda stream: torch.export.save(program, stream, extra_files=extra))


def save_onnx(program: ExportedProgram, file: Path, metadata: dict) -> None:
    """Write a program as ONNX, its weights beside it in `<file>.data`.

    Both are written under other names first; the file that names the weights appears last.
    """
    onnx_program = torch.onnx.export(
        program, input_names=[INPUT_NAME], output_names=[OUTPUT_NAME], dynamo=True, verbose=False
    )
    for key, value in metadata.items():
        onnx_program.model.metadata_props[key] = (
            value if isinstance(value, str) else json.dumps(value)
        )
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        written = Path(folder) / file.name
        onnx_program.save(written, external_data=True)
        for name in (f"{file.name}.data", file.name):
            os.replace(written.with_name(name), file.with_name(name))
