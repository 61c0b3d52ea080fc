"""Run a script's `main` in one or several processes, on GPUs or CPUs."""

import argparse
import atexit
import os
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from multiprocessing import active_children
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

import torch
from detectron2.engine import launch
from detectron2.utils import comm
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException

from ..utils.errors import InputError, input_errors, one_line_errors
from .cluster import Place, find_place, joined

Main = Callable[[argparse.Namespace], object]


def launch_main(main: Main, args: argparse.Namespace) -> None:
    """Run `main(args)` in every process that Detectron2's standard arguments ask for.

    Without GPUs, `args.num_gpus` is the number of CPU processes. They use as many threads as a
    single process does, so that the results are the same. SIGTERM and SIGINT to this process reach
    all of them.

    A process that torchrun or srun has started joins the others instead. srun may also start one
    process on each machine that starts others, with `args.num_machines`.

    Args:
        main: Function that can be imported from its module.
        args: Arguments of `detectron2.engine.default_argument_parser`.

    Raises:
        SystemExit: A process met wrong input, with the line of the first one that did.
    """
    with one_line_errors():
        place = find_place(os.environ)
        if place is not None and not _is_machine(place, args):
            _run_in_place(main, args, place)
        elif args.num_gpus > torch.cuda.device_count() > 0:
            raise InputError(
                f"--num-gpus is {args.num_gpus}, but this machine has {torch.cuda.device_count()}"
            )
        elif args.num_gpus * args.num_machines > 1:
            _launch_several(main, args)
        else:
            main(args)


def _is_machine(place: Place, args: argparse.Namespace) -> bool:
    """Say whether a process of srun stands for a machine, as Detectron2's arguments count them."""
    alone_there = place.launcher == "srun" and place.local_world_size == 1
    return alone_there and args.num_machines == place.world_size


def _run_in_place(main: Main, args: argparse.Namespace, place: Place) -> None:
    with joined(place) if place.world_size > 1 else nullcontext():
        for name in ("num_gpus", "num_machines"):
            if (number := getattr(args, name)) > 1:
                raise InputError(
                    f"--{name.replace('_', '-')} is {number}, but {place.launcher} has started "
                    f"{place.world_size} processes already: leave it out"
                )
        _run(main, args)


def _launch_several(main: Main, args: argparse.Namespace) -> None:
    if args.machine_rank == 0:
        _check_port(args.dist_url)
    with tempfile.TemporaryDirectory() as folder:
        message = Path(folder) / "error.txt"
        try:
            machines = (args.num_machines, args.machine_rank, args.dist_url)
            with _signals_forwarded():
                launch(_run_as_child, args.num_gpus, *machines, args=(main, args, message))
        except (ProcessExitedException, ProcessRaisedException) as error:
            if message.is_file():
                sys.exit(message.read_text())
            if isinstance(error, ProcessExitedException):  # e.g. killed for lack of memory
                sys.exit(f"error: {error}")
            raise


@contextmanager
def _signals_forwarded() -> Iterator[None]:
    """Hand SIGTERM and SIGINT on to the processes, which end in their own way."""

    def forward(number: int, frame: FrameType | None) -> None:
        processes = active_children()
        if not processes:
            raise KeyboardInterrupt
        for pid in filter(None, (process.pid for process in processes)):
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, forward) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _check_port(dist_url: str) -> None:
    """Refuse a port that can't be opened, which torch would only find out in its processes."""
    url = urlsplit(dist_url)
    if url.scheme != "tcp":  # such as "auto", which finds a free port
        return
    with socket.socket() as listener, input_errors(f"--dist-url {dist_url}", OSError):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as torch's own
        listener.bind((url.hostname or "", url.port or 0))


def _run_as_child(main: Main, args: argparse.Namespace, message: Path) -> None:
    """Run `main` in one process of several; its error message reaches the parent in a file."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a fork has the parent's
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with one_line_errors():
            _run(main, args)
    except SystemExit as stop:
        if not isinstance(stop.code, str):
            raise
        with suppress(FileExistsError), message.open("x") as file:
            file.write(stop.code)
        sys.exit(1)


def _run(main: Main, args: argparse.Namespace) -> None:
    main(args)
    if comm.get_world_size() > 1:
        comm.synchronize()  # no process needs the others any more
        _leave()


def _leave() -> NoReturn:
    """End this process without running C++ destructors.

    The destructors of gloo's process groups sometimes abort a process that has finished its work
    ("terminate called without an active exception").
    """
    atexit._run_exitfuncs()  # closes log files and ends workers; it has no public name
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
