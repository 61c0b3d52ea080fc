"""Wrong input is one line, a bug is a traceback, and log files keep both."""

import io
import logging
import sys

import pytest
import torch
from detectron2.modeling import BACKBONE_REGISTRY

from metaprompt_d2.utils.errors import (
    TRACEBACK_VARIABLE,
    InputError,
    MissingFileError,
    NonFiniteError,
    UnknownKeyError,
    error_message,
    get_registered,
    hide_tracebacks,
    input_errors,
    one_line_errors,
)


class Failing(torch.utils.data.Dataset):
    """A dataset whose only item raises an error."""

    def __init__(self, error: Exception):
        self.error = error

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> None:
        raise self.error


@one_line_errors()
def fail(error: BaseException) -> None:
    raise error


@one_line_errors()
def fail_in_a_worker(error: Exception) -> None:
    list(torch.utils.data.DataLoader(Failing(error), num_workers=1))


@pytest.mark.parametrize("kind", [InputError, MissingFileError, UnknownKeyError, NonFiniteError])
@pytest.mark.parametrize("raise_error", [fail, fail_in_a_worker])
def test_wrong_input_is_one_line(kind: type[InputError], raise_error) -> None:
    with pytest.raises(SystemExit) as stop:
        raise_error(kind("image 'a.png' is broken"))
    assert stop.value.code == "error: image 'a.png' is broken"


@pytest.mark.parametrize(
    "error",
    [
        ValueError("too many values to unpack"),
        FileNotFoundError("no such file: 'a.png'"),
        KeyError("annotations"),
        AssertionError("two words"),
        MemoryError("Unable to allocate"),
        RuntimeError("can't allocate memory"),
        EOFError(),
    ],
    ids=repr,
)
@pytest.mark.parametrize("raise_error", [fail, fail_in_a_worker])
def test_every_other_error_keeps_its_traceback(error: Exception, raise_error) -> None:
    with pytest.raises(type(error)) as found:
        raise_error(error)
    if raise_error is fail_in_a_worker:  # as text, with the file and line
        assert f'File "{__file__}", line ' in str(found.value)


def test_further_lines_of_a_message_are_indented() -> None:
    assert error_message(InputError("2 tensors:\na\n\n  b\n")) == "2 tensors:\n  a\n  b"
    with pytest.raises(SystemExit) as stop:
        fail_in_a_worker(InputError("image a.png:\nis broken"))
    assert stop.value.code == "error: image a.png:\n  is broken"


def test_errors_of_a_library_become_input_errors() -> None:
    with pytest.raises(InputError, match=r"^file x: No such file") as found:  # noqa: SIM117
        with input_errors("file x", OSError, KeyError):
            raise OSError("No such file")
    assert isinstance(found.value.__cause__, OSError)
    with pytest.raises(InputError, match=r"^file x: a key$"), input_errors("file x", KeyError):
        raise KeyError("a key")
    with pytest.raises(UnknownKeyError, match="^b$"), input_errors("file x", ValueError):
        raise UnknownKeyError("b")
    with pytest.raises(TypeError, match="bug"), input_errors("file x", OSError):
        raise TypeError("bug")


def test_an_unknown_name_is_refused_with_the_names_that_are_registered() -> None:
    name = "MetaPromptBackbone"
    assert get_registered(BACKBONE_REGISTRY, name, "MODEL.BACKBONE.NAME").__name__ == name
    with pytest.raises(
        UnknownKeyError, match=r"^MODEL\.BACKBONE\.NAME is 'ResNest', expected one of .*MetaPrompt"
    ):
        get_registered(BACKBONE_REGISTRY, "ResNest", "MODEL.BACKBONE.NAME")


def test_an_environment_variable_brings_tracebacks_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TRACEBACK_VARIABLE, "1")
    with pytest.raises(InputError, match="bad"):
        fail(InputError("bad"))
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    monkeypatch.setenv(TRACEBACK_VARIABLE, "0")
    with pytest.raises(SystemExit):
        fail(InputError("bad"))


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
    hide_tracebacks(logger)  # a second call adds nothing
    assert [len(handler.filters) for handler in logger.handlers] == [1, 0]

    def log(error: Exception) -> None:
        try:
            raise error
        except Exception:
            logger.exception("Exception during training:")

    log(InputError("bad image"))
    assert terminal.getvalue() == ""
    assert "InputError: bad image" in file.getvalue()
    log(ValueError("bug"))
    assert "ValueError: bug" in terminal.getvalue()
