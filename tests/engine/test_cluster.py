"""Processes of torchrun and of srun train together, as those of `--num-gpus` do."""

import itertools
import os
import signal
from argparse import Namespace
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from clusters import run_elastic, run_in_environments, slurm_environments
from detectron2.utils import comm
from mini_training import free_port, losses
from tiny_training import TinyTrainer, tiny_config

from metaprompt_d2.engine import launch_main
from metaprompt_d2.engine.cluster import Place, choose_gpu, find_place
from metaprompt_d2.engine.output_folder import claim_output_folder
from metaprompt_d2.utils.errors import InputError


class ShardedTrainer(TinyTrainer):
    """A trainer whose data differ between processes; `ending` ends the third iteration."""

    ending: signal.Signals | None = None

    def build_loader(self, seed: int, start_iter: int) -> Iterator[list[dict]]:
        for iteration in itertools.count(start_iter):
            position = iteration * comm.get_world_size() + comm.get_rank()
            generator = torch.Generator().manual_seed(position)
            yield [{"x": torch.randn(3, generator=generator)}]

    def run_step(self) -> None:
        super().run_step()
        first_attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if self.ending and self.iter == 2 and comm.get_rank() == 1 and first_attempt:
            victim = os.getpid() if self.ending == signal.SIGKILL else os.getppid()
            os.kill(victim, self.ending)


def train(args: Namespace) -> None:
    """Train with a checkpoint after each two, and note the process's place."""
    torch.set_num_threads(1)
    keys = {"SOLVER.MAX_ITER": args.max_iter, "SOLVER.CHECKPOINT_PERIOD": 2}
    folder = claim_output_folder(str(args.folder), resume=True, overwrite=False)
    with folder if comm.is_main_process() else nullcontext():
        trainer = ShardedTrainer(tiny_config(args.folder, keys))
        trainer.ending = args.ending
        trainer.resume_or_load(resume=True)
        trainer.train()
    place = (comm.get_world_size(), comm.get_local_rank(), comm.get_local_size())
    (args.folder / f"place{comm.get_rank()}").write_text(str(place))


def arguments(folder: Path, num_gpus: int = 1, **changes: object) -> Namespace:
    defaults = {"num_machines": 1, "machine_rank": 0, "max_iter": 4, "ending": None}
    url = f"tcp://127.0.0.1:{free_port()}"
    return Namespace(**defaults | changes, folder=folder, num_gpus=num_gpus, dist_url=url)


def losses_of_num_gpus(number: int, folder: Path) -> dict[int, list[dict]]:
    launch_main(train, arguments(folder, number))
    return losses(folder)


def places(folder: Path) -> list[str]:
    return [file.read_text() for file in sorted(folder.glob("place*"))]


def test_two_agents_of_torchrun_with_two_workers_train_as_four_processes(tmp_path: Path) -> None:
    run = arguments(tmp_path / "torchrun")
    assert run_elastic(train, run, tmp_path, machines=2) == [0, 0]
    assert losses(run.folder) == losses_of_num_gpus(4, tmp_path / "num_gpus")
    assert places(run.folder) == ["(4, 0, 2)", "(4, 1, 2)", "(4, 0, 2)", "(4, 1, 2)"]


def test_a_killed_worker_is_restarted_and_the_training_resumes_exactly(tmp_path: Path) -> None:
    run = arguments(tmp_path / "torchrun", ending=signal.SIGKILL)
    assert run_elastic(train, run, tmp_path, max_restarts=1) == [0]
    resumed, whole = losses(run.folder), losses_of_num_gpus(2, tmp_path / "num_gpus")
    assert resumed.keys() == whole.keys() == set(range(4))
    assert all(entry == whole[i][0] for i, entries in resumed.items() for entry in entries)


def test_a_signal_to_the_agent_stops_the_training_with_a_checkpoint_and_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    run = arguments(tmp_path / "torchrun", ending=signal.SIGTERM, max_iter=1_000_000)
    assert run_elastic(train, run, tmp_path) == [1]
    checkpoint = run.folder / (run.folder / "last_checkpoint").read_text()
    lines = capfd.readouterr().err.splitlines()
    assert lines.count(f"stopped by a signal; --resume continues from {checkpoint}") == 1


def test_tasks_of_srun_train_as_processes_of_one_machine(tmp_path: Path) -> None:
    run = arguments(tmp_path / "srun")
    assert run_in_environments(train, run, slurm_environments(2, 2)) == [0, 0]
    assert losses(run.folder) == losses_of_num_gpus(2, tmp_path / "num_gpus")
    assert places(run.folder) == ["(2, 0, 2)", "(2, 1, 2)"]


