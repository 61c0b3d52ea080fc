"""Files that run without this package: torch.export's `.pt2` and ONNX."""

import importlib.util
import json
import os
import tempfile
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram

from ..utils.errors import InputError
from ..utils.files import atomic_write
from .modules import ExportableModel

__all__ = ["METADATA_NAME", "SAVERS", "difference", "run_file", "save_onnx", "save_pt2"]

# What describes a .pt2 within it.
METADATA_NAME = "metaprompt_d2.json"
_INPUT, _OUTPUT = "images", "prediction"


def save_pt2(program: ExportedProgram, file: Path, metadata: dict) -> None:
    """Write a program for `torch.export.load`, whole or not at all."""
    extra = {METADATA_NAME: json.dumps(metadata)}
    atomic_write(file, lambda stream: torch.export.save(program, stream, extra_files=extra))


def save_onnx(program: ExportedProgram, file: Path, metadata: dict) -> None:
    """Write a program as ONNX, its weights beside it in `<file>.data`.

    Both are written under other names first; the file that names the weights appears last.

    Raises:
        InputError: packages are missing.
    """
    missing = [name for name in ("onnx", "onnxscript") if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(f"ONNX needs {' and '.join(missing)}: pip install 'metaprompt_d2[export]'")
    onnx_program = torch.onnx.export(
        program, input_names=[_INPUT], output_names=[_OUTPUT], dynamo=True, verbose=False
    )
    for key, value in metadata.items():
        text = value if isinstance(value, str) else json.dumps(value)
        onnx_program.model.metadata_props[key] = text
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        written = Path(folder) / file.name
        onnx_program.save(written, external_data=True)
        for name in (f"{file.name}.data", file.name):
            os.replace(written.with_name(name), file.with_name(name))


# By the ending of a file.
SAVERS = {".onnx": save_onnx, ".pt2": save_pt2}


def run_file(file: Path, images: Tensor) -> Tensor:
    """What a written file gives for images, ONNX by onnxruntime on the CPU.

    Raises:
        InputError: onnxruntime is missing.
    """
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(images)
    if not importlib.util.find_spec("onnxruntime"):
        raise InputError("running ONNX needs onnxruntime: pip install 'metaprompt_d2[export]'")
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    (output,) = session.run(None, {_INPUT: images.cpu().numpy()})
    return torch.from_numpy(output)


@torch.no_grad()
def difference(
    file: Path, model: ExportableModel, shape: tuple[int, int, int, int]
) -> tuple[float, float]:
    """Largest absolute difference of a file's output to the model's, and largest output.

    Args:
        file: of `SAVERS`.
        model: that it was made from.
        shape: of the random images that both are given.
    """
    images = torch.rand(shape, device=model.model.device) * 255
    expected = model(images)
    given = run_file(file, images).to(expected.device)
    return (given - expected).abs().max().item(), expected.abs().max().item()
