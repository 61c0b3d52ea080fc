"""Optional packages: what needs a missing one says how to install it."""

from collections.abc import Iterator
from contextlib import contextmanager

from .errors import InputError

_COMMANDS = {
    # Its opencv-python would overwrite opencv-python-headless; nothing else of its list is missing.
    "lvis": "pip install --no-deps 'lvis>=0.5.3'",
    "scipy": "pip install -e '.[mask2former]'",
    "shapely": "pip install -e '.[polygons]'",
    "transformers": "pip install -e '.[mask2former]'",
}


@contextmanager
def optional_packages(what: str) -> Iterator[None]:
    """Turn the failed import of an optional package into an error that says how to install it.

    Args:
        what: Start of the message: what needs the package.

    Raises:
        InputError: One of them is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package not in _COMMANDS:
            raise
        command = _COMMANDS[package]
        raise InputError(f"{what} needs the package {package}: {command}") from error
