"""Check files of `torch.save` before torch reads them.

Torch's own unpickler refuses code, but trusts sizes: a tensor beyond the end of its storage may end
the process. Each file is therefore read with stand-ins first.
"""

import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from .pickles import RestrictedUnpickler
from .stand_ins import STAND_INS, RefusedError, are_sizes, short

_MAGIC = b"\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # torch < 1.6 writes it first, as a pickle


class DamagedError(Exception):
    """Bytes of a file aren't those that were written. The message says which, after "its"."""


class _Storage:
    """Stands in for a storage of so many bytes."""

    def __init__(self, num_bytes: int, itemsize: int):
        self.num_bytes, self.itemsize = num_bytes, itemsize


class _StorageKind:
    """Stands in for a class such as `torch.FloatStorage`."""

    def __init__(self, itemsize: int):
        self.itemsize = itemsize


class _DType(_StorageKind):
    """Stands in for a type such as `torch.float32`."""


class _Tensor:
    """Stands in for a tensor."""


def _rebuild_tensor(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Tensor:
    if not isinstance(storage, _Storage):
        raise RefusedError("it holds a tensor without a storage")
    _check_bounds(storage, storage.itemsize, offset, size, stride)
    return _Tensor()


def _rebuild_tensor_v2(
    storage: Any, offset: Any, size: Any, stride: Any, grad: Any, hooks: Any, metadata: Any = None
) -> _Tensor:
    if metadata:
        raise RefusedError("it holds a tensor with metadata")
    return _rebuild_tensor(storage, offset, size, stride)


def _rebuild_tensor_v3(
    storage: Any,
    offset: Any,
    size: Any,
    stride: Any,
    grad: Any,
    hooks: Any,
    dtype: Any,
    metadata: Any = None,
) -> _Tensor:
    if metadata or not isinstance(storage, _Storage) or not isinstance(dtype, _DType):
        raise RefusedError("it holds a tensor without a storage or type, or with metadata")
    _check_bounds(storage, dtype.itemsize, offset, size, stride)
    return _Tensor()


def _rebuild_parameter(data: Any, requires_grad: Any, hooks: Any, *state: Any) -> _Tensor:
    if not isinstance(data, _Tensor) or any(state):
        raise RefusedError("it holds a parameter without a tensor, or with attributes")
    return data


def _check_bounds(storage: _Storage, itemsize: int, offset: Any, size: Any, stride: Any) -> None:
    """Refuse a tensor that reaches beyond its storage. Offset and strides count elements."""
    if not (are_sizes(size) and are_sizes(stride) and are_sizes((offset,))):
        raise RefusedError("it holds a tensor without size, strides or offset")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if all(size) and (last + 1) * itemsize > storage.num_bytes:
        raise RefusedError("it holds a tensor that reaches beyond its storage")


def _new_size(sizes: Any = ()) -> tuple:
    return tuple(sizes)


def _new_device(kind: Any, *index: Any) -> str:
    return str(kind)


_STORAGES = {  # name -> bytes of an element
    "torch.storage.UntypedStorage": 1,
    **dict.fromkeys((f"torch.{kind}Storage" for kind in ("Byte", "Char", "Bool")), 1),
    **dict.fromkeys((f"torch.{kind}Storage" for kind in ("Half", "BFloat16", "Short")), 2),
    **dict.fromkeys((f"torch.{kind}Storage" for kind in ("Float", "Int")), 4),
    **dict.fromkeys((f"torch.{kind}Storage" for kind in ("Double", "Long", "ComplexFloat")), 8),
    "torch.ComplexDoubleStorage": 16,
}
_TORCH_STAND_INS: dict[str, Any] = STAND_INS | {
    **{name: _StorageKind(itemsize) for name, itemsize in _STORAGES.items()},
    **{str(t): _DType(t.itemsize) for t in vars(torch).values() if isinstance(t, torch.dtype)},
    "torch.Size": _new_size,
    "torch.device": _new_device,
    "torch._utils._rebuild_parameter": _rebuild_parameter,
    "torch._utils._rebuild_parameter_with_state": _rebuild_parameter,
    "torch._utils._rebuild_tensor": _rebuild_tensor,
    "torch._utils._rebuild_tensor_v2": _rebuild_tensor_v2,
    "torch._utils._rebuild_tensor_v3": _rebuild_tensor_v3,
}


def is_zip(start: bytes) -> bool:
    """Return whether a file that starts like this is a zip, as torch 1.6 and later write."""
    return start.startswith(b"PK\x03\x04")


def is_legacy(start: bytes) -> bool:
    """Return whether a file that starts like this was written by torch before 1.6."""
    return _MAGIC in start[:32]


def check_zip(path: Path, *, whole: bool) -> None:
    """Check a zip that torch wrote.

    Args:
        path: The file.
        whole: Whether to check the CRC-32 of all tensors, which reads the whole file.

    Raises:
        RefusedError: It holds anything else than tensors and plain data.
        DamagedError: Bytes have changed since the file was written.
        zipfile.BadZipFile: It isn't a whole zip.
    """
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        folder, _, name = entries[0].filename.partition("/") if entries else ("", "", "")
        sizes = {entry.filename.lower(): entry.file_size for entry in entries}
        if len(sizes) < len(entries) or not name:  # torch doesn't see upper and lower case
            raise RefusedError("it holds files of the same name, or without a folder")
        has_checksums = any(entry.CRC for entry in entries)
        if not has_checksums:  # of torch.serialization.set_crc32_options(False)
            for entry in entries:
                del entry.CRC
        pickled = f"{folder}/data.pkl"
        if has_checksums and (
            broken := list(_broken(archive, [pickled] if not whole else archive.namelist()))
        ):
            raise DamagedError(f"parts {', '.join(broken)} have changed since they were written")

        def find_storage(pid: Any) -> _Storage:
            kind, key, num_bytes = _read_pid(pid)
            if sizes.get(f"{folder}/data/{key}".lower(), -1) != num_bytes:
                raise RefusedError(f"it holds a storage {short(key)} of another size than it says")
            return _Storage(num_bytes, kind.itemsize)

        with archive.open(pickled) as file:
            RestrictedUnpickler(file, _TORCH_STAND_INS, find_storage).load()


def check_legacy(path: Path) -> None:
    """Check a file of torch before 1.6: pickles of a header, of the content and of storages' keys.

    Raises:
        RefusedError: It holds anything else than tensors and plain data.
        Exception: Of any type: the file is truncated.
    """

    def find_storage(pid: Any) -> _Storage:
        kind, _, num_bytes = _read_pid(pid[:-1] if isinstance(pid, tuple) else pid)
        view = pid[-1]
        if view is not None:
            _, offset, num_elements = view
            _check_bounds(
                _Storage(num_bytes, kind.itemsize), kind.itemsize, offset, (num_elements,), (1,)
            )
            num_bytes = num_elements * kind.itemsize
        return _Storage(num_bytes, kind.itemsize)

    with path.open("rb") as file:
        for _ in range(5):
            RestrictedUnpickler(file, _TORCH_STAND_INS, find_storage).load()


def _read_pid(pid: Any) -> tuple[_StorageKind, Any, int]:
    """Return kind, key and number of bytes of the storage that a persistent id names."""
    if not isinstance(pid, tuple) or len(pid) != 5 or pid[0] != "storage":
        raise RefusedError("it holds a persistent id that isn't a storage's")
    _, kind, key, location, num_elements = pid
    if not isinstance(kind, _StorageKind) or not isinstance(location, str):
        raise RefusedError("it holds a storage of no known type")
    if not isinstance(key, str) or not re.fullmatch(r"\w+", key):
        raise RefusedError("it holds a storage without a key")
    if type(num_elements) is not int or num_elements < 0:
        raise RefusedError("it holds a storage of no size")
    return kind, key, num_elements * kind.itemsize


def _broken(archive: zipfile.ZipFile, names: list[str]) -> Iterator[str]:
    """Yield the names of files whose CRC-32 isn't the one that was written."""
    for name in names:
        try:
            with archive.open(name) as file:
                while file.read(1 << 20):
                    pass
        except zipfile.BadZipFile:
            yield name
