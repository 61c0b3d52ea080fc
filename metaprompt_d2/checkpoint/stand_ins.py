"""What stands in for the classes and functions that a pickle of plain data names.

Neither NumPy nor any other package gets to see what a file says before it has been checked.
"""

import math
import os
import pickle
import re
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

# Arrays of numbers and of strings: the codes that NumPy writes.
_DTYPES = re.compile(r"b1|[iu][1248]|f[248]|c(8|16)|[SU]\d{1,4}")


class RefusedError(pickle.UnpicklingError):
    """A pickle holds something that isn't plain data. The message says what, after "it"."""


class Inert:
    """Stands in for a class that training codes name in their checkpoints."""

    def __init__(self, *args: Any):
        """Ignore all arguments."""


class Stateful(ABC):
    """Stands in for an object whose content follows it in the file."""

    @abstractmethod
    def __setstate__(self, state: Any) -> None:
        """Check and take the content."""


class _Attributes(Stateful):
    """Stands in for an object that is nothing but attributes; it becomes their dict."""

    state: Mapping[str, Any] = {}

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise RefusedError("it holds attributes that aren't a dict")
        self.state = state


class _DType(Stateful):
    """Stands in for `numpy.dtype`."""

    def __init__(self, code: Any, *flags: Any):
        if not isinstance(code, str) or not _DTYPES.fullmatch(code):
            raise RefusedError(
                f"it holds arrays of type {short(code)}, which aren't numbers or strings"
            )
        self.code, self.byte_order = code, "="

    def __setstate__(self, state: Any) -> None:
        """Take NumPy's state: version, byte order, and None where the type is a simple one."""
        if not isinstance(state, tuple) or len(state) < 5 or any(state[2:5]):
            raise RefusedError("it holds arrays of a compound type")
        if state[1] not in ("<", ">", "=", "|"):
            raise RefusedError(f"it holds arrays of the byte order {short(state[1])}")
        self.byte_order = state[1]

    def read(self, raw: Any, shape: Any, order: Any) -> np.ndarray:
        """Build an array, in this machine's byte order, from the bytes of its elements."""
        raw = raw.encode("latin1") if isinstance(raw, str) else bytes(memoryview(raw))
        dtype = np.dtype(self.byte_order + self.code)
        if not are_sizes(shape) or math.prod(shape) * dtype.itemsize != len(raw):
            raise RefusedError(f"it holds an array of another size than its {len(raw)} bytes")
        if order not in ("C", "F"):
            raise RefusedError(f"it holds an array of the order {short(order)}")
        if dtype.kind == "U":  # NumPy doesn't check what isn't a character
            raw.decode("utf-32-be" if dtype.str[0] == ">" else "utf-32-le")
        return np.ndarray(shape, dtype, raw, order=order).astype(dtype.newbyteorder("="))


class _Array(Stateful):
    """Stands in for `numpy.ndarray`."""

    array: np.ndarray | None = None

    def __setstate__(self, state: Any) -> None:
        """Take NumPy's state: version, shape, type, whether in Fortran's order, and bytes."""
        if not isinstance(state, tuple) or len(state) != 5 or not isinstance(state[2], _DType):
            raise RefusedError("it holds an array without shape, type and bytes")
        _, shape, dtype, is_fortran, raw = state
        self.array = dtype.read(raw, shape, "F" if is_fortran else "C")


def _scalar(dtype: Any, raw: Any) -> Any:
    return _from_buffer(raw, dtype, (), "C")[()]


def _from_buffer(buffer: Any, dtype: Any, shape: Any, order: Any) -> np.ndarray:
    if not isinstance(dtype, _DType):
        raise RefusedError("it holds an array without a type")
    return dtype.read(buffer, shape, order)


def _new_array(kind: Any, shape: Any, code: Any) -> _Array:
    return _Array()


def _encode(text: Any, encoding: Any = "utf-8") -> bytes:
    """Stand in for `_codecs.encode`, with which old protocols write bytes."""
    if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
        raise RefusedError(f"it holds text in the encoding {short(encoding)}")
    return text.encode("latin1")


