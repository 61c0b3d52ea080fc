"""The training stream: a function of seed and iteration, whatever else differs."""

import random
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from helpers import registered_cityscapes, write_cityscapes

from metaprompt_d2.data import (
    SemSegMapper,
    build_test_loader,
    build_train_loader,
    load_dataset_dicts,
)
from metaprompt_d2.engine import load_config


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    write_cityscapes(tmp_path, num_images=5)
    with registered_cityscapes(tmp_path) as name:
        yield name


def recipe(dataset: str, *overrides: object) -> CfgNode:
    options = "INPUT.MIN_SIZE_TRAIN (24,) INPUT.MAX_SIZE_TRAIN 48 INPUT.CROP.SIZE [16,16]".split()
    options += "SOLVER.IMS_PER_BATCH 2 DATALOADER.NUM_WORKERS 0".split()
    options += ["DATASETS.TRAIN", (dataset,), *overrides]
    return load_config("metaprompt_d2://cityscapes_seg.yaml", options)


def stream(cfg: CfgNode, batches: int, **options: int) -> list[list[dict]]:
    loader = build_train_loader(cfg, SemSegMapper(cfg, is_train=True), **({"seed": 1} | options))
    return list(islice(loader, batches))


def same(ours: list[list[dict]], theirs: list[list[dict]]) -> bool:
    pairs = zip(sum(ours, []), sum(theirs, []), strict=True)
    return all(
        a["file_name"] == b["file_name"] and torch.equal(a["image"], b["image"]) for a, b in pairs
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_the_stream_depends_on_the_seed_and_not_on_workers(dataset: str, workers: int) -> None:
    reference = stream(recipe(dataset), 6)
    cfg = recipe(dataset, "DATALOADER.NUM_WORKERS", workers)
    random.seed(5)  # whatever state the process is in
    np.random.seed(5)
    torch.manual_seed(5)
    assert same(stream(cfg, 6), reference)
    assert not same(stream(cfg, 6, seed=2), reference)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_stream_can_start_at_any_iteration(dataset: str, workers: int) -> None:
    cfg = recipe(dataset, "DATALOADER.NUM_WORKERS", workers)
    assert same(stream(cfg, 3, start_iter=4), stream(cfg, 7)[4:])


def test_an_image_is_augmented_anew_each_time(dataset: str) -> None:
    seen = {}
    for item in sum(stream(recipe(dataset), 10), []):
        seen.setdefault(item["file_name"], []).append(item["image"])
    assert len(seen) == 5
    assert any(not torch.equal(images[0], images[1]) for images in seen.values())


def test_accumulation_splits_the_same_stream(dataset: str) -> None:
    whole = stream(recipe(dataset, "SOLVER.IMS_PER_BATCH", 4), 2)
    parts = stream(recipe(dataset, "SOLVER.IMS_PER_BATCH", 4, "SOLVER.ACCUMULATION_STEPS", 4), 8)
    assert [len(batch) for batch in parts] == [1] * 8
    assert same(whole, parts)


def test_loading_leaves_the_global_generators_alone(dataset: str) -> None:
    cfg = recipe(dataset)
    loader = iter(build_train_loader(cfg, SemSegMapper(cfg, is_train=True), seed=1))
    next(loader)
    states = random.getstate(), np.random.get_state()[1].copy(), torch.get_rng_state()
    next(loader)
    assert random.getstate() == states[0]
    assert np.array_equal(np.random.get_state()[1], states[1])
    assert torch.equal(torch.get_rng_state(), states[2])


def test_a_random_subset_can_be_trained_on(dataset: str) -> None:
    options = ["DATALOADER.SAMPLER_TRAIN", "RandomSubsetTrainingSampler"]
    cfg = recipe(dataset, *options, "DATALOADER.RANDOM_SUBSET_RATIO", 0.4)
    assert len({item["file_name"] for item in sum(stream(cfg, 10), [])}) == 2


def test_an_unknown_sampler_is_refused(dataset: str) -> None:
    with pytest.raises(ValueError, match="SAMPLER_TRAIN is 'Nonsense'"):
        stream(recipe(dataset, "DATALOADER.SAMPLER_TRAIN", "Nonsense"), 1)


@pytest.mark.parametrize(("images", "steps"), [(3, 2), (2, 0), (2, 4)])
def test_a_batch_that_cannot_be_divided_is_refused(dataset: str, images: int, steps: int) -> None:
    cfg = recipe(dataset, "SOLVER.IMS_PER_BATCH", images, "SOLVER.ACCUMULATION_STEPS", steps)
    with pytest.raises(ValueError, match=f"IMS_PER_BATCH {images} .* ACCUMULATION_STEPS {steps}"):
        stream(cfg, 1)


def test_the_test_loader_gives_each_image_once(dataset: str) -> None:
    cfg = recipe(dataset)
    batches = list(build_test_loader(cfg, dataset, SemSegMapper(cfg, is_train=False)))
    assert [len(batch) for batch in batches] == [1] * 5
    assert len({batch[0]["file_name"] for batch in batches}) == 5


def test_missing_and_empty_folders_are_named(tmp_path: Path) -> None:
    with registered_cityscapes(tmp_path / "nowhere") as name:
        with pytest.raises(FileNotFoundError, match=name) as error:
            load_dataset_dicts(name)
        assert str(tmp_path / "nowhere/leftImg8bit") in str(error.value)
        (tmp_path / "nowhere/leftImg8bit").mkdir(parents=True)
        (tmp_path / "nowhere/gtFine").mkdir()
        with pytest.raises(FileNotFoundError, match="No images found"):
            load_dataset_dicts(name)
