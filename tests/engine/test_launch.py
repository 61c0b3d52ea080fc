"""`launch_main`: errors of one and of several processes end in the same line."""

import argparse
import atexit
import os
import signal
import socket
import threading
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from mini_training import free_port
from torch.multiprocessing import ProcessRaisedException

from metaprompt_d2.engine import launch_main
from metaprompt_d2.utils.errors import InputError


def arguments(num_gpus: int) -> argparse.Namespace:
    url = f"tcp://127.0.0.1:{free_port()}"
    return argparse.Namespace(num_gpus=num_gpus, num_machines=1, machine_rank=0, dist_url=url)


def fail_in_the_last_process(args: argparse.Namespace) -> None:
    if comm.get_rank() == comm.get_world_size() - 1:
        raise InputError("image a.png cannot be read")
    comm.synchronize()  # waits for a process that will never come


def have_a_bug(args: argparse.Namespace) -> None:
    raise ValueError("too many values to unpack")


def be_killed(args: argparse.Namespace) -> None:
    if comm.get_rank() == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    comm.synchronize()


def work_and_abort_on_the_way_out(args: argparse.Namespace) -> None:
    file = args.folder / str(comm.get_rank())
    atexit.register(file.write_text, "done")
    threading._shutdown = os.abort  # a process of `multiprocessing` calls it as its last


def test_destructors_that_abort_harm_no_work_that_is_done(tmp_path: Path) -> None:
    args = arguments(2)
    args.folder = tmp_path
    launch_main(work_and_abort_on_the_way_out, args)
    assert {file.name for file in tmp_path.iterdir()} == {"0", "1"}


@pytest.mark.parametrize("num_gpus", [1, 2])
def test_bad_input_is_one_line(num_gpus: int) -> None:
    with pytest.raises(SystemExit) as stop:
        launch_main(fail_in_the_last_process, arguments(num_gpus))
    assert stop.value.code == "error: image a.png cannot be read"


def test_a_bug_keeps_its_traceback() -> None:
    with pytest.raises(ValueError, match="too many values"):
        launch_main(have_a_bug, arguments(1))
    with pytest.raises(
        ProcessRaisedException, match=r'test_launch\.py", line(.|\n)*too many values'
    ):
        launch_main(have_a_bug, arguments(2))


def test_a_killed_process_is_one_line() -> None:
    with pytest.raises(SystemExit, match="error: process 1 terminated with signal SIGKILL"):
        launch_main(be_killed, arguments(2))


def test_more_gpus_than_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(SystemExit, match="error: --num-gpus is 8, but this machine has 1"):
        launch_main(fail_in_the_last_process, arguments(8))


def test_a_port_in_use_is_named() -> None:
    args = arguments(2)
    with socket.create_server(("127.0.0.1", 0)) as other:
        args.dist_url = f"tcp://127.0.0.1:{other.getsockname()[1]}"
        with pytest.raises(SystemExit, match=f"^error: --dist-url {args.dist_url}: .*in use"):
            launch_main(be_killed, args)
