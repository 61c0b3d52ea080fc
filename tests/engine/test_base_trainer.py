"""What YAML and Lazy trainings share: checkpoints, resuming, and the last good state."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers import smallest_cfg
from training_features import SMALL, assert_equal

from metaprompt_d2.engine import NonFiniteLossError, Trainer

EMA = {"SOLVER.EMA.ENABLED": True, "MODEL.SEM_SEG_HEAD.NORM": "BN"}


def trainer_of(data: str, folder: Path, overrides: dict | None = None) -> Trainer:
    keys = SMALL | EMA | {"DATASETS.TRAIN": (data,), "OUTPUT_DIR": str(folder)} | (overrides or {})
    torch.manual_seed(0)
    return Trainer(smallest_cfg(keys))


def nested(state: dict) -> dict:
    """The state of a training from YAML as it was once written."""
    loop = {"iteration": state["iteration"], "optimizer": state["optimizer"]}
    # The schedule's state is ignored, so anything may stand here.
    schedule = {"hooks": {"LRScheduler": {"max_iters": 1, "last_epoch": 7, "base_lrs": [9.0]}}}
    return {key: state[key] for key in ("iteration", "seed")} | schedule | {"_trainer": loop}


def without_seed(state: dict) -> dict:
    """The state of a training from a LazyConfig as it was once written."""
    return {key: state[key] for key in ("iteration", "optimizer")}


def test_former_checkpoints_resume_to_the_same_end(data: str, tmp_path: Path) -> None:
    whole = trainer_of(data, tmp_path / "whole")
    whole.resume_or_load(resume=False)
    whole.train()
    content = torch.load(tmp_path / "whole/model_0000000.pth", weights_only=True)
    assert content["trainer"].keys() == {
        "iteration",
        "optimizer",
        "parameter_names",
        "seed",
    }
    for number, former in enumerate((nested, without_seed)):
        folder = tmp_path / str(number)
        folder.mkdir()
        state = content | {"trainer": former(copy.deepcopy(content["trainer"]))}
        torch.save(state, folder / "model_0000000.pth")
        (folder / "last_checkpoint").write_text("model_0000000.pth")
        resumed = trainer_of(data, folder)
        resumed.resume_or_load(resume=True)
        assert resumed.start_iter == 1
        resumed.train()
        assert_equal(resumed.model.state_dict(), whole.model.state_dict())
        assert_equal(resumed.state_dict(), whole.state_dict())
        assert_equal(resumed.average.state_dict(), whole.average.state_dict())


def test_a_nan_loss_leaves_a_checkpoint_of_the_last_finished_iteration(
    data: str, tmp_path: Path
) -> None:
    expected = trainer_of(data, tmp_path / "expected", {"SOLVER.CHECKPOINT_PERIOD": 1})
    expected.train()
    broken = trainer_of(data, tmp_path / "broken", {"SOLVER.CHECKPOINT_PERIOD": 9})
    finite = broken.data_loader

    def breaks_in_the_second_batch() -> Iterator[list[dict]]:
        for index, batch in enumerate(finite):
            for item in batch if index == 1 else []:
                item["image"] = torch.full_like(item["image"].float(), torch.nan)
            yield batch

    broken.data_loader = breaks_in_the_second_batch()
    with pytest.raises(NonFiniteLossError, match="iteration 1.*leftImg8bit"):
        broken.train()
    name = "model_0000000.pth"
    assert (tmp_path / "broken/last_checkpoint").read_text() == name
    states = [
        torch.load(tmp_path / run / name, weights_only=True) for run in ("broken", "expected")
    ]
    assert states[0]["iteration"] == states[0]["trainer"]["iteration"] == 0
    assert any("running_var" in key for key in states[0]["model"])
    for state in states:  # counts of batches include the broken one
        state["model"] = {
            key: value for key, value in state["model"].items() if value.is_floating_point()
        }
        for group in state["trainer"]["optimizer"]["param_groups"]:
            del group["lr"]  # written before the schedule's step, or after it
    assert_equal(*states)
