"""Read pickles of tensors, arrays and plain data without calling anything that they name.

A name in a pickle stands for a function or class of `stand_ins.py`, whatever the file means by it.
"""

import pickle
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import IO, Any, ClassVar

from .stand_ins import STAND_INS, Inert, RefusedError, Stateful, check_keys, replace_stand_ins


def load_pickled_arrays(file: IO[bytes]) -> Any:
    """Read a pickle of containers, numbers and NumPy arrays, of Python 2 or 3.

    Raises:
        RefusedError: The pickle names anything else.
        Exception: Of any type: the pickle is truncated, or isn't a pickle.
    """
    return replace_stand_ins(RestrictedUnpickler(file, STAND_INS).load())


class RestrictedUnpickler(pickle._Unpickler):
    """Python's own unpickler, which calls stand-ins only.

    C's unpickler would fill memory for a single number of the file.
    """

    dispatch: ClassVar[dict[int, Any]] = dict(pickle._Unpickler.dispatch)
    stack: list[Any]  # of values, since the last mark
    read: Callable[[int], bytes]
    append: Callable[[Any], None]

    def __init__(
        self,
        file: IO[bytes],
        stand_ins: Mapping[str, Any],
        find_storage: Callable[[Any], Any] | None = None,
    ):
        """
        Args:
            file: Stream at the start of a pickle; afterwards it is at the pickle's end.
            stand_ins: Maps names to what stands in for them.
            find_storage: Function that returns what stands in for a persistent id.
        """
        super().__init__(file, encoding="latin1")
        self._stand_ins = stand_ins
        self._find_storage = find_storage

    def find_class(self, module: str, name: str) -> Any:
        module = {"__builtin__": "builtins"}.get(module, module)  # Python 2
        full = f"{module}.{name}"
        if full not in self._stand_ins:
            raise RefusedError(f"it wants to load {full}, which isn't a tensor and could run code")
        return self._stand_ins[full]

    def persistent_load(self, pid: Any) -> Any:
        if self._find_storage is None:
            raise pickle.UnpicklingError("a persistent id")
        return self._find_storage(pid)

    def load_build(self) -> None:
        """Give a stand-in its state; nothing else has one."""
        state = self.stack.pop()
        target = self.stack[-1]
        if isinstance(target, Stateful):
            target.__setstate__(state)
        elif isinstance(target, dict):
            is_state_dict = type(target) is OrderedDict and isinstance(state, dict)
            if not is_state_dict or state.keys() - {"_metadata"}:
                raise RefusedError("it holds attributes of a dict")
            vars(target).update(state)  # the versions of its modules
        elif not isinstance(target, Inert):
            raise RefusedError(f"it holds a state of a {type(target).__name__}")

    def load_setitem(self) -> None:
        check_keys(self.stack[-2:-1])
        super().load_setitem()  # type: ignore[misc]

    def load_setitems(self) -> None:
        check_keys(self.stack[::2])
        super().load_setitems()  # type: ignore[misc]

    def load_dict(self) -> None:
        check_keys(self.stack[::2])
        super().load_dict()  # type: ignore[misc]

    def load_additems(self) -> None:
        check_keys(self.stack)
        super().load_additems()  # type: ignore[misc]

    def load_frozenset(self) -> None:
        check_keys(self.stack)
        super().load_frozenset()  # type: ignore[misc]

    def load_bytearray8(self) -> None:
        """Read before memory is filled with zeros."""
        length = int.from_bytes(self.read(8), "little")
        self.append(bytearray(self.read(length)))

    dispatch[pickle.BUILD[0]] = load_build
    dispatch[pickle.SETITEM[0]] = load_setitem
    dispatch[pickle.SETITEMS[0]] = load_setitems
    dispatch[pickle.DICT[0]] = load_dict
    dispatch[pickle.ADDITEMS[0]] = load_additems
    dispatch[pickle.FROZENSET[0]] = load_frozenset
    dispatch[pickle.BYTEARRAY8[0]] = load_bytearray8
