"""Bad input ends a script with one line that names it; a bug still ends it with a traceback.

Scripts decorate their `main` with `one_line_errors()`; `engine.launch_main` holds it already.
With METAPROMPT_D2_TRACEBACK=1 every error keeps its traceback.
"""

import logging
import os
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = [
    "TRACEBACK_VARIABLE",
    "InputError",
    "MissingFileError",
    "NonFiniteError",
    "UnknownKeyError",
    "hide_tracebacks",
    "input_error",
    "one_line_errors",
]

TRACEBACK_VARIABLE = "METAPROMPT_D2_TRACEBACK"


class InputError(ValueError):
    """The user's input is wrong: the message names the file, key or value, and what was expected.

    Raised on purpose where input enters. Scripts end in one line for it; any other exception is a
    bug and keeps its traceback.
    """


class MissingFileError(InputError, FileNotFoundError):
    """A file or folder that the user named doesn't exist."""


class UnknownKeyError(InputError, KeyError):
    """A config key or registered name that the user gave doesn't exist."""

    __str__ = Exception.__str__  # KeyError's would quote the message


class NonFiniteError(InputError, FloatingPointError):
    """A loss or a weight is NaN or infinite."""


# What input makes us, Detectron2, yacs and the readers of files raise. Bugs show as other types.
_TYPES = (ArithmeticError, EOFError, MemoryError, OSError, ValueError)

# How torch hands on an error of a DataLoader's worker: as its type, with its traceback as text.
_WORKER = re.compile(r"Caught (\w+) in \w+ worker process.*^(?:[\w.]+\.)?\1: (.*)\Z", re.M | re.S)

# RuntimeErrors of torch: a size in the config or a batch that is too large.
_MEMORY = re.compile(r"can't allocate memory|out of memory|Storage size calculation overflowed")


def input_error(error: BaseException) -> str | None:
    """The message for an error that input can cause, None for one that only a bug can.

    Of the types that are both, those with a sentence count as input: yacs, fvcore's registries
    and Detectron2's catalogs raise KeyErrors and AssertionErrors that explain themselves.

    Returns:
        one line, or one and further ones that are indented.
    """
    text = str(error.args[0]) if isinstance(error, KeyError) and error.args else str(error)
    if worker := _WORKER.search(text):
        text = worker[2]
    known = isinstance(error, _TYPES)
    known |= isinstance(error, KeyError | AssertionError) and " " in text.strip()
    known |= isinstance(error, RuntimeError) and bool(_MEMORY.search(text))
    if not known:
        return None
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return "\n  ".join(lines) or type(error).__name__


@contextmanager
def one_line_errors() -> Iterator[None]:
    """A context, or a decorator of a function, that bad input ends in one line.

    Raises:
        SystemExit: with "error: ..." in place of an error that input can cause.
    """
    try:
        yield
    except KeyboardInterrupt:
        if _wants_tracebacks():
            raise
        sys.exit("stopped")
    except Exception as error:
        message = input_error(error)
        if message is None or _wants_tracebacks():
            raise
        sys.exit(f"error: {message}")


def hide_tracebacks(logger: logging.Logger) -> None:
    """Keep a logger's tracebacks of bad input off the terminal; its files still get them."""
    for handler in logger.handlers:
        terminal = getattr(handler, "stream", None) in (sys.stdout, sys.stderr)
        if terminal and _is_shown not in handler.filters:
            handler.addFilter(_is_shown)


def _is_shown(record: logging.LogRecord) -> bool:
    error = record.exc_info[1] if record.exc_info else None
    return error is None or input_error(error) is None or _wants_tracebacks()


def _wants_tracebacks() -> bool:
    return os.environ.get(TRACEBACK_VARIABLE, "") not in ("", "0")
