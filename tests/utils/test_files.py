"""Files are written whole or not at all, and errors name them."""

from pathlib import Path
from typing import IO

import pytest

from metaprompt_d2.utils.errors import InputError, MissingFileError
from metaprompt_d2.utils.files import atomic_write, read_json, write_json


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


@pytest.mark.parametrize("value", [float("nan"), float("inf"), [1, {"a": float("-inf")}]])
def test_what_json_cannot_hold_is_never_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(value, tmp_path / "a.json")
    assert not list(tmp_path.iterdir())