def test_srun_may_start_detectron2s_launch_on_each_machine(tmp_path: Path) -> None:
    run = arguments(tmp_path / "srun", num_machines=2)
    assert run_in_environments(train, run, slurm_environments(2, 1)) == [0, 0]
    assert places(run.folder) == ["(2, 0, 1)", "(2, 0, 1)"]


def fail(args: Namespace) -> None:
    if comm.get_rank() == 1:
        raise InputError("image a.png cannot be read")
    comm.synchronize()  # loses the connection


def test_wrong_input_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    assert run_elastic(fail, arguments(tmp_path), tmp_path) == [1]
    errors = capfd.readouterr().err
    assert errors.count("error: image a.png cannot be read\n") == 1
    assert "onnection" not in errors.split("ChildFailedError")[0]


@pytest.mark.parametrize(
    ("launcher", "option"),
    [("torchrun", "num_gpus"), ("torchrun", "num_machines"), ("srun", "num_gpus")],
)
def test_arguments_that_contradict_the_launcher_are_refused(
    launcher: str, option: str, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    args = arguments(tmp_path)
    setattr(args, option, 4)
    if launcher == "torchrun":
        assert run_elastic(fail, args, tmp_path) == [1]
    else:
        assert run_in_environments(fail, args, slurm_environments(2, 2)) == [1, 1]
    flag = f"--{option.replace('_', '-')}"
    line = f"error: {flag} is 4, but {launcher} has started 2 processes already: leave it out\n"
    assert line in capfd.readouterr().err


def test_tasks_that_are_not_distributed_in_blocks_are_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    first, second = slurm_environments(2, 2)
    second["SLURM_LOCALID"] = "0"
    assert run_in_environments(fail, arguments(tmp_path), [first, second]) == [1, 1]
    assert "srun has started 2 processes, expected the same number" in capfd.readouterr().err


SRUN = {
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_NTASKS": "16",  # of the job
    "SLURM_JOB_ID": "31007",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_STEP_TASKS_PER_NODE": "4(x2)",
    "SLURM_STEP_NODELIST": "rack[3-4]gpu[07-09,12],login1",
}
TORCHRUN = {"RANK": "5", "WORLD_SIZE": "8", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "4"}
MASTER = {"MASTER_ADDR": "10.0.0.1", "MASTER_PORT": "29500"}


@pytest.mark.parametrize(
    ("environment", "launcher", "init_method"),
    [
        (SRUN, "srun", "tcp://rack3gpu07:16009"),
        (SRUN | {"SLURM_STEP_NODELIST": "a-1,b[2-3]"}, "srun", "tcp://a-1:16009"),
        (SRUN | MASTER, "srun", "tcp://10.0.0.1:29500"),
        (TORCHRUN | MASTER, "torchrun", "env://"),
        (SRUN | TORCHRUN | MASTER, "torchrun", "env://"),  # srun started torchrun
    ],
)
def test_the_place_is_found(environment: dict, launcher: str, init_method: str) -> None:
    assert find_place(environment) == Place(launcher, 5, 8, 1, 4, init_method)


@pytest.mark.parametrize(
    "environment",
    [
        {},
        SRUN | {"SLURM_STEP_NUM_TASKS": "1"},
        {"SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "16"},  # a batch script
        {"RANK": "1", "WORLD_SIZE": "2"} | MASTER,  # machines of Kubernetes
    ],
)
def test_other_processes_have_no_place(environment: dict) -> None:
    assert find_place(environment) is None


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        (SRUN | {"SLURM_PROCID": "?"}, "environment of srun: .*'\\?'"),
        ({**SRUN, "SLURM_STEP_TASKS_PER_NODE": ""}, "environment of srun: "),
        ({"SLURM_STEP_NUM_TASKS": "2"}, "environment of srun: SLURM_PROCID"),
        (TORCHRUN | {"RANK": ""}, "environment of torchrun: "),
    ],
)
def test_an_environment_that_says_no_place_is_refused(environment: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        find_place(environment)


@pytest.mark.parametrize(
    ("launcher", "processes", "gpus", "chosen"),
    [("torchrun", 4, 4, 3), ("torchrun", 4, 8, 3), ("srun", 4, 1, 0), ("srun", 4, 0, None)],
)
def test_each_process_has_a_gpu(
    launcher: str, processes: int, gpus: int, chosen: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    devices: list[int] = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "set_device", devices.append)
    choose_gpu(Place(launcher, 3, 4, 3, processes, ""))
    assert devices == ([] if chosen is None else [chosen])


@pytest.mark.parametrize(("launcher", "gpus"), [("torchrun", 1), ("torchrun", 2), ("srun", 2)])
def test_more_processes_than_gpus_are_refused(
    launcher: str, gpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    with pytest.raises(InputError, match=f"{launcher} has started 4 processes for {gpus} GPUs"):
        choose_gpu(Place(launcher, 0, 4, 0, 4, ""))
