"""Bad input is one line, a bug a traceback; `log.txt` keeps both."""

import io
import logging
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog
from detectron2.modeling import BACKBONE_REGISTRY

from metaprompt_d2.utils.errors import (
    TRACEBACK_VARIABLE,
    hide_tracebacks,
    input_error,
    one_line_errors,
)


class Failing(torch.utils.data.Dataset):
    def __init__(self, error: Exception):
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise self.error


def raised(call) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@one_line_errors()
def fail(error: Exception) -> None:
    raise error


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Path("/nowhere/x.yaml").read_text(),
            "No such file or directory: '/nowhere/x.yaml'",
        ),
        (lambda: get_cfg().merge_from_list(["A.B", 1]), "Non-existent key: A.B"),
        (lambda: get_cfg().merge_from_list(["A"]), "Override list has odd length"),
        (lambda: BACKBONE_REGISTRY.get("ResNest"), "No object named 'ResNest' found"),
        (lambda: DatasetCatalog.get("cocoa"), "Dataset 'cocoa' is not registered"),
        (lambda: torch.zeros(10**15), "you tried to allocate"),
        (lambda: np.zeros(10**15), "Unable to allocate"),
    ],
)
def test_what_input_causes_is_one_line(call, message: str) -> None:
    with pytest.raises(SystemExit) as stop:
        fail(raised(call))
    assert str(stop.value.code).startswith("error: ")
    assert message in stop.value.code
    assert "\n" not in stop.value.code


@pytest.mark.parametrize(
    "error",
    [KeyError("annotations"), AssertionError(), TypeError("a b"), IndexError(3), RuntimeError("x")],
    ids=repr,
)
def test_a_bug_keeps_its_traceback(error: Exception) -> None:
    assert input_error(error) is None
    with pytest.raises(type(error)):
        fail(error)


def test_further_lines_of_a_message_are_indented() -> None:
    assert input_error(ValueError("2 tensors:\na\n\n  b\n")) == "2 tensors:\n  a\n  b"
    assert input_error(EOFError()) == "EOFError"


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (ValueError("image a.png:\nis broken"), "image a.png:\n  is broken"),
        (FileNotFoundError("b.png"), "b.png"),
        (pickle.UnpicklingError("c d"), None),
    ],
    ids=["ValueError", "FileNotFoundError", "a bug"],
)
def test_an_error_in_a_worker_of_a_data_loader_is_the_same_line(
    error: Exception, message: str | None
) -> None:
    loader = torch.utils.data.DataLoader(Failing(error), num_workers=1)
    assert input_error(raised(lambda: list(loader))) == message


def test_an_environment_variable_brings_tracebacks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(ValueError, match="bad"):
        fail(ValueError("bad"))
    monkeypatch.setenv(TRACEBACK_VARIABLE, "0")
    with pytest.raises(SystemExit):
        fail(ValueError("bad"))


def test_ctrl_c_is_no_traceback() -> None:
    with pytest.raises(SystemExit, match="stopped"):
        fail(KeyboardInterrupt())


def test_the_log_file_keeps_what_the_terminal_does_not_show(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    terminal, file = io.StringIO(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", terminal)
    logger = logging.Logger("tested")
    for stream in (terminal, file):
        logger.addHandler(logging.StreamHandler(stream))
    hide_tracebacks(logger)
    hide_tracebacks(logger)  # a second set-up adds nothing
    assert [len(handler.filters) for handler in logger.handlers] == [1, 0]

    def log(error: Exception) -> None:
        try:
            raise error
        except Exception:
            logger.exception("Exception during training:")

    log(ValueError("bad image"))
    assert terminal.getvalue() == ""
    assert "ValueError: bad image" in file.getvalue()
    log(TypeError("bug"))
    assert "TypeError: bug" in terminal.getvalue()
