"""Tensors from files: values, little memory, and one line of reason where a file is unreadable."""

import os
import pickle
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from scripts import run_script

from metaprompt_d2.checkpoint import TensorFileError, load_checkpoint, non_finite
from metaprompt_d2.checkpoint.tensor_files import open_tensors

TENSORS = {
    "matrix": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "half": torch.tensor([1.5, -2.0], dtype=torch.float16),
    "brain": torch.tensor([[1.5]], dtype=torch.bfloat16),
    "count": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}


class Payload:
    """A pickle that would make a folder if it were run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def write(folder: Path, ending: str, tensors: dict[str, torch.Tensor]) -> Path:
    file = folder / f"weights.{ending}"
    if ending == "safetensors":
        save_file(tensors, file)
    elif ending == "old.bin":
        torch.save(tensors, file, _use_new_zipfile_serialization=False)
    else:
        torch.save(tensors, file)
    return file


@pytest.mark.parametrize("ending", ["safetensors", "bin", "old.bin"])
def test_tensors_of_every_format_are_read_bit_by_bit(tmp_path: Path, ending: str) -> None:
    stored = open_tensors(write(tmp_path, ending, TENSORS))
    assert stored.keys() == TENSORS.keys()
    for name, value in TENSORS.items():
        assert stored[name].dtype == value.dtype
        assert torch.equal(stored[name], value), name


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_a_state_dict_is_found_below_its_usual_names(tmp_path: Path, wrapper: str) -> None:
    file = tmp_path / "last.ckpt"
    torch.save({wrapper: TENSORS, "optimizer": {"lr": 1.0}, "epoch": 3}, file)
    assert open_tensors(file).keys() == TENSORS.keys()


def test_views_and_other_memory_formats_are_read_as_they_were(tmp_path: Path) -> None:
    image = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    whole = torch.arange(20.0).reshape(4, 5)
    tensors = {"image": image, "column": whole[1:, 2], "whole": whole, "again": whole}
    stored = open_tensors(write(tmp_path, "pth", tensors))
    for name, value in tensors.items():
        assert torch.equal(stored[name], value), name


@pytest.mark.parametrize("ending", ["safetensors", "bin"])
def test_changing_a_mapped_tensor_leaves_the_file_alone(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path, ending, TENSORS)
    content = file.read_bytes()
    open_tensors(file)["matrix"].zero_()
    assert file.read_bytes() == content
    assert torch.equal(open_tensors(file)["matrix"], TENSORS["matrix"])


def test_what_lightning_and_mmcv_leave_in_files_does_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stable Diffusion's first files name a callback class; mmcv's hold NumPy numbers."""
    name = "pytorch_lightning.callbacks.model_checkpoint"
    callback = type("ModelCheckpoint", (), {"__module__": name})
    module = types.ModuleType(name)
    module.ModelCheckpoint = callback
    with monkeypatch.context() as patched:
        for parent in ("pytorch_lightning", "pytorch_lightning.callbacks"):
            patched.setitem(sys.modules, parent, types.ModuleType(parent))
        patched.setitem(sys.modules, name, module)
        content = {"state_dict": TENSORS, "callbacks": {callback: {"best": torch.tensor(1.0)}}}
        content["meta"] = {"best_score": np.float64(0.5), "iter": np.int64(3)}
        torch.save(content, tmp_path / "v1-5.ckpt")
    assert name not in sys.modules
    assert open_tensors(tmp_path / "v1-5.ckpt").keys() == TENSORS.keys()
    assert load_checkpoint(tmp_path / "v1-5.ckpt")["meta"] == {"best_score": 0.5, "iter": 3}


@pytest.mark.parametrize("read", [open_tensors, load_checkpoint])
@pytest.mark.parametrize("form", ["zip", "old", "pickle"])
def test_code_is_refused_by_its_name_and_does_not_run(tmp_path: Path, form: str, read) -> None:
    content = {"state_dict": {"a": torch.zeros(2)}, "callback": Payload(tmp_path / "was_run")}
    file = tmp_path / "hostile.ckpt"
    if form == "pickle":
        file.write_bytes(pickle.dumps({"callback": content["callback"]}))
    else:
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(TensorFileError, match=r"is refused: it wants to load \w+\.mkdir, which"):
        read(file)
    assert not (tmp_path / "was_run").exists()


