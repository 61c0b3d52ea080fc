"""Files are written whole or not at all, and errors name them."""

import json
import os
import random
from pathlib import Path
from typing import IO

import pytest

from metaprompt_d2.utils.errors import InputError, MissingFileError
from metaprompt_d2.utils.files import (
    atomic_write,
    path_inside,
    paths_below_common_folder,
    read_json,
    write_json,
)


def test_a_file_that_is_not_finished_is_not_there(tmp_path: Path) -> None:
    file = tmp_path / "a.txt"
    file.write_text("before")

    def write(stream: IO[bytes]) -> None:
        stream.write(b"half")
        raise RuntimeError("stopped")

    with pytest.raises(RuntimeError, match="stopped"):
        atomic_write(file, write)
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert file.read_text() == "before"
    atomic_write(file, lambda stream: stream.write(b"after"))
    assert file.read_text() == "after"


def test_a_disk_that_is_full_is_named_with_the_file(tmp_path: Path) -> None:
    def write(stream: IO[bytes]) -> None:
        raise OSError(28, "No space left on device")

    (tmp_path / "a.txt").write_text("before")
    with pytest.raises(InputError, match=r"a\.txt cannot be written: .*No space left"):
        atomic_write(tmp_path / "a.txt", write)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]
    atomic_write(tmp_path / "made/a.txt", lambda stream: stream.write(b"x"))
    with pytest.raises(InputError, match=r"b\.txt cannot be written: .*File exists"):
        atomic_write(tmp_path / "made/a.txt/b.txt", lambda stream: stream.write(b"x"))
    write_json({"a": [1]}, tmp_path / "new/a.json")
    assert read_json(tmp_path / "new/a.json") == {"a": [1]}


def test_json_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"a\.json does not exist"):
        read_json(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(InputError, match=r"a\.json cannot be read as JSON"):
        read_json(tmp_path / "a.json")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_json_may_have_a_byte_order_mark(tmp_path: Path, encoding: str) -> None:
    content = {"ü": [1, "é"]}
    text = json.dumps(content, ensure_ascii=False) + "\r\n"
    (tmp_path / "a.json").write_bytes(text.encode(encoding))
    assert read_json(tmp_path / "a.json") == content


def test_a_temporary_name_is_new_and_follows_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("keep me")
    file = tmp_path / "a.txt"
    file.symlink_to(victim)
    (tmp_path / f"a.txt.{os.getpid()}.tmp").symlink_to(victim)  # a name that could be foreseen
    names = set()

    def write(stream: IO[bytes]) -> None:
        names.add(stream.name)
        stream.write(b"new")

    for _ in range(3):
        atomic_write(file, write)
    assert len(names) == 3
    assert victim.read_text() == "keep me"
    assert not file.is_symlink() and file.read_text() == "new"


def test_files_have_the_usual_permissions(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a.txt", lambda stream: stream.write(b"x"))
    (tmp_path / "b.txt").touch()
    assert (tmp_path / "a.txt").stat().st_mode == (tmp_path / "b.txt").stat().st_mode


def test_a_long_name_can_be_written(tmp_path: Path) -> None:
    name = "ü" * 125 + ".txt"  # 254 bytes; 255 is the most
    atomic_write(tmp_path / name, lambda stream: stream.write(b"x"))
    assert (tmp_path / name).read_bytes() == b"x"


@pytest.mark.parametrize("seed", range(50))
def test_no_name_leads_outside(tmp_path: Path, seed: int) -> None:
    """Paths of any parts: those of a dataset are cut to what is inside, others are refused."""
    parts = ["..", ".", "a", "b c", "é", "", "..."]
    chosen = random.Random(seed)
    names = ["/".join(chosen.choices(parts, k=chosen.randrange(1, 7))) + "/x" for _ in range(4)]
    for name in paths_below_common_folder([f"/data/{name}.png" for name in names]).values():
        assert path_inside(tmp_path, name).resolve().is_relative_to(tmp_path)
    for name in names:
        inside = (tmp_path / name).resolve().is_relative_to(tmp_path)
        if inside and not os.path.isabs(name):
            assert path_inside(tmp_path, name).resolve() == (tmp_path / name).resolve()
        else:
            with pytest.raises(InputError, match="leads out of the output folder"):
                path_inside(tmp_path, name)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": float("-inf")}]])
def test_what_json_cannot_hold_is_never_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(value, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
