"""An output folder belongs to one training at a time, and none is overwritten unasked."""

import multiprocessing
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from metaprompt_d2.engine.output_folder import claim_output_folder
from metaprompt_d2.utils.errors import InputError

FORK = multiprocessing.get_context("fork")


def claim(folder: Path, resume: bool = False, overwrite: bool = False) -> None:
    with claim_output_folder(str(folder), resume=resume, overwrite=overwrite):
        pass


@contextmanager
def held(folder: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """A process that holds the folder, and a child of it that lives on."""
    ours, theirs = FORK.Pipe()

    def hold() -> None:
        with claim_output_folder(str(folder), resume=True, overwrite=False):
            if not (child := os.fork()):
                signal.pause()
            theirs.send(child)
            signal.pause()

    process = FORK.Process(target=hold)
    process.start()
    child = ours.recv()
    try:
        yield process
    finally:
        process.kill()
        process.join()
        os.kill(child, signal.SIGKILL)


def test_a_second_training_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "model_final.pth").write_text("weights")
    with held(tmp_path) as process:
        for resume, overwrite in ((False, False), (True, False), (False, True)):
            with pytest.raises(InputError, match=f"in use .*process {process.pid} on"):
                claim(tmp_path, resume, overwrite)
        assert (tmp_path / "model_final.pth").read_text() == "weights"
        process.kill()
        process.join()
        claim(tmp_path, resume=True)  # though a worker of the killed process still lives


RESULTS = [
    "last_checkpoint",
    "metrics.json",
    "model_0000004.pth",
    "model_best.json",
    "model_best.pth",
    "model_final.pth",
]
OTHERS = ["notes.txt", "model_of_mine.pth", "config.yaml", "log.txt", "inference/a.png"]


@pytest.mark.parametrize("name", RESULTS)
def test_a_training_in_the_folder_is_continued_or_deleted_on_request_only(
    name: str, tmp_path: Path
) -> None:
    (tmp_path / "inference").mkdir()
    for file in (name, *OTHERS):
        (tmp_path / file).write_text("content")
    with pytest.raises(InputError, match=f"{tmp_path} holds a training.*--resume.*--overwrite"):
        claim(tmp_path)
    claim(tmp_path, resume=True)
    assert (tmp_path / name).read_text() == "content"
    claim(tmp_path, overwrite=True)
    assert not (tmp_path / name).exists()
    assert all((tmp_path / file).read_text() == "content" for file in OTHERS)
    claim(tmp_path)


def test_a_training_that_failed_at_its_start_is_no_obstacle(tmp_path: Path) -> None:
    names = {"config.yaml", "log.txt", "metrics.json"}
    for name in names:
        (tmp_path / name).touch()
    claim(tmp_path)
    assert names <= {file.name for file in tmp_path.iterdir()}


def test_what_killed_trainings_left_is_removed(tmp_path: Path) -> None:
    names = [
        "model_final.pth.123.tmp",
        "model_final.123-0123456789abcdef.tmp",
        "model_final.pth.partial-a1b2",
        "inference/x/a.png.9.tmp",
    ]
    for name in (*names, *OTHERS):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("half")
    claim(tmp_path)
    assert not any((tmp_path / name).exists() for name in names)
    assert all((tmp_path / name).exists() for name in OTHERS)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"OUTPUT_DIR .*file/out"):
        claim(tmp_path / "file/out")