def damaged(kind: str) -> tuple[bytes, str]:
    """(content, what the reason must say)."""
    return {
        "empty": (b"", "is empty"),
        "web page": (b"\n<!DOCTYPE html><html>404</html>", "is a web page"),
        "lfs": (b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        "image": (b"\x89PNG\r\n\x1a\n" + bytes(100), "is unreadable"),
        "text": (b"weights go here", "is unreadable"),
    }[kind]


@pytest.mark.parametrize("read", [open_tensors, load_checkpoint])
@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("kind", ["empty", "web page", "lfs", "image", "text"])
def test_another_file_gives_one_line_of_reason(
    tmp_path: Path, kind: str, ending: str, read
) -> None:
    content, reason = damaged(kind)
    file = tmp_path / f"weights.{ending}"
    file.write_bytes(content)
    with pytest.raises(TensorFileError, match=rf"{re.escape(file.name)} {reason}") as error:
        read(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("ending", ["safetensors", "bin", "old.bin"])
@pytest.mark.parametrize("kept", [0.02, 0.5, 0.98])
def test_a_truncated_file_gives_one_line_of_reason(
    tmp_path: Path, ending: str, kept: float
) -> None:
    file = write(tmp_path, ending, {"a": torch.rand(100, 10), "b": torch.rand(300)})
    content = file.read_bytes()
    file.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(TensorFileError, match=r"is unreadable: ") as error:
        open_tensors(file)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [[1, 2], {}, {"state_dict": {}}, {"epoch": 3}, "text"])
def test_a_file_without_tensors_is_named(tmp_path: Path, content: object) -> None:
    torch.save(content, tmp_path / "other.ckpt")
    with pytest.raises(TensorFileError, match=r"other\.ckpt holds no state dict"):
        open_tensors(tmp_path / "other.ckpt")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    for read in (open_tensors, load_checkpoint):
        with pytest.raises(FileNotFoundError, match=r"none\.ckpt isn't a file"):
            read(tmp_path / "none.ckpt")


def test_tensors_that_are_not_finite_are_named() -> None:
    tensors = {"a": torch.tensor([1.0, np.nan]), "b": torch.zeros(2), "n": torch.tensor(1)}
    assert non_finite(tensors) == ["a"]
    assert non_finite({"n": torch.tensor(1)}) == []


MEASURE = """
import re, sys, torch
from metaprompt_d2.checkpoint.tensor_files import open_tensors
def memory(kind):  # KiB
    return int(re.search(kind + r":\\s+(\\d+)", open("/proc/self/status").read())[1])
start, start_mapped = memory("VmRSS"), memory("RssFile")
stored = open_tensors(sys.argv[1])
kept = [stored[name].half() for name in stored if name.startswith("used")]
used = sum(stored[name].nbytes for name in stored if name.startswith("used")) / 1024
mapped = memory("RssFile") - start_mapped
print((memory("VmHWM") - start - mapped) / used, mapped / used)
"""


@pytest.mark.parametrize("ending", ["safetensors", "ckpt"])
def test_reading_a_part_of_a_file_takes_the_memory_of_this_part(
    tmp_path: Path, ending: str
) -> None:
    """Peak memory against the part's size: of the process itself, and pages of the file.

    The system can drop the pages of the file at any time.
    """
    tensors = {f"used.{i}": torch.rand(1000, 1000) for i in range(40)}
    tensors |= {f"other.{i}": torch.rand(1000, 1000) for i in range(60)}
    script = tmp_path / "script.py"
    script.write_text(MEASURE)
    done = run_script(script, write(tmp_path, ending, tensors))
    assert done.returncode == 0, done.stderr
    own, mapped = map(float, done.stdout.split())
    assert own < 0.75  # half of it is kept, as float16
    assert mapped < 1.25


@pytest.mark.parametrize("ending", ["safetensors", "SAFETENSORS", "ckpt", "pth", "pkl", "x"])
@pytest.mark.parametrize("content", ["safetensors", "bin", "old.bin", "pickle"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, content: str, ending: str) -> None:
    tensors = {"matrix": TENSORS["matrix"], "count": TENSORS["count"]}
    if content == "pickle":
        written = tmp_path / "arrays"
        written.write_bytes(pickle.dumps({"model": {n: v.numpy() for n, v in tensors.items()}}))
    else:
        written = write(tmp_path, content, tensors)
    file = written.rename(tmp_path / f"renamed.{ending}")
    found = open_tensors(file)
    assert found.keys() == tensors.keys()
    assert all(torch.equal(found[name], value) for name, value in tensors.items())


@pytest.mark.parametrize("kind", ["float8_e4m3fn", "float8_e5m2"])
def test_float8_that_is_not_finite_is_named(kind: str) -> None:
    values = torch.tensor([1.0, np.nan]).to(getattr(torch, kind))
    assert non_finite({"a": values, "b": torch.ones(2).to(values.dtype)}) == ["a"]


FULL_DISK = """
import resource, signal, sys, torch
from metaprompt_d2.checkpoint import write_checkpoint
from metaprompt_d2.utils.errors import InputError
write_checkpoint(sys.argv[1], {"model": {"a": torch.ones(10)}})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (5_000, 1_000_000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        write_checkpoint(sys.argv[1], {"model": {"a": torch.ones(1 << 20)}})
    except InputError as error:
        print(error)
"""


def test_a_full_disk_is_one_line_and_leaves_the_last_file(tmp_path: Path) -> None:
    """The system refuses to write beyond a size, as it does on a full disk."""
    file, script = tmp_path / "model.pth", tmp_path / "script.py"
    script.write_text(FULL_DISK)
    done = run_script(script, file)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{file} cannot be written: [Errno 27] File too large\n" * 2
    assert load_checkpoint(file)["model"]["a"].tolist() == [1.0] * 10
    assert sorted(tmp_path.iterdir()) == [file, script]
