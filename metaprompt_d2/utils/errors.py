"""Wrong input ends a script with one line; a bug ends it with a traceback.

What a user's input can cause is raised as `InputError` where the input enters. Scripts decorate
their `main` with `one_line_errors()`; `engine.launch_main` does so itself. With
METAPROMPT_D2_TRACEBACK=1 every error keeps its traceback.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from detectron2.utils.registry import Registry

TRACEBACK_VARIABLE = "METAPROMPT_D2_TRACEBACK"


class InputError(ValueError):
    """The user's input is wrong. The message names the file, key or value, and what is expected."""


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that the user named doesn't exist."""


class UnknownKeyError(InputError, KeyError):
    """A config key or registered name that the user gave doesn't exist."""

    __str__ = Exception.__str__  # KeyError's would quote the message


class NonFiniteError(InputError, FloatingPointError):
    """A loss or a weight is NaN or infinite."""


@contextmanager
def input_errors(what: str, *types: type[Exception]) -> Iterator[None]:
    """Turn exceptions that a library raises for wrong input into `InputError`.

    Use it around a call that does nothing but read or write what the user named.

    Args:
        what: Start of the message: the file, key or value.
        types: Types of exceptions to turn.
    """
    try:
        yield
    except InputError:
        raise
    except types as error:
        # str() of a KeyError would quote the message
        text = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise InputError(f"{what}: {text}") from error


def get_registered(registry: Registry, name: str, key: str) -> Any:
    """Look up a registered object by the name that a config key, or another place, holds.

    Raises:
        UnknownKeyError: The registry has no such name; the message lists the names that it has.
    """
    if name not in registry:
        known = sorted(known for known, _ in registry)
        raise UnknownKeyError(f"{key} is {name!r}, expected one of the registered {known}")
    return registry.get(name)


# torch re-raises an exception of a DataLoader's worker with the worker's traceback as its text.
_WORKERS = re.compile(r"Caught (\w+) in \w+ worker process.*^(?:[\w.]+\.)?\1: (.*)\Z", re.M | re.S)


def error_message(error: InputError) -> str:
    """Return an error's message, also from a DataLoader's worker; further lines are indented."""
    text = str(error)
    if worker := _WORKERS.search(text):
        text = worker[2]
    return "\n  ".join(line.strip() for line in text.splitlines() if line.strip())


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the program in one line for wrong input: a context, or a decorator of a function.

    Raises:
        SystemExit: Takes the place of an `InputError` ("error: ...") or of Ctrl-C (its message, or
            "stopped").
    """
    try:
        yield
    except (InputError, KeyboardInterrupt) as error:
        if _wants_tracebacks():
            raise
        if isinstance(error, InputError):
            sys.exit(f"error: {error_message(error)}")
        sys.exit(str(error) or "stopped")


def hide_tracebacks(logger: logging.Logger) -> None:
    """Keep the tracebacks of `InputError` off the terminal; log files still get them."""
    for handler in logger.handlers:
        terminal = getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
        if terminal and _is_shown not in handler.filters:
            handler.addFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return not isinstance(error, InputError) or _wants_tracebacks()


def _wants_tracebacks() -> bool:
    return os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")
