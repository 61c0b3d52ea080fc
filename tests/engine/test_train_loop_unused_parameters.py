"""A head that reads some of the features only, trained by two processes."""

from pathlib import Path

import pytest
import torch
from detectron2.engine import launch
from detectron2.utils import comm
from helpers import registered_cityscapes, smallest_cfg
from training_features import SMALL, make_data

from metaprompt_d2.engine import Trainer


def trainer_of(data: str, folder: Path, *, accepts_unused: bool) -> Trainer:
    overrides = {
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p3", "p4", "p5"],
        "SOLVER.FIND_UNUSED_PARAMETERS": accepts_unused,
        "DATASETS.TRAIN": (data,),
        "OUTPUT_DIR": str(folder),
    }
    torch.manual_seed(0)
    return Trainer(smallest_cfg(SMALL | overrides))


def train_in_a_process(root: Path, folder: Path) -> None:
    torch.set_num_threads(1)
    with registered_cityscapes(root) as data:
        with pytest.raises(ValueError, match=r"4 parameters .*SOLVER.FIND_UNUSED_PARAMETERS"):
            trainer_of(data, folder, accepts_unused=False).train()
        trainer = trainer_of(data, folder, accepts_unused=True)
        model = trainer.checkpointer.model
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trainer.train()
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    resting = {name for name, value in trained.items() if value.equal(before[name])}
    unread = {name for name in trained if ".rearrangement.projections.0." in name}  # of p2
    assert len(unread) == 4
    assert unread <= resting
    assert len(resting) < 0.2 * len(trained)
    torch.save(trained, folder / f"{comm.get_rank()}.pth")


def test_features_that_no_head_reads_are_an_error_or_accepted(tmp_path: Path) -> None:
    data = make_data(tmp_path / "data")
    launch(train_in_a_process, 2, dist_url="auto", args=(data, tmp_path))
    first, second = (torch.load(tmp_path / f"{rank}.pth") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
