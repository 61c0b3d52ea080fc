"""`metrics.json`: every logged iteration has its line, whenever the training is killed."""

import json
from pathlib import Path

import pytest
from detectron2.utils.events import EventStorage
from tiny_training import TinyTrainer, tiny_config

from metaprompt_d2.engine.metrics_file import MetricsFile


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


class Killed(BaseException):
    pass


class KilledInEvaluation(TinyTrainer):
    def evaluate(self) -> dict:
        self.after_train = lambda: None  # a killed process does nothing more
        raise Killed


def test_a_kill_in_an_evaluation_loses_no_losses(tmp_path: Path) -> None:
    keys = {"TEST.EVAL_PERIOD": 4}
    with pytest.raises(Killed):
        KilledInEvaluation(tiny_config(tmp_path, keys)).train()
    assert [line["iteration"] for line in lines(tmp_path / "metrics.json")] == [0, 1, 2, 3]
    resumed = TinyTrainer(tiny_config(tmp_path, keys))
    resumed.resume_or_load(resume=True)
    resumed.train()
    found = lines(tmp_path / "metrics.json")
    assert [line["iteration"] for line in found] == list(range(8))
    assert all({"total_loss", "lr"} <= line.keys() for line in found)


class FailsInAnIteration(TinyTrainer):
    def run_step(self) -> None:
        if self.iter == 5:
            raise RuntimeError
        super().run_step()


def test_an_iteration_that_failed_has_no_line(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError):
        FailsInAnIteration(tiny_config(tmp_path)).train()
    found = lines(tmp_path / "metrics.json")
    assert [line["iteration"] for line in found] == [0, 1, 2, 3, 4]
    assert all("total_loss" in line for line in found)


class Evaluated(TinyTrainer):
    def evaluate(self) -> dict:
        return {"task": {"metric": float(self.iter)}}


def test_the_results_of_an_evaluation_follow_the_losses_of_its_iteration(tmp_path: Path) -> None:
    Evaluated(tiny_config(tmp_path, {"TEST.EVAL_PERIOD": 4})).train()
    found = [
        (line["iteration"], line.get("task/metric")) for line in lines(tmp_path / "metrics.json")
    ]
    losses = [(iteration, None) for iteration in range(8)]
    assert found == [*losses[:4], (3, 3.0), *losses[4:], (8, 8.0)]


def test_half_a_line_of_a_killed_process_is_removed(tmp_path: Path) -> None:
    file = tmp_path / "metrics.json"
    file.write_text('{"iteration": 0, "total_loss": 1.0}\n{"iteration": 1, "tot')
    writer = MetricsFile(file)
    with EventStorage(1) as storage:
        storage.put_scalar("total_loss", 2.0)
        writer.write()
        writer.write()
    assert lines(file) == [
        {"iteration": 0, "total_loss": 1.0},
        {"iteration": 1, "total_loss": 2.0},
    ]
