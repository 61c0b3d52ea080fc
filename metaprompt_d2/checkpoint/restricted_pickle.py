"""Read pickled weights (Detectron2's model zoo) without running code from the file."""

import pickle
from typing import IO, Any

__all__ = ["RefusedGlobalError", "load_pickled_arrays"]

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
