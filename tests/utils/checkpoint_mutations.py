"""Checkpoints of every format, and seeded mutations of them."""

import collections
import io
import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors.torch import save

# Opcodes and numbers that lead into the rarer parts of an unpickler.
_PIECES = [bytes([code]) for code in range(128, 153)]
_PIECES += [bytes([code]) for code in b"(.012FIJKLMNPQRSTUVXabcdeghijlopqrstu]})"]
_PIECES += [
    b"\xff\xff\xff\x7f",
    b"\xff" * 8,
    b"\x85" * 5000,
    b"]" * 500,
    b"K\x00",
    b"J\xff\xff\xff\xff",
]
_PIECES += [f"c{name}\n".encode() for name in (
    "numpy\ndtype", "numpy\nndarray", "numpy.core.multiarray\n_reconstruct",
    "numpy.core.multiarray\nscalar", "numpy._core.numeric\n_frombuffer", "_codecs\nencode",
    "collections\nOrderedDict", "argparse\nNamespace", "builtins\nset", "builtins\nbytearray",
    "torch._utils\n_rebuild_tensor_v2", "torch._utils\n_rebuild_tensor_v3",
    "torch._utils\n_rebuild_parameter", "torch\nFloatStorage", "torch\nfloat32", "torch\nSize",
    "torch\nTensor", "torch._utils\n_rebuild_sparse_tensor", "torch.storage\nUntypedStorage",
)]  # fmt: skip


def seeds() -> Iterator[tuple[str, bytes]]:
    """Yield whole files, with the kind of each."""
    tensors = {
        "a": torch.arange(6.0).reshape(2, 3),
        "half": torch.ones(2, dtype=torch.bfloat16),
        "small": torch.ones(2, dtype=torch.float8_e4m3fn),
        "n": torch.tensor(3),
        "p": torch.nn.Parameter(torch.ones(2)),
        "view": torch.arange(8.0)[2:5],
    }
    arrays = {
        "w": np.arange(6, dtype=np.float32).reshape(2, 3),
        "names": np.array(["a", "b"]),
        "n": np.int64(3),
        "s": np.array([b"ab"]),
        "f": np.asfortranarray(np.ones((2, 2))),
    }
    plain = {
        "log": collections.defaultdict(list, a=[1]),
        "set": {1, 2},
        "raw": b"\x00\xff",
        "t": (1,),
    }
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        yield "pickle", pickle.dumps({"model": arrays, "plain": plain}, protocol)
    content = {"model": collections.OrderedDict(tensors), "arrays": arrays, "plain": plain}
    for kind, is_zip in (("zip", True), ("old", False)):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=is_zip)
        yield kind, stream.getvalue()
    yield "safetensors", save({name: value.detach().clone() for name, value in tensors.items()})


def mutate(content: bytes, random: Random) -> bytes:
    """Change some places of a file: flip, drop, double, cut, or put in pieces of pickles."""
    changed = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4, 16))):
        place = random.randrange(len(changed) + 1)
        length = random.choice((1, 1, 2, 4, 8, 30))
        kind = random.randrange(7)
        if kind == 0:
            changed[place : place + 1] = bytes([random.randrange(256)])
        elif kind == 1:
            del changed[place : place + length]
        elif kind == 2:
            changed[place:place] = changed[place : place + length]
        elif kind == 3:
            changed[place : place + 1] = random.choice(_PIECES)
        elif kind == 4:
            changed[place:place] = random.choice(_PIECES)
        elif kind == 5:
            other = random.randrange(len(changed) + 1)
            changed[place:place] = changed[other : other + length]
        elif random.random() < 0.2:
            del changed[place:]
    return bytes(changed)


def with_pickle(archive: bytes, content: bytes) -> bytes:
    """Replace the pickle of a zip of `torch.save`, with checksums that are right."""
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(stream, "w") as new:
        for name in old.namelist():
            new.writestr(name, content if name.endswith("/data.pkl") else old.read(name))
    return stream.getvalue()


def pickle_of(archive: bytes) -> bytes:
    """Read the pickle of a zip of `torch.save`."""
    with zipfile.ZipFile(io.BytesIO(archive)) as opened:
        (name,) = (name for name in opened.namelist() if name.endswith("/data.pkl"))
        return opened.read(name)


def corpus(number: int) -> Iterator[bytes]:
    """Yield seeded mutations: of whole files, and of the pickles within zips."""
    files = list(seeds())
    for seed in range(number):
        random = Random(seed)
        kind, content = random.choice(files)
        if kind == "zip" and random.random() < 0.8:
            yield with_pickle(content, mutate(pickle_of(content), random))
        else:
            yield mutate(content, random)


def read_all(folder: Path, number: int) -> None:
    """Read the corpus as a program of its own; prints the number of each file before reading it."""
    from metaprompt_d2.checkpoint import TensorFileError, load_checkpoint

    file = folder / "mutated"
    loaded = 0
    for index, content in enumerate(corpus(number)):
        file.write_bytes(content)
        print(index, flush=True)
        try:
            load_checkpoint(file)
            loaded += 1
        except TensorFileError:
            pass
    print("loaded", loaded)
