"""Read and write files of tensors without running code from them."""

import os
import pickle
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor

from ..utils.errors import InputError, MissingFileError
from ..utils.files import atomic_write
from .names import unwrap
from .pickles import load_pickled_arrays
from .stand_ins import STAND_INS, RefusedError, replace_stand_ins
from .torch_files import DamagedError, check_legacy, check_zip, is_legacy, is_zip
from .versions import versions_of, with_versions

# Keys below which files hold their state dict: training codes', pycls' and Caffe2's.
_STATE_DICT_KEYS = ("state_dict", "model", "model_state_dict", "model_state", "blobs")


class TensorFileError(InputError):
    """A file can't be read as tensors. The message is one line with its path and the reason."""


# Names of the file of tensors in a folder of transformers.
_FOLDER_FILES = ("model.safetensors", "pytorch_model.bin")


def find_weights(path: str) -> str:
    """Return the path of the weights in a folder of transformers; other paths as they are.

    Raises:
        MissingFileError: The folder doesn't hold them in one file.
    """
    folder = Path(path)
    if not folder.is_dir():
        return path
    for name in _FOLDER_FILES:
        if (folder / name).is_file():
            return str(folder / name)
    raise MissingFileError(f"the folder {path} holds neither {' nor '.join(_FOLDER_FILES)}")


def load_checkpoint(path: str | os.PathLike, *, mapped: bool = False) -> Any:
    """Read a whole file: tensors, and the containers, numbers and strings around them.

    The content decides how a file is read, whatever its name.

    Args:
        path: A safetensors file, a pickle of arrays or a file of `torch.save`.
        mapped: Map a safetensors file or one of `torch.save` into memory, so that tensors are only
            read when they are used. The file must not change while they exist.

    Raises:
        MissingFileError: The file doesn't exist.
        TensorFileError: The file is empty, truncated, damaged, of another format, or holds code.
    """
    return _load(Path(path), mapped=mapped, whole=True)


def open_tensors(path: str | os.PathLike) -> dict[str, Tensor]:
    """Map the state dict of a file into memory. Tensors are only read when they are used.

    The file must not change while they exist. Files of torch < 1.6 can't be mapped and are read
    whole. Checksums of the tensors aren't checked, because this would read them.

    Raises:
        MissingFileError: The file doesn't exist.
        TensorFileError: As in `load_checkpoint`, or the file holds no state dict.
    """
    loaded = _load(Path(path), mapped=True, whole=False)
    return unwrap(find_state_dict(loaded, path))


def _load(path: Path, *, mapped: bool, whole: bool) -> Any:
    if not path.is_file():
        raise MissingFileError(f"{path} isn't a file")
    if path.stat().st_size == 0:
        raise TensorFileError(f"{path} is empty")
    try:
        return _read(path, mapped=mapped, whole=whole)
    except RefusedError as error:
        raise TensorFileError(f"{path} is refused: {error}") from error
    except DamagedError as error:
        raise TensorFileError(f"{path} is damaged: its {error}. Copy it again") from error
    except Exception as error:  # files of other formats raise anything
        raise TensorFileError(_reason(path)) from error


def _read(path: Path, *, mapped: bool, whole: bool) -> Any:
    """Read a file by its content."""
    with path.open("rb") as file:
        start = file.read(512)
        if start[8:9] == b"{" and int.from_bytes(start[:8], "little") < path.stat().st_size:
            tensors = load_file(path)
            return tensors if mapped else {name: value.clone() for name, value in tensors.items()}
        if not is_zip(start) and not is_legacy(start):
            file.seek(0)
            return load_pickled_arrays(file)
    if is_zip(start):
        check_zip(path, whole=whole)
    else:
        check_legacy(path)
    named: list[Any] = [(stand_in, name) for name, stand_in in STAND_INS.items()]
    with torch.serialization.safe_globals(named), warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # another protocol of pickle, which loads
        mmap = mapped and is_zip(start)
        loaded = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    return replace_stand_ins(loaded)


