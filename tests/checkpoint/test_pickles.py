"""Pickles of arrays load; anything that could run code is refused before it does."""

import argparse
import collections
import os
import pickle
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
import torch

from metaprompt_d2.checkpoint import TensorFileError, load_checkpoint
from metaprompt_d2.checkpoint.pickles import load_pickled_arrays


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
    arrays |= {
        "big endian": np.arange(3, dtype=">i4"),
        "in Fortran's order": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        "empty": np.zeros((0, 3), np.float16),
        "bytes": np.array([b"a", b"bc"]),
        "complex": np.ones(2, np.complex64),
    }
    data = {"model": collections.OrderedDict(arrays), "iteration": 5, "list": [1.5, None, (True,)]}
    loaded = load_pickled_arrays(pickled(data, protocol))
    assert loaded.keys() == data.keys()
    assert (loaded["iteration"], loaded["list"]) == (5, [1.5, None, (True,)])
    for name, value in arrays.items():
        assert np.array_equal(loaded["model"][name], value)
        assert loaded["model"][name].dtype == value.dtype.newbyteorder("=")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_plain_containers_of_training_codes_load(protocol: int) -> None:
    array = np.ones(3)
    options = argparse.Namespace(lr=0.1, output=Path("/runs/1"), weights=array)
    counts: dict = collections.defaultdict(list, {"a": [1]})
    data = {"args": options, "log": counts, "n": collections.Counter("aab"), "of": {1, 2}}
    loaded = load_pickled_arrays(pickled(data | {"raw": bytearray(b"x"), "none": b""}, protocol))
    assert loaded.pop("args") == {"lr": 0.1, "output": "/runs/1", "weights": pytest.approx(array)}
    assert loaded == {"log": counts, "n": {"a": 2, "b": 1}, "of": {1, 2}, "raw": b"x", "none": b""}


def test_what_is_found_twice_stays_one_object() -> None:
    array = np.ones(2)
    loaded = load_pickled_arrays(pickled([array, (array, [array])]))
    assert loaded[0] is loaded[1][0] is loaded[1][1][0]


def test_strings_of_python_2_load() -> None:
    # Protocol 0's STRING opcode, as Python 2 wrote b"\xe9".
    assert load_pickled_arrays(BytesIO(b"S'\\xe9'\n.")) == "\xe9"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_hostile_pickle_is_refused_before_it_runs(tmp_path: Path, protocol: int) -> None:
    target = tmp_path / "proof"
    file = pickled({"model": {"weight": MakesFolder(target)}}, protocol)
    with pytest.raises(pickle.UnpicklingError, match=r"mkdir, which isn't a tensor"):
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
    with pytest.raises(pickle.UnpicklingError, match="arrays of type 'O8'"):
        load_pickled_arrays(pickled(array))
    assert not (tmp_path / "proof").exists()


HOSTILE = {
    "a type whose state would be object pointers": (
        b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8K\x00K\x01\x87R(K\x03X\x01\x00\x00\x00|NNNJ"
        b"\xff\xff\xff\xffJ\xff\xff\xff\xffK?tb."
    ),
    "a scalar of objects": (
        b"\x80\x02cnumpy.core.multiarray\nscalar\ncnumpy\ndtype\nX\x02\x00\x00\x00O8\x85RC\x08AAAAAAAA"
        b"\x86R."
    ),
    "an array beyond its bytes": pickle.dumps(np.ones(4), 2).replace(b"K\x04\x85", b"K\x7f\x85"),
    "a key whose hash overflows the stack": b"}N" + b"\x85" * 200_000 + b"Ns.",
    "keys of a set": b"(N" + b"\x85" * 200_000 + b"\x91.",
    "keys of an old dict": b"(N" + b"\x85" * 200_000 + b"Nd.",
    "keys of an OrderedDict": (
        b"ccollections\nOrderedDict\n]]N" + b"\x85" * 200_000 + b"aNaa\x85R."
    ),
    "a state for a stand-in's class": b"cnumpy\ndtype\n(N}X\x01\x00\x00\x00aK\x01stb.",
    "a state for a function": b"c_codecs\nencode\n(N}X\x0c\x00\x00\x00__defaults__)stb.",
    "a call of data": b"X\x01\x00\x00\x00a)R.",
    "another encoding": b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x05\x00\x00\x00rot13tR.",
    "much memory for a bytearray": b"\x96" + (1 << 40).to_bytes(8, "little") + b".",
    "no characters": pickle.dumps(np.array(["ab"]), 2).replace(
        b"a\x00\x00\x00", b"\x00\x00\x7f\x7f"
    ),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_pickle_is_an_error(kind: str, tmp_path: Path) -> None:
    (tmp_path / "hostile.pkl").write_bytes(HOSTILE[kind])
    with pytest.raises(TensorFileError, match=r"hostile\.pkl is (refused|unreadable)"):
        load_checkpoint(tmp_path / "hostile.pkl")


def test_a_number_in_the_file_takes_no_memory() -> None:
    """Python's unpickler in C makes a list of as many places."""
    assert load_pickled_arrays(BytesIO(b"Nr\xff\xff\xff\x7f.")) is None