def _new_dict(items: Any = ()) -> dict:
    pairs = [tuple(pair) for pair in (items.items() if isinstance(items, dict) else items)]
    check_keys(key for key, _ in pairs)
    return dict(pairs)


def _new_ordered_dict(items: Any = ()) -> dict:
    return OrderedDict(_new_dict(items))


def _new_default_dict(factory: Any = None) -> dict:
    return {}


def _new_set(items: Any = ()) -> set:
    if not isinstance(items, list | tuple):
        raise RefusedError("it holds a set of something else than a list")
    check_keys(items)
    return set(items)


def _new_bytes() -> bytes:
    return b""


def _new_bytearray(*content: Any) -> bytearray:
    if not content or isinstance(content[0], bytes):
        return bytearray(*content)
    return bytearray(_encode(*content))


def _new_complex(real: Any, imaginary: Any) -> complex:
    return complex(float(real), float(imaginary))


def _new_path(*parts: Any) -> str:
    return os.path.join("", *parts)


_ARRAY_MODULES = ("numpy.core", "numpy._core")  # of NumPy 1 and 2

# Name in a pickle -> what stands in for it.
STAND_INS: dict[str, Any] = {
    "_codecs.encode": _encode,
    "builtins.bytearray": _new_bytearray,
    "builtins.bytes": _new_bytes,  # old protocols write empty bytes as a call
    "builtins.complex": _new_complex,
    "builtins.set": _new_set,
    "collections.Counter": _new_dict,
    "collections.OrderedDict": _new_ordered_dict,
    "collections.defaultdict": _new_default_dict,
    # The factories of a defaultdict.
    **dict.fromkeys((f"builtins.{name}" for name in ("dict", "float", "int", "list")), Inert),
    "argparse.Namespace": _Attributes,
    "types.SimpleNamespace": _Attributes,
    **dict.fromkeys(("pathlib.PosixPath", "pathlib.WindowsPath"), _new_path),
    **dict.fromkeys(("pathlib._local.PosixPath", "pathlib._local.WindowsPath"), _new_path),
    # Stable Diffusion's first files name it.
    "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint": Inert,
    "numpy.dtype": _DType,
    "numpy.ndarray": _Array,
    **{f"{module}.multiarray._reconstruct": _new_array for module in _ARRAY_MODULES},
    **{f"{module}.multiarray.scalar": _scalar for module in _ARRAY_MODULES},
    **{f"{module}.numeric._frombuffer": _from_buffer for module in _ARRAY_MODULES},
}


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse deep tuples, whose hash would overflow the stack of the process."""
    for key in keys:
        parts = key if isinstance(key, tuple) else (key,)
        if any(isinstance(part, tuple | frozenset) for part in parts):
            raise RefusedError("it holds keys that are nested tuples")


def are_sizes(value: Any) -> bool:
    """Return whether a value is a tuple of numbers that can be a shape."""
    return (
        isinstance(value, tuple)
        and len(value) <= 32  # NumPy's limit
        and all(type(size) is int and 0 <= size < 1 << 63 for size in value)
    )


def short(value: Any) -> str:
    """Describe a value of a file, of which only a string is printed."""
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def replace_stand_ins(value: Any) -> Any:
    """Replace the stand-ins within containers by the arrays and dicts that they stand for."""
    return _replace(value, {})


def _replace(value: Any, done: dict[int, tuple[Any, Any]]) -> Any:
    # `done` holds the values, too, so that no other object gets their ids.
    if id(value) in done:
        return done[id(value)][1]
    if isinstance(value, _Array):
        new: Any = value.array
    elif isinstance(value, _Attributes):
        new = dict(value.state)
    else:
        new = value
    done[id(value)] = value, new
    if isinstance(new, dict):
        for key, item in new.items():
            new[key] = _replace(item, done)
    elif type(new) is list:
        new[:] = [_replace(item, done) for item in new]
    elif type(new) is tuple:
        new = tuple(_replace(item, done) for item in new)
        done[id(value)] = value, new
    return new
