"""Files of tensors from others: read without running code, tensor by tensor, or refused by name."""

import os
import pickle
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from ..utils.errors import InputError, MissingFileError

__all__ = [
    "RefusedGlobalError",
    "StoredTensor",
    "TensorFileError",
    "load_checkpoint",
    "load_pickled_arrays",
    "non_finite",
    "open_tensors",
]

# Where training codes keep the weights beside their optimizer and counters.
_WRAPPERS = ("state_dict", "model")

# What a pickle of dicts of NumPy arrays needs, under old and new module names.
_ALLOWED = {
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
    """A file that cannot be read as tensors; the message is one line with its path and why."""


@dataclass(frozen=True)
class StoredTensor:
    """A tensor in a file, of which nothing but its shape is in memory."""

    shape: tuple[int, ...]
    load: Callable[[], Tensor]

    def __getitem__(self, index: tuple[slice | int, ...]) -> "StoredTensor":
        """Drop trailing axes of length one, all that diffusers' converters index for."""
        kept = sum(isinstance(part, slice) for part in index)
        if any(side != 1 for side in self.shape[kept:]):
            raise IndexError(f"{index} does not only drop axes of length one of {self.shape}")
        return replace(self, shape=self.shape[:kept])

    def read(self) -> Tensor:
        """Read the values from the file into new memory."""
        return self.load().reshape(self.shape)


def open_tensors(path: str | os.PathLike) -> dict[str, StoredTensor]:
    """List the tensors of a file without reading their values.

    Args:
        path: a safetensors file, or one of `torch.save` (`.ckpt`, `.bin`, `.pth`) with a state
            dict, bare or under "state_dict" or "model".

    Raises:
        MissingFileError: there is no such file.
        TensorFileError: it is empty, truncated, of another format, or holds code.
    """
    path = Path(path)
    _check_exists(path)
    if path.suffix == ".safetensors":
        return _open_safetensors(path)
    if not _is_zip(path):  # torch < 1.6 wrote one pickle, which has no parts to read
        tensors = _unwrap(load_checkpoint(path), path)
        return {
            name: StoredTensor(tuple(value.shape), lambda value=value: value)
            for name, value in tensors.items()
        }
    with FakeTensorMode():  # shapes and positions in the file, no values
        fakes = _unwrap(_torch_load(path), path)
    return {name: _stored_in_zip(path, fake) for name, fake in fakes.items()}


def load_checkpoint(path: str | os.PathLike, *, mapped: bool = False) -> Any:
    """Read a whole file: tensors, and containers, numbers and strings around them.

    Args:
        path: a safetensors file, a pickle of arrays (`.pkl`), or one of `torch.save`.
        mapped: let the tensors stay in the file until they are used, where its format allows it.
            The file must outlive them.

    Raises:
        MissingFileError: there is no such file.
        TensorFileError: it is empty, truncated, of another format, or holds code.
    """
    path = Path(path)
    _check_exists(path)
    if path.suffix == ".safetensors":
        _open_safetensors(path)
        return load_file(path)
    if path.suffix == ".pkl":
        return _load_pickle(path)
    return _torch_load(path, mmap=mapped and _is_zip(path))


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Names of the floating-point tensors that hold NaN or infinity."""
    floats = {name: value for name, value in tensors.items() if value.is_floating_point()}
    if not floats:
        return []
    # One transfer from the device for all of them.
    finite = torch.stack([torch.isfinite(value).all() for value in floats.values()]).tolist()
    return [name for name, ok in zip(floats, finite, strict=True) if not ok]


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise MissingFileError(f"{path} is no file")
    if path.stat().st_size == 0:
        raise TensorFileError(f"{path} is empty")


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


def _open_safetensors(path: Path) -> dict[str, StoredTensor]:
    try:
        with safe_open(path, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise TensorFileError(_reason(path, f"no whole safetensors file: {error}")) from error
    # Opened again for each: an open map keeps what was read through it in memory.
    return {
        name: StoredTensor(shape, lambda name=name: _read_safetensor(path, name))
        for name, shape in shapes.items()
    }


def _read_safetensor(path: Path, name: str) -> Tensor:
    with safe_open(path, framework="pt") as file:
        return file.get_tensor(name)


class _Inert:
    """Stands for a class that training codes leave in their checkpoints; it does nothing."""


def _harmless_globals() -> AbstractContextManager:
    """What files of Lightning (Stable Diffusion) and mmcv hold besides tensors: no code is run."""
    scalar = np.float64(0).__reduce__()[0]
    number_types = [type(np.dtype(kind)) for kind in ("f4", "f8", "i4", "i8", "?")]
    return torch.serialization.safe_globals(
        [
            (_Inert, "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint"),
            (scalar, "numpy.core.multiarray.scalar"),
            (scalar, "numpy._core.multiarray.scalar"),
            np.dtype,
            *number_types,
        ]
    )


def _torch_load(path: Path, *, mmap: bool = False) -> Any:
    try:
        with _harmless_globals():
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        if wanted := _wanted_global(path, error):
            raise TensorFileError(_refusal(path, wanted)) from error
        raise TensorFileError(_reason(path, "no checkpoint that torch can read")) from error
    except Exception as error:  # another format makes unpickling raise anything
        raise TensorFileError(_reason(path, "truncated or no checkpoint of torch")) from error


def _load_pickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return load_pickled_arrays(file)
    except RefusedGlobalError as error:
        raise TensorFileError(_refusal(path, error.name)) from error
    except Exception as error:  # another format makes unpickling raise anything
        raise TensorFileError(_reason(path, "truncated or no pickle")) from error


def _refusal(path: Path, wanted: str) -> str:
    return f"{path} is refused: it wants to load {wanted}, which is no tensor and could run code"


def _wanted_global(path: Path, error: pickle.UnpicklingError) -> str:
    """The class or function that made `torch.load` refuse a file; "" for another failure."""
    if named := re.search(r"GLOBAL ([\w.]+)", str(error)):
        return named[1]
    if not _is_zip(path):  # a plain pickle: torch refuses its newer opcodes before the content
        try:
            with path.open("rb") as file:
                load_pickled_arrays(file)
        except RefusedGlobalError as refused:
            return refused.name
        except Exception:  # whatever a file of another format makes pickle raise
            pass
    return ""


def _reason(path: Path, otherwise: str) -> str:
    """One line on why a file is unreadable."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{path} is a web page, not a checkpoint: the download went wrong"
    if start.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull`"
    return f"{path} is unreadable: {otherwise}".splitlines()[0]


def _unwrap(loaded: Any, path: Path) -> dict[str, Tensor]:
    """The state dict within what `torch.load` gave."""
    for key in _WRAPPERS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    if isinstance(loaded, Mapping):
        tensors = {name: value for name, value in loaded.items() if isinstance(value, Tensor)}
        if tensors:
            return tensors
    raise TensorFileError(f"{path} holds no state dict: a {type(loaded).__name__} without tensors")


def _stored_in_zip(path: Path, fake: Tensor) -> StoredTensor:
    start = fake.untyped_storage()._checkpoint_offset + fake.storage_offset() * fake.itemsize
    shape, stride, dtype = tuple(fake.shape), fake.stride(), fake.dtype

    def load() -> Tensor:
        if 0 in shape:
            return torch.empty(shape, dtype=dtype)
        span = 1 + sum((n - 1) * step for n, step in zip(shape, stride, strict=True))
        content = bytearray(span * dtype.itemsize)
        with path.open("rb") as file:
            file.seek(start)
            if file.readinto(content) != len(content):
                raise TensorFileError(f"{path} is truncated")
        return torch.frombuffer(content, dtype=dtype).as_strided(shape, stride)

    return StoredTensor(shape, load)


class RefusedGlobalError(pickle.UnpicklingError):
    """A pickle asks for a class or function that is none of an array's."""

    def __init__(self, name: str):
        """
        Args:
            name: full dotted name of what it asked for.
        """
        super().__init__(f"it wants to load {name}, which is no array and could run code")
        self.name = name


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _ALLOWED:
            raise RefusedGlobalError(f"{module}.{name}")
        return super().find_class(module, name)


def load_pickled_arrays(file: IO[bytes]) -> Any:
    """
    Args:
        file: open for reading; Python 2 pickles too.

    Raises:
        RefusedGlobalError: the pickle holds anything but containers, numbers and arrays.
        pickle.UnpicklingError: it is truncated or no pickle.
    """
    return _ArrayUnpickler(file, encoding="latin1").load()
