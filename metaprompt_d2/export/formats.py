"""Write and run the two file formats: `.pt2` of torch.export, and ONNX."""

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

# Name of the metadata inside a .pt2 file.
METADATA_NAME = "metaprompt_d2.json"
_INPUT, _OUTPUT = "images", "prediction"


def save_pt2(program: ExportedProgram, file: Path, metadata: dict) -> None:
    """Write a program for `torch.export.load`. The file appears only once it is complete."""
    extra = {METADATA_NAME: json.dumps(metadata)}
    atomic_write(file, lambda stream: torch.export.save(program, stream, extra_files=extra))


def save_onnx(program: ExportedProgram, file: Path, metadata: dict) -> None:
    """Write a program as ONNX, with its weights in `<file>.data`.

    Both files appear only once they are complete, the one that refers to the weights last.

    Raises:
        InputError: The packages for ONNX are not installed.
    """
    _require("onnx", "onnxscript")
    outputs = program.call_spec.out_spec
    names = outputs.context if outputs is not None and outputs.type is dict else [_OUTPUT]
    onnx_program = torch.onnx.export(
        program, input_names=[_INPUT], output_names=names, dynamo=True, verbose=False
    )
    assert onnx_program is not None  # with dynamo
    texts = {k: v if isinstance(v, str) else json.dumps(v) for k, v in metadata.items()}
    onnx_program.model.metadata_props.update(texts)
    with tempfile.TemporaryDirectory(prefix=f".{file.name}.", dir=file.parent) as folder:
        written = Path(folder) / file.name
        onnx_program.save(written, external_data=True)
        for name in (f"{file.name}.data", file.name):
            os.replace(written.with_name(name), file.with_name(name))


# By the suffix of a file.
SAVERS = {".onnx": save_onnx, ".pt2": save_pt2}


def run_file(file: Path, images: Tensor) -> Tensor | dict[str, Tensor]:
    """Run an exported file on images; ONNX runs on the CPU with onnxruntime.

    Returns:
        The output of the `ExportableModel`.

    Raises:
        InputError: onnxruntime is not installed.
    """
    if file.suffix == ".pt2":
        return torch.export.load(file).module()(images)
    _require("onnxruntime")
    import onnxruntime

    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    values = map(torch.from_numpy, session.run(None, {_INPUT: images.cpu().numpy()}))
    names = [output.name for output in session.get_outputs()]
    outputs = dict(zip(names, values, strict=True))
    return outputs[_OUTPUT] if names == [_OUTPUT] else outputs


@torch.no_grad()
def measure_difference(
    file: Path, model: ExportableModel, shape: tuple[int, int, int, int]
) -> tuple[float, float]:
    """Compare a file with the model it was exported from, on random images of a shape.

    Returns:
        The largest absolute difference of the outputs, and the largest absolute output.
    """
    images = torch.rand(shape, device=model.model.device) * 255
    expected, given = _by_name(model(images)), _by_name(run_file(file, images))
    differences = [(given[name].to(expected[name].device) - expected[name]) for name in expected]
    furthest, largest = (
        max(value.abs().max().item() for value in values)
        for values in (differences, expected.values())
    )
    return furthest, largest


def _by_name(outputs: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
    return outputs if isinstance(outputs, dict) else {_OUTPUT: outputs}


def _require(*packages: str) -> None:
    missing = [name for name in packages if not importlib.util.find_spec(name)]
    if missing:
        raise InputError(f"ONNX needs {' and '.join(missing)}: pip install 'metaprompt_d2[export]'")
