"""Run a tool in this process on damaged input, and judge how it ended."""

import contextlib
import io
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

from loggers import loggers_as_before
from PIL import Image

SECONDS = 120  # a case that takes longer hangs

# What a tool leaves while it writes.
UNFINISHED = ("*.tmp", "*partial-*", ".*[!k]")  # not .lock


class Hang(BaseException):
    """A case took too long."""


@contextlib.contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise Hang(f"no end within {seconds} seconds")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def problem_of(main: Callable[[list[str]], object], argv: list[str], folder: Path) -> str | None:
    """Run `main(argv)`; return None for success or one line of error, otherwise what went wrong.

    Args:
        main: Function `main` of a tool.
        argv: Command line of the tool.
        folder: Folder that the tool reads and writes.
    """
    printed, before = io.StringIO(), set(folder.rglob("*"))
    status: object = 0
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            with loggers_as_before(), time_limit(SECONDS):
                status = main(argv) or 0
        except SystemExit as stop:
            status = stop.code or 0
        except Hang as hang:
            return str(hang)
        except BaseException:
            return traceback.format_exc(limit=-6)
    output = printed.getvalue()
    if "Traceback" in output:
        return f"a traceback on the terminal:\n{output[-2000:]}"
    written = set(folder.rglob("*")) - before
    if unfinished := [file for file in written if any(file.match(mask) for mask in UNFINISHED)]:
        return f"unfinished files {unfinished}"
    if broken := [file for file in written if file.suffix == ".png" and not is_whole(file)]:
        return f"unreadable files {broken}"
    if status == 0:
        return None
    if status == 2:  # argparse, which prints usage and error itself
        return None if "error: " in output.splitlines()[-1] else f"status 2: {output[-500:]}"
    first, *others = str(status).splitlines()
    if not first.startswith("error: ") or not all(line.startswith("  ") for line in others):
        return f"ended with {status!r}"
    return None


def is_whole(file: Path) -> bool:
    try:
        with Image.open(file) as image:
            image.load()
    except OSError:
        return False
    return True


def run_cases(
    name: str,
    count: int,
    prepare: Callable[[Random, Path], tuple[str, Callable, list[str]]],
    folder: Path,
) -> str:
    """Run cases; return the seeds of all that end neither well nor with one line of error.

    Args:
        name: Name of the group. With the number of a case it is the seed of the case.
        count: Number of cases.
        prepare: Function that writes a case's input to a folder, and returns what was damaged, main
            and argv.
        folder: Folder of the test.
    """
    problems = []
    for index in range(count):
        case = folder / f"case{index}"
        (case / "output").mkdir(parents=True)
        what, main, argv = prepare(Random(f"{name}/{index}"), case)
        if problem := problem_of(main, argv, case):
            problems.append(f"--- {name}/{index}: {what}: {' '.join(argv)}\n{problem}")
    return f"{len(problems)} of {count}:\n" + "\n".join(problems) if problems else ""
