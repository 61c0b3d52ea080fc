"""Processes as torchrun and srun start them, but as forks, which have everything imported."""

import multiprocessing
import os
import signal
from argparse import Namespace
from pathlib import Path

from mini_training import free_port
from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from metaprompt_d2.engine import launch, launch_main

FORK = multiprocessing.get_context("fork")


def run_elastic(
    main: launch.Main, args: Namespace, logs: Path, *, machines: int = 1, max_restarts: int = 0
) -> list[int]:
    """Run `main(args)` in two workers of each of torchrun's agents, which meet on this machine.

    Returns:
        Exit codes of the agents.
    """
    config = LaunchConfig(
        *(machines, machines, 2),
        run_id="test",
        rdzv_backend="c10d",
        rdzv_endpoint=f"localhost:{free_port()}",
        max_restarts=max_restarts,
        start_method="fork",
        logs_specs=DefaultLogsSpecs(log_dir=str(logs)),
    )
    arguments = (config, main, args)
    return _exit_codes([FORK.Process(target=_be_an_agent, args=arguments) for _ in range(machines)])


def _be_an_agent(config: LaunchConfig, main: launch.Main, args: Namespace) -> None:
    launch._leave = lambda: None  # the agent waits for what a function returns
    elastic_launch(config, _be_a_worker)(main, args)


def _be_a_worker(main: launch.Main, args: Namespace) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):  # a fork has the agent's handlers
        signal.signal(number, signal.SIG_DFL)
    launch_main(main, args)


def run_in_environments(
    main: launch.Main, args: Namespace, environments: list[dict[str, str]]
) -> list[int]:
    """Run `launch_main(main, args)` in one process for each environment of SLURM.

    Returns:
        Exit codes of the processes.
    """
    return _exit_codes(
        [FORK.Process(target=_be_a_task, args=(main, args, found)) for found in environments]
    )


def _be_a_task(main: launch.Main, args: Namespace, environment: dict[str, str]) -> None:
    os.environ.update(environment)
    args.machine_rank = int(environment["SLURM_NODEID"])
    launch_main(main, args)


def _exit_codes(processes: list[multiprocessing.context.ForkProcess]) -> list[int]:
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    return [process.exitcode for process in processes]


def slurm_environments(tasks: int, tasks_per_node: int) -> list[dict[str, str]]:
    """Make the variables that srun sets for each task of a step on nodes of equal size."""
    nodes = tasks // tasks_per_node
    step = {
        "SLURM_JOB_ID": str(free_port()),  # the port follows from it
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_TASKS_PER_NODE": f"{tasks_per_node}(x{nodes})" if nodes > 1 else str(tasks),
        "SLURM_STEP_NODELIST": "localhost",
    }
    names = ("SLURM_PROCID", "SLURM_NODEID", "SLURM_LOCALID")
    places = [(rank, *divmod(rank, tasks_per_node)) for rank in range(tasks)]
    return [step | dict(zip(names, map(str, place), strict=True)) for place in places]
