"""Read files of tensors without running code from them."""

import os
import pickle
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from ..utils.errors import InputError, MissingFileError

# Classes and functions of a pickle of NumPy arrays, in NumPy 1 and 2.
_ARRAY_GLOBALS = {
    ("collections", "OrderedDict"),
    ("_codecs", "encode"),
    ("numpy", "dtype"),
    ("numpy", "ndarray"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
}


class TensorFileError(InputError):
    """A file can't be read as tensors. The message is one line with its path and the reason."""


def load_checkpoint(path: str | os.PathLike, *, mapped: bool = False) -> Any:
    """Read a whole file: tensors, and the containers, numbers and strings around them.

    Args:
        path: A safetensors file, a pickle of arrays (`.pkl`) or a file of `torch.save`.
        mapped: Map the file of `torch.save` into memory, so that tensors are only read when they
            are used. The file must not change while they exist. Safetensors are always mapped.

    Raises:
        MissingFileError: The file doesn't exist.
        TensorFileError: The file is empty, truncated, of another format, or holds code.
    """
    path = Path(path)
    if not path.is_file():
        raise MissingFileError(f"{path} isn't a file")
    if path.stat().st_size == 0:
        raise TensorFileError(f"{path} is empty")
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".pkl":
            with path.open("rb") as file:
                return load_pickled_arrays(file)
        with _harmless_globals():
            mmap = mapped and _is_zip(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except Exception as error:  # files of other formats raise anything
        if refused := _refused_global(path, error):
            raise TensorFileError(
                f"{path} is refused: it wants to load {refused}, which isn't a tensor and could "
                "run code"
            ) from error
        raise TensorFileError(_reason(path)) from error


def open_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """Map the state dict of a file into memory. Tensors are only read when they are used.

    The file must not change while they exist. Files of torch < 1.6 can't be mapped and are read
    whole.

    Raises:
        MissingFileError: The file doesn't exist.
        TensorFileError: As in `load_checkpoint`, or the file holds no state dict.
    """
    return find_state_dict(load_checkpoint(path, mapped=True), path)


def find_state_dict(loaded: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """Return the tensors of a loaded state dict, bare or under "state_dict" or "model".

    Raises:
        TensorFileError: The file holds no state dict. The message names `path`.
    """
    for key in ("state_dict", "model"):
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    named = loaded.items() if isinstance(loaded, Mapping) else ()
    if tensors := {name: value for name, value in named if isinstance(value, Tensor)}:
        return tensors
    raise TensorFileError(f"{path} holds no state dict: a {type(loaded).__name__} without tensors")


def load_pickled_arrays(file: IO[bytes]) -> Any:
    """Read a pickle of containers, numbers and NumPy arrays, of Python 2 or 3.

    Raises:
        pickle.UnpicklingError: The pickle holds anything else, is truncated, or isn't a pickle.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ARRAY_GLOBALS:
            # Worded as torch's own refusals, for `_refused_global`.
            raise pickle.UnpicklingError(
                f"GLOBAL {module}.{name}, which isn't an array and could run code"
            )
        return super().find_class(module, name)


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the floating-point tensors that hold NaN or infinity."""
    floats = {name: value for name, value in tensors.items() if value.is_floating_point()}
    if not floats:
        return []
    # A single transfer from the device for all tensors.
    finite = torch.stack([torch.isfinite(value).all() for value in floats.values()]).tolist()
    return [name for name, ok in zip(floats, finite, strict=True) if not ok]


class _Inert:
    """Stands in for a class that training codes name in their checkpoints."""


def _harmless_globals() -> AbstractContextManager:
    """Let torch load what Lightning (Stable Diffusion) and mmcv save besides tensors."""
    scalar = np.float64(0).__reduce__()[0]
    allowed: list[Any] = [
        (_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
        (scalar, "numpy.core.multiarray.scalar"),
        (scalar, "numpy._core.multiarray.scalar"),
        np.dtype,
        *(type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")),
    ]
    return torch.serialization.safe_globals(allowed)


def _is_zip(path: Path) -> bool:
    """Return whether a file of `torch.save` has the format of torch 1.6 and later."""
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _refused_global(path: Path, error: Exception) -> str:
    """Return the name of the class or function for which a file was refused, "" for none."""
    named = re.search(r"GLOBAL ([\w.]+)", str(error))
    if not named and not _is_zip(path):  # torch refuses newer opcodes before what they load
        try:
            with path.open("rb") as file:
                load_pickled_arrays(file)
        except Exception as again:  # files of other formats raise anything
            named = re.search(r"GLOBAL ([\w.]+)", str(again))
    return named[1] if named else ""


def _reason(path: Path) -> str:
    """Say in one line why a file is unreadable."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{path} is a web page, not a checkpoint: the download went wrong"
    if start.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull`"
    return f"{path} is unreadable: truncated or of another format"
