"""Files of `torch.save`: checksums, sizes that lie, and mutations that end no process."""

import argparse
import pickle
import zipfile
from pathlib import Path
from random import Random

import numpy as np
import pytest
import torch
from checkpoint_mutations import pickle_of, with_pickle
from scripts import run_script

from metaprompt_d2.checkpoint import TensorFileError, load_checkpoint
from metaprompt_d2.checkpoint.tensor_files import open_tensors

UTILS = Path(__file__).resolve().parents[1] / "utils"


def saved(folder: Path, content: object, **options: object) -> Path:
    torch.save(content, folder / "model.pth", **options)
    return folder / "model.pth"


@pytest.mark.parametrize("is_zip", [True, False])
def test_types_of_tensors_that_torch_writes_load(tmp_path: Path, is_zip: bool) -> None:
    types = ["float16", "bfloat16", "float64", "int8", "uint8", "bool", "complex64", "uint16"]
    types += ["float8_e4m3fn", "float8_e5m2"]
    types = types if is_zip else types[:-3]  # torch doesn't read these from its old format
    tensors = {name: torch.ones(2, 3).to(getattr(torch, name)) for name in types}
    tensors |= {"p": torch.nn.Parameter(torch.ones(2)), "empty": torch.zeros(0, 3)}
    tensors |= {"view": torch.arange(20.0).reshape(4, 5)[1:, 2]}
    content = {"model": tensors, "size": torch.Size((1, 2)), "type": torch.float16}
    file = saved(tmp_path, content, _use_new_zipfile_serialization=is_zip)
    loaded = load_checkpoint(file)
    assert (loaded["size"], loaded["type"]) == ((1, 2), torch.float16)
    for name, value in tensors.items():
        assert loaded["model"][name].dtype == value.dtype
        assert torch.equal(loaded["model"][name].float(), value.float()), name


def test_states_of_optimizers_and_schedules_load(tmp_path: Path) -> None:
    model = torch.nn.Linear(2, 2)
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.ones(1, 2)).sum().backward()
    optimizer.step()
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [2, 2, 5])  # holds a Counter
    states = {"optimizer": optimizer.state_dict(), "schedule": schedule.state_dict()}
    loaded = load_checkpoint(saved(tmp_path, states))
    assert loaded["schedule"]["milestones"] == {2: 2, 5: 1}
    assert torch.equal(
        loaded["optimizer"]["state"][0]["exp_avg"], states["optimizer"]["state"][0]["exp_avg"]
    )


def test_arrays_and_options_next_to_the_weights_load(tmp_path: Path) -> None:
    content = {"model": {"a": torch.ones(2)}, "args": argparse.Namespace(lr=0.1)}
    palette = np.arange(6, dtype=np.uint8).reshape(2, 3)
    file = saved(tmp_path, content | {"PALETTE": palette, "empty": np.zeros((0, 2))})
    loaded = load_checkpoint(file)
    assert loaded["args"] == {"lr": 0.1}
    assert np.array_equal(loaded["PALETTE"], palette) and loaded["empty"].shape == (0, 2)


def test_flipped_bytes_are_noticed_wherever_they_are(tmp_path: Path) -> None:
    """A flip changes nothing (in the zip's padding), or is an error."""
    tensors = {"a": torch.arange(300.0), "b": torch.arange(40, dtype=torch.int64)}
    file = saved(tmp_path, {"model": tensors, "iteration": 3})
    whole, random, harmless = file.read_bytes(), Random(0), 0
    for _ in range(300):
        changed = bytearray(whole)
        changed[random.randrange(len(changed))] ^= 1 << random.randrange(8)
        file.write_bytes(changed)
        try:
            loaded = load_checkpoint(file)
        except TensorFileError:
            continue
        harmless += 1
        assert loaded["iteration"] == 3
        assert all(torch.equal(loaded["model"][name], value) for name, value in tensors.items())
    assert harmless < 150


def test_the_damaged_part_is_named_and_only_where_all_is_read(tmp_path: Path) -> None:
    file = saved(tmp_path, {"model": {"a": torch.arange(300.0)}})
    content = bytearray(file.read_bytes())
    place = content.index(torch.tensor(200.0).numpy().tobytes())
    content[place] ^= 1
    file.write_bytes(content)
    with pytest.raises(TensorFileError, match=r"\.pth is damaged: its parts model/data/0 have"):
        load_checkpoint(file)
    assert len(open_tensors(file)["a"]) == 300  # which would have to read all tensors


def test_files_without_checksums_load(tmp_path: Path) -> None:
    compute = torch.serialization.get_crc32_options()
    torch.serialization.set_crc32_options(False)
    try:
        file = saved(tmp_path, {"model": {"a": torch.arange(3.0)}})
    finally:
        torch.serialization.set_crc32_options(compute)
    assert load_checkpoint(file)["model"]["a"].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        (b"K\x06\x85", b"K\x7f\x85", "beyond its storage"),  # the tensor's size
        (b"K\x06tq", b"M\xff\x7ftq", "of another size than it says"),  # the storage's size
        (b"_rebuild_tensor_v2", b"_rebuild_sparse_tensor", r"load torch\._utils\._rebuild_sparse"),
        (b"ctorch\nFloatStorage", b"ctorch.jit\nload", r"load torch\.jit\.load"),
        (b"FloatStorage", b"DoubleStorage", "of another size than it says"),
    ],
)
def test_a_file_that_lies_about_sizes_is_refused(
    tmp_path: Path, old: bytes, new: bytes, reason: str
) -> None:
    file = saved(tmp_path, {"a": torch.arange(6.0)})
    archive = file.read_bytes()
    content = pickle_of(archive)
    assert content.count(old) == 1
    file.write_bytes(with_pickle(archive, content.replace(old, new)))
    with pytest.raises(TensorFileError, match=rf"model\.pth is refused: it .*{reason}"):
        load_checkpoint(file)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_code_is_named_in_every_protocol(tmp_path: Path, protocol: int) -> None:
    file = saved(tmp_path, {"a": torch.ones(2)})
    hostile = pickle.dumps({"a": eval}, protocol)
    file.write_bytes(with_pickle(file.read_bytes(), hostile))
    with pytest.raises(TensorFileError, match=r"it wants to load builtins\.eval, which"):
        load_checkpoint(file)


def test_two_pickles_in_a_file_are_refused(tmp_path: Path) -> None:
    file = saved(tmp_path, {"a": torch.ones(2)})
    with zipfile.ZipFile(file, "a") as archive:
        archive.writestr("model/DATA.pkl", b"N.")
    with pytest.raises(TensorFileError, match="files of the same name"):
        load_checkpoint(file)


MUTATIONS = """
import pathlib, resource, sys, checkpoint_mutations
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + (4 << 30),) * 2)
checkpoint_mutations.read_all(pathlib.Path(sys.argv[1]), 3000)
"""


def test_no_mutated_file_ends_the_process(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(f"import sys\nsys.path.insert(0, {str(UTILS)!r})\n{MUTATIONS}")
    done = run_script(script, tmp_path)
    assert done.returncode == 0, f"seed {done.stdout[-20:]}: {done.stderr[-3000:]}"
    assert int(done.stdout.split()[-1]) > 100  # some mutations are harmless