def find_state_dict(loaded: Any, path: str | os.PathLike) -> dict[str, Tensor]:
    """Return the tensors of a loaded state dict, bare or under a usual key; arrays become tensors.

    The versions of its modules stay with it.

    Raises:
        TensorFileError: The file holds no state dict, or versions that aren't numbers. The message
            names `path`.
    """
    for key in _STATE_DICT_KEYS:
        if isinstance(loaded, Mapping) and isinstance(loaded.get(key), Mapping):
            loaded = loaded[key]
    named = loaded.items() if isinstance(loaded, Mapping) else ()
    tensors = {name: _as_tensor(value) for name, value in named if isinstance(name, str)}
    if found := {name: value for name, value in tensors.items() if value is not None}:
        try:
            return with_versions(found, versions_of(loaded))
        except InputError as error:
            raise TensorFileError(f"{path}: {error}") from error
    raise TensorFileError(f"{path} holds no state dict: a {type(loaded).__name__} without tensors")


def _as_tensor(value: Any) -> Tensor | None:
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return torch.as_tensor(value)
    return value if isinstance(value, Tensor) else None


def write_checkpoint(path: str | os.PathLike, content: Mapping[str, Any]) -> None:
    """Write a file of `torch.save` as `atomic_write` does.

    The CRC-32 of every tensor stands in the file; `load_checkpoint` checks them.

    Raises:
        InputError: The file can't be written, for instance because the disk is full.
    """

    def write(stream: IO[bytes]) -> None:
        watched: Any = _Watched(stream)
        try:
            torch.save(dict(content), watched)
        except RuntimeError:  # torch's own, after an error of the stream
            if watched.error is not None:
                raise watched.error from None
            raise

    atomic_write(path, write)


def write_zoo_file(path: str | os.PathLike, state_dict: Mapping[str, Tensor], author: str) -> None:
    """Write a file in the format of Detectron2's model zoo as `atomic_write` does.

    Detectron2's checkpointer loads it into the part of a model whose names end like the tensors'.

    Args:
        path: File ending in ".pkl", by which Detectron2 tells the format.
        state_dict: Tensors on the CPU.
        author: Who made the weights, for Detectron2's log.

    Raises:
        InputError: The file can't be written.
    """
    arrays = {name: value.detach().numpy() for name, value in state_dict.items()}
    content = {"model": arrays, "__author__": author, "matching_heuristics": True}
    atomic_write(path, lambda stream: pickle.dump(content, stream, protocol=4))


def write_safetensors(path: str | os.PathLike, state_dict: Mapping[str, Tensor]) -> None:
    """Write a safetensors file that transformers reads, as `atomic_write` does.

    Raises:
        InputError: The file can't be written.
    """
    content = save({n: value.contiguous() for n, value in state_dict.items()}, {"format": "pt"})
    atomic_write(path, lambda stream: stream.write(content))


class _Watched:
    """A stream that keeps its error, which torch hides."""

    def __init__(self, stream: IO[bytes]):
        self._stream = stream
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return self._stream.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def non_finite(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the names of the floating-point tensors that hold NaN or infinity."""
    floats = {name: value for name, value in tensors.items() if value.is_floating_point()}
    if not floats:
        return []
    # A single transfer from the device for all tensors.
    finite = torch.stack([_are_finite(value) for value in floats.values()]).tolist()
    return [name for name, ok in zip(floats, finite, strict=True) if not ok]


def _are_finite(tensor: Tensor) -> Tensor:
    is_float8 = tensor.element_size() == 1  # torch can't test its elements
    return torch.isfinite(tensor.half() if is_float8 else tensor).all()


def _reason(path: Path) -> str:
    """Say in one line why a file is unreadable."""
    with path.open("rb") as file:
        start = file.read(512).lstrip().lower()
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        return f"{path} is a web page, not a checkpoint: the download went wrong"
    if start.startswith(b"version https://git-lfs"):
        return f"{path} is a Git LFS pointer, not the file itself: run `git lfs pull`"
    return f"{path} is unreadable: truncated or of another format"
