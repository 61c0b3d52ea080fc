"""Training features alone, together and in two processes, against the table in the docs."""

import json
import math
from itertools import combinations
from pathlib import Path

import pytest
import torch
from detectron2.engine import launch
from helpers import smallest_cfg
from training_features import (
    COMBINATIONS,
    FEATURES,
    IN_TWO_PROCESSES,
    make_data,
    settings,
    train,
    train_all_in_a_process,
    train_and_resume,
)

from metaprompt_d2.config import check_combinations
from metaprompt_d2.data import check_datasets
from metaprompt_d2.engine import Trainer


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.mark.parametrize("features", COMBINATIONS, ids="+".join)
def test_features_train_and_resume(features: tuple[str, ...], data: Path, tmp_path: Path) -> None:
    assert math.isfinite(train_and_resume(features, data, tmp_path))


def test_features_train_and_resume_in_two_processes(data: Path, tmp_path: Path) -> None:
    launch(train_all_in_a_process, 2, dist_url="auto", args=(data, tmp_path))
    files = [tmp_path / f"losses_{rank}.json" for rank in range(2)]
    losses, others = (json.loads(file.read_text()) for file in files)
    assert len(losses) == len(others) == len(IN_TWO_PROCESSES)
    assert all(map(math.isfinite, losses + others))


# ------------------------------------------------------------------ the table in the docs


def documented() -> dict[tuple[str, str], str]:
    """(feature, other feature) -> what docs/training.md says of the two."""
    page = Path(__file__).resolve().parents[2] / "docs/training.md"
    section = page.read_text().split("## What combines with what")[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.count("|") > len(FEATURES)
    ]
    (_, *columns), _, *rows = rows
    return {
        (name, column): cell
        for name, *cells in rows
        for column, cell in zip(columns, cells, strict=True)
        if cell
    }


def test_the_table_has_every_pair_once() -> None:
    names = [*FEATURES, "processes"]
    assert {frozenset(pair) for pair in documented()} == set(map(frozenset, combinations(names, 2)))
    assert set(documented().values()) == {"yes", "error", "one key"}


def test_every_pair_that_combines_is_trained() -> None:
    in_two = [(*features, "processes") for features in IN_TWO_PROCESSES]
    for pair, says in documented().items():
        trained = any(set(pair) <= set(features) for features in [*COMBINATIONS, *in_two])
        assert trained == (says == "yes"), pair


@pytest.mark.parametrize("pair", [pair for pair, says in documented().items() if says == "error"])
def test_a_pair_that_does_not_combine_is_refused_by_its_keys(pair: tuple[str, str]) -> None:
    cfg = smallest_cfg(settings(pair))
    with pytest.raises(ValueError, match="contradict each other") as error:
        Trainer(cfg)
    assert all(any(key in str(error.value) for key in FEATURES[name]) for name in pair)


@pytest.mark.parametrize("key", ["SOLVER.WEIGHT_DECAY_NORM", "SOLVER.WEIGHT_DECAY_BIAS"])
def test_a_decay_of_norms_or_biases_needs_decayed_vectors(key: str) -> None:
    keys = {"SOLVER.DECAY_VECTORS": False, key: 0.1}
    with pytest.raises(ValueError, match=f"{key} 0.1 needs SOLVER.DECAY_VECTORS True"):
        check_combinations(smallest_cfg(keys))
    for none in (None, 0.0):
        check_combinations(smallest_cfg(keys | {key: none}))


def test_levels_without_checkpointing_are_refused() -> None:
    cfg = smallest_cfg({"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS": (0,)})
    with pytest.raises(ValueError, match=r"LEVELS \(0,\) needs \S+GRADIENT_CHECKPOINTING True"):
        check_combinations(cfg)


@pytest.mark.parametrize("key", ["DATASETS.TRAIN", "DATASETS.TEST"])
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("street", "no dataset is registered as 'street'"),
        ("ade20k_sem_seg_val", "NUM_CLASSES is 19, but dataset 'ade20k_sem_seg_val' has 150 cl"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused_before_the_training(
    key: str, name: str, message: str
) -> None:
    cfg = smallest_cfg({key: (name,), "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19})
    with pytest.raises(ValueError, match=message):
        Trainer(cfg)
    detector = {"MODEL.META_ARCHITECTURE": "PanopticFPN"}  # of things and stuff
    if "ade" in name:
        check_datasets(smallest_cfg(detector | {key: (name,)}))


def test_an_accumulated_batch_has_the_gradient_of_a_whole_one(data: Path, tmp_path: Path) -> None:
    """For losses that are means over pixels, and norms that see one image at a time."""
    means = {
        "MODEL.SEM_SEG_HEAD.LOVASZ_LOSS_WEIGHT": 0.0,
        "MODEL.SEM_SEG_HEAD.NORM": "GN",
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
        # Norms of one value magnify round-off.
        "MODEL.SEM_SEG_HEAD.POOL_SCALES": (4,),
        "MODEL.SEM_SEG_HEAD.DROPOUT": 0.0,
        "SOLVER.MAX_ITER": 1,
    }
    whole = train((), data, tmp_path / "whole", overrides=means)
    parts = train(("accumulation",), data, tmp_path / "parts", overrides=means)
    states = [trainer.optimizer.state_dict()["state"].values() for trainer in (whole, parts)]
    # After the first update `exp_avg` is a tenth of the gradient.
    gradients = [[state["exp_avg"] for state in update] for update in states]
    largest = max(gradient.abs().max().item() for gradient in gradients[0])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-5 * largest)
    losses = [trainer.storage.latest()["total_loss"][0] for trainer in (whole, parts)]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
