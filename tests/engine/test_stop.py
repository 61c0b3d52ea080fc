"""SIGTERM and SIGINT end an iteration, write a checkpoint and name it."""

import argparse
import os
import signal
from pathlib import Path

import pytest
import torch
from detectron2.utils import comm
from mini_training import free_port
from tiny_training import TinyTrainer, tiny_config
from training_features import assert_equal

from metaprompt_d2.engine import TrainingStopped, launch_main, stop
from metaprompt_d2.utils.errors import one_line_errors


@pytest.fixture(autouse=True)
def _default_signals() -> None:
    """Scripts that ran in this process may have left handlers of their own."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


KEYS = {"SOLVER.CHECKPOINT_PERIOD": 100, "MODEL.SEM_SEG_HEAD.NORM": "GN"}


class Signaled(TinyTrainer):
    """Gets a signal in an iteration, or in the evaluation after it."""

    sends: tuple[int, ...] = ()
    in_evaluation = False

    def run_step(self) -> None:
        super().run_step()
        if self.iter == 3 and not self.in_evaluation:
            self.send()

    def evaluate(self) -> dict:
        if self.iter == 3 and self.in_evaluation:
            self.send()
            raise AssertionError("the evaluation was not broken off")
        return {}

    def send(self) -> None:
        for number in self.sends:
            os.kill(os.getpid(), number)


def resumed_and_whole(folder: Path, keys: dict) -> tuple[TinyTrainer, TinyTrainer]:
    resumed = TinyTrainer(tiny_config(folder, keys))
    resumed.resume_or_load(resume=True)
    resumed.train()
    whole = TinyTrainer(tiny_config(folder / "whole", keys))
    whole.train()
    return resumed, whole


@pytest.mark.parametrize("in_evaluation", [False, True])
@pytest.mark.parametrize(
    "signals", [(signal.SIGTERM,), (signal.SIGINT,), (signal.SIGINT, signal.SIGTERM)]
)
def test_a_signal_stops_after_the_iteration_and_the_training_resumes_exactly(
    signals: tuple[int, ...], in_evaluation: bool, tmp_path: Path
) -> None:
    keys = KEYS | {"TEST.EVAL_PERIOD": 2}
    stopped = Signaled(tiny_config(tmp_path, keys))
    stopped.sends, stopped.in_evaluation = signals, in_evaluation
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with pytest.raises(SystemExit) as end, one_line_errors():
        stopped.train()
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before
    checkpoint = tmp_path / "model_0000003.pth"
    assert end.value.code == f"stopped by a signal; --resume continues from {checkpoint}"
    assert max(stopped.seen) == 3
    resumed, whole = resumed_and_whole(tmp_path, keys)
    assert list(resumed.seen) == [4, 5, 6, 7]
    assert_equal(resumed.model.state_dict(), whole.model.state_dict())
    assert_equal(resumed.state_dict(), whole.state_dict())


def test_a_second_signal_does_not_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stop, "_ONE_REQUEST", -1.0)
    stopped = Signaled(tiny_config(tmp_path, KEYS))
    stopped.sends = (signal.SIGINT, signal.SIGINT)
    with pytest.raises(KeyboardInterrupt) as found:
        stopped.train()
    assert found.type is not TrainingStopped
    assert not (tmp_path / "last_checkpoint").exists()


def test_a_signal_in_the_last_iteration_only_spares_the_evaluation(tmp_path: Path) -> None:
    stopped = Signaled(tiny_config(tmp_path, KEYS | {"SOLVER.MAX_ITER": 4}))
    stopped.sends = (signal.SIGTERM,)
    with pytest.raises(TrainingStopped, match=r"model_final\.pth"):
        stopped.train()


def test_a_handler_of_the_user_stays(tmp_path: Path) -> None:
    received = []
    before = signal.signal(signal.SIGTERM, lambda *_: received.append(True))
    try:
        trainer = Signaled(tiny_config(tmp_path, KEYS))
        trainer.sends = (signal.SIGTERM,)
        trainer.train()
    finally:
        signal.signal(signal.SIGTERM, before)
    assert received == [True]
    assert max(trainer.seen) == 7


class SignalsItsParent(TinyTrainer):
    """The last process of several sends a signal to the one that started them."""

    def run_step(self) -> None:
        super().run_step()
        if self.iter == 3 and comm.get_rank() == comm.get_world_size() - 1:
            os.kill(os.getppid(), signal.SIGINT)


def train_in_a_process(args: argparse.Namespace) -> None:
    torch.set_num_threads(1)
    trainer = SignalsItsParent(tiny_config(args.folder, KEYS | {"SOLVER.MAX_ITER": 100_000}))
    try:
        trainer.train()
    finally:
        (args.folder / f"rank{comm.get_rank()}").write_text(str(trainer.iter))


def test_a_signal_to_the_parent_stops_all_processes_after_one_iteration(tmp_path: Path) -> None:
    url = f"tcp://127.0.0.1:{free_port()}"
    args = argparse.Namespace(
        num_gpus=2, num_machines=1, machine_rank=0, dist_url=url, folder=tmp_path
    )
    with pytest.raises(SystemExit) as end:
        launch_main(train_in_a_process, args)
    last = {int((tmp_path / f"rank{rank}").read_text()) for rank in range(2)}
    assert len(last) == 1
    checkpoint = tmp_path / f"model_{last.pop():07d}.pth"
    assert checkpoint.is_file()
    assert end.value.code == f"stopped by a signal; --resume continues from {checkpoint}"
