"""Temporary folders of killed processes are removed, those in use are not."""

import multiprocessing
import os
import signal
import tempfile
import time
from pathlib import Path

import pytest

from metaprompt_d2.utils.temporary import TemporaryFolder


def test_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fork = multiprocessing.get_context("fork")
    ours, theirs = fork.Pipe()

    def hold() -> None:
        folder = TemporaryFolder("test_")
        Path(folder.name, "prediction.png").touch()
        hour_ago = time.time() - 3600
        os.utime(folder.name, (hour_ago, hour_ago))
        theirs.send(folder.name)
        signal.pause()

    process = fork.Process(target=hold)
    process.start()
    held = Path(ours.recv())
    (tmp_path / "test_file").touch()
    (tmp_path / "other_folder").mkdir()
    os.utime(tmp_path / "other_folder", (0, 0))
    with TemporaryFolder("test_"):
        assert (held / "prediction.png").exists()
    process.kill()
    process.join()
    with TemporaryFolder("test_") as own:
        assert not held.exists()
        assert Path(own).is_dir()
    assert {file.name for file in tmp_path.iterdir()} == {"test_file", "other_folder"}
