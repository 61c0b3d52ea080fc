"""Command lines run in this process: a new process would import everything again."""

import contextlib
import importlib.util
import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

__all__ = ["main_of", "run_main"]


def run_main(main: Callable[[list[str]], None], *arguments: object) -> subprocess.CompletedProcess:
    """Call a script's `main`, and return what a process of its own would."""
    output, errors, status = io.StringIO(), io.StringIO(), None
    with contextlib.redirect_stdout(output), contextlib.redirect_stderr(errors):
        try:
            main(list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
            if isinstance(status, str):  # what Python does with it
                print(status, file=sys.stderr)
                status = 1
    return subprocess.CompletedProcess(arguments, status or 0, output.getvalue(), errors.getvalue())


def main_of(script: Path) -> Callable[[list[str]], None]:
    """Load the function `main` of a script, which isn't a module of a package."""
    sys.path.insert(0, str(script.parent))
    try:
        spec = importlib.util.spec_from_file_location(script.stem, script)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(script.parent))
    return module.main
