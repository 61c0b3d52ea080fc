"""Pickles of arrays load; anything that could run code is refused before it does."""

import collections
import os
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from metaprompt_d2.checkpoint.tensor_files import load_pickled_arrays


class MakesFolder:
    """Its pickle makes a folder when it is loaded: harmless, but code."""

    def __init__(self, folder: Path):
        self.folder = str(folder)

    def __reduce__(self) -> tuple:
        return os.mkdir, (self.folder,)


def pickled(data: object, protocol: int = 2) -> BytesIO:
    return BytesIO(pickle.dumps(data, protocol=protocol))


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_in_containers_load(protocol: int) -> None:
    arrays = {
        "weight": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array(["a", "b"]),
        "count": np.int64(3),
    }
    data = {"model": collections.OrderedDict(arrays), "iteration": 5, "list": [1.5, None, (True,)]}
    loaded = load_pickled_arrays(pickled(data, protocol))
    assert loaded.keys() == data.keys()
    assert (loaded["iteration"], loaded["list"]) == (5, [1.5, None, (True,)])
    for name, value in arrays.items():
        assert np.array_equal(loaded["model"][name], value)
        assert loaded["model"][name].dtype == value.dtype


def test_strings_of_python_2_load() -> None:
    # Protocol 0's STRING opcode, as Python 2 wrote b"\xe9".
    assert load_pickled_arrays(BytesIO(b"S'\\xe9'\n.")) == "\xe9"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "proof"
    file = pickled({"model": {"weight": MakesFolder(target)}}, protocol)
    with pytest.raises(pickle.UnpicklingError, match=r"mkdir, which isn't an array"):
        load_pickled_arrays(file)
    assert not target.exists()
    # The same pickle does run where nobody watches.
    file.seek(0)
    pickle.load(file)
    assert target.is_dir()


@pytest.mark.parametrize(
    "function", [eval, exec, getattr, os.system, np.load, torch.load, __import__]
)
def test_functions_are_refused(function) -> None:
    with pytest.raises(pickle.UnpicklingError, match=r"could run code"):
        load_pickled_arrays(pickled(function))


def test_an_array_of_objects_cannot_smuggle_code_in(tmp_path: Path) -> None:
    array = np.array([MakesFolder(tmp_path / "proof")], dtype=object)
    with pytest.raises(pickle.UnpicklingError, match="mkdir"):
        load_pickled_arrays(pickled(array))
    assert not (tmp_path / "proof").exists()
