"""Processes that torchrun or SLURM's srun has started find their places and join each other."""

import re
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple
from uuid import uuid4

import torch
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import distributed

from ..utils.errors import InputError, input_errors, one_line_errors

_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
# The first host of SLURM's lists, such as "gpu[07-09,12],login1".
_FIRST_ENTRY = re.compile(r"(?:[^,\[]|\[[^]]*\])+")
_RANGE = re.compile(r"\[(\w+)[^]]*\]")


class Place(NamedTuple):
    """The place of a process among those that a launcher started on one or several machines."""

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    local_world_size: int
    init_method: str


def find_place(environment: Mapping[str, str]) -> Place | None:
    """Find the place that torchrun or srun gives a process in its environment.

    A single task of srun has none, and neither has the batch script of a job, whatever tasks the
    job has: srun alone sets SLURM_STEP_NUM_TASKS.

    Raises:
        InputError: A variable is missing or not a number.
    """
    if set(_TORCHRUN) <= environment.keys():
        with input_errors("environment of torchrun", ValueError):
            rank, size, local_rank, local_size = (int(environment[name]) for name in _TORCHRUN)
        return Place("torchrun", rank, size, local_rank, local_size, "env://")
    with input_errors("environment of srun", KeyError, ValueError):
        tasks = int(environment.get("SLURM_STEP_NUM_TASKS", 1))
        if tasks == 1:
            return None
        return Place(
            "srun",
            rank=int(environment["SLURM_PROCID"]),
            world_size=tasks,
            local_rank=int(environment["SLURM_LOCALID"]),
            # such as "4(x2)"; `joined` finds out if it differs between machines
            local_world_size=int(re.split(r"\D", environment["SLURM_STEP_TASKS_PER_NODE"])[0]),
            init_method=f"tcp://{_master_address(environment)}:{_master_port(environment)}",
        )


def _master_address(environment: Mapping[str, str]) -> str:
    if address := environment.get("MASTER_ADDR"):
        return address
    first = _FIRST_ENTRY.match(environment["SLURM_STEP_NODELIST"])
    return _RANGE.sub(r"\1", first[0]) if first else "localhost"


def _master_port(environment: Mapping[str, str]) -> int:
    if port := environment.get("MASTER_PORT"):
        return int(port)
    # Below the ports that systems hand out; steps that run at the same time get different ones.
    return 15_000 + (int(environment["SLURM_JOB_ID"]) + int(environment["SLURM_STEP_ID"])) % 15_000


@contextmanager
def joined(place: Place) -> Iterator[None]:
    """Join the process group and the groups of each machine, with a GPU for each process.

    Of several processes that end with an error only the first one reports it: the others had the
    same one, or lost the connection.

    Raises:
        InputError: The processes can't be reached.
        SystemExit: The error of the context in one line, or none where another process reports one.
    """
    with input_errors(f"{place.launcher}'s processes", distributed.DistError, ValueError):
        meeting = distributed.rendezvous(
            place.init_method, place.rank, place.world_size, timeout=DEFAULT_TIMEOUT
        )
        store, rank, world_size = next(meeting)
        store.set_timeout(DEFAULT_TIMEOUT)
        store = distributed.PrefixStore(_agree_on_prefix(store, place), store)
    with _first_error_only(store), one_line_errors():
        distributed.init_process_group(
            "nccl" if torch.cuda.is_available() else "gloo",
            store=store,
            rank=rank,
            world_size=world_size,
            timeout=DEFAULT_TIMEOUT,
        )
        _check_machines(place)
        choose_gpu(place)
        comm.create_local_process_group(place.local_world_size)
        comm.synchronize()  # as in Detectron2's launch
        yield


def _agree_on_prefix(store: distributed.Store, place: Place) -> str:
    """Choose a prefix of keys for these processes alone.

    torchrun restarts processes with the store of those before (pytorch issue 135712), where they
    would find the addresses of processes that are gone.
    """
    own = uuid4().hex
    if place.rank > 0:
        store.set(f"arrived/{place.rank}", own)
        prefix = store.get(own).decode()
        store.set(f"{prefix}/{place.rank}", "")
        return prefix
    missing = set(range(1, place.world_size))
    deadline = time.monotonic() + DEFAULT_TIMEOUT.total_seconds()
    while missing:
        for rank in sorted(missing):
            if store.check([f"{own}/{rank}"]):
                missing.remove(rank)
            elif store.check([f"arrived/{rank}"]):  # perhaps one from before; nobody reads it then
                store.set(store.get(f"arrived/{rank}").decode(), own)
        if time.monotonic() > deadline:
            raise InputError(f"{place.launcher}'s processes {sorted(missing)} have not arrived")
        time.sleep(0.01)
    return own


@contextmanager
def _first_error_only(store: distributed.Store) -> Iterator[None]:
    try:
        yield
    except (Exception, SystemExit):
        with suppress(RuntimeError):  # the store may have ended with its process
            if store.add("errors", 1) > 1:
                sys.exit(1)
        raise


def _check_machines(place: Place) -> None:
    """Check what Detectron2's groups of machines need, with the same result in all processes."""
    size = place.local_world_size
    layouts = comm.all_gather((size, place.rank % size == place.local_rank))
    if set(layouts) != {(size, True)} or place.world_size % size:
        raise InputError(
            f"{place.launcher} has started {place.world_size} processes, expected the same number "
            "on each machine, with consecutive ranks (srun --distribution=block)"
        )


def choose_gpu(place: Place) -> None:
    """Make a process's own GPU torch's current one, if there are GPUs.

    Raises:
        InputError: The machine has fewer GPUs than processes.
    """
    count, needed = torch.cuda.device_count(), place.local_world_size
    has_own = place.launcher == "srun" and count == 1  # srun may show each task a GPU of its own
    if needed > count > 0 and not has_own:
        raise InputError(f"{place.launcher} has started {needed} processes for {count} GPUs")
    if count:
        torch.cuda.set_device(place.local_rank % count)
