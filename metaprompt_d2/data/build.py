"""Data loaders: Detectron2's, with a training stream that is a function of seed and iteration."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import (
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler

__all__ = ["build_test_loader", "build_train_loader", "load_dataset_dicts"]

Mapper = Callable[[dict], dict]


def load_dataset_dicts(
    name: str, *, filter_empty: bool = False, min_keypoints: int = 0
) -> list[dict]:
    """The dicts of a registered dataset.

    Args:
        name: of the dataset.
        filter_empty: leave out images with annotations of crowds only, or none.
        min_keypoints: leave out images with fewer labelled joints.

    Raises:
        FileNotFoundError: its folders are missing or empty; the message names them.
    """
    try:
        return get_detection_dataset_dicts(
            name, filter_empty=filter_empty, min_keypoints=min_keypoints
        )
    except (OSError, AssertionError) as error:
        metadata = MetadataCatalog.get(name).as_dict()
        folders = [
            f"{key} {value}" for key, value in metadata.items() if key.endswith(("_dir", "_root"))
        ]
        root = os.getenv("DETECTRON2_DATASETS", "datasets (the default)")
        raise FileNotFoundError(
            f"dataset {name!r} cannot be loaded: {error}. Expected its files in "
            f"{', '.join(folders) or 'its registered place'}; DETECTRON2_DATASETS is {root}. "
            "datasets/README.md shows the expected folders"
        ) from error


def build_train_loader(
    cfg: CfgNode, mapper: Mapper, *, seed: int, start_iter: int = 0
) -> DataLoader:
    """An endless loader of lists of mapped dicts, which can start at any iteration.

    Every sample has a position in one stream that all processes share; its augmentation is drawn
    from a generator seeded by (seed, position). So the batch of an iteration depends neither on
    the number of processes nor on what ran before. (With `DATALOADER.ASPECT_RATIO_GROUPING`
    batches wait for images of their kind, and a resumed run groups anew.)

    Args:
        cfg: DATASETS.TRAIN, DATALOADER.*, SOLVER.IMS_PER_BATCH, SOLVER.ACCUMULATION_STEPS, and
            what MODEL.KEYPOINT_ON asks of images.
        mapper: of one dict.
        seed: the same in all processes.
        start_iter: iterations to skip.

    Raises:
        ValueError: a batch that can't be divided, or an unknown sampler.
    """
    batch_size = _micro_batch_size(cfg)
    dicts = _train_dicts(cfg)
    skipped = start_iter * cfg.SOLVER.IMS_PER_BATCH // comm.get_world_size()
    return build_detection_train_loader(
        _SeededDataset(DatasetFromList(dicts), mapper, seed),
        mapper=None,
        sampler=_PositionSampler(_build_sampler(cfg, len(dicts), seed), skipped),
        total_batch_size=batch_size,
        aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        pin_memory=torch.cuda.is_available(),
    )


def build_test_loader(cfg: CfgNode, name: str, mapper: Mapper) -> DataLoader:
    """Each sample of a dataset once, over all processes.

    Args:
        cfg: DATALOADER.NUM_WORKERS.
        name: of a registered dataset.
        mapper: of one dict. Where it has a method `select`, that says which dicts are taken; where
            it has `test_batch_size`, so many make a batch, otherwise one.
    """
    dicts = load_dataset_dicts(name)
    if hasattr(mapper, "select"):
        dicts = mapper.select(dicts)
    return build_detection_test_loader(
        dicts,
        mapper=mapper,
        num_workers=cfg.DATALOADER.NUM_WORKERS,
        batch_size=getattr(mapper, "test_batch_size", 1),
    )


class _PositionSampler(Sampler):
    """Pairs (position in the stream of all processes, index into the dataset)."""

    def __init__(self, sampler: Sampler, skipped: int):
        self.sampler = sampler
        self.skipped = skipped

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, world_size = comm.get_rank(), comm.get_world_size()
        for turn, index in islice(enumerate(self.sampler), self.skipped, None):
            yield turn * world_size + rank, index


class _SeededDataset(Dataset):
    """Maps each sample with random generators seeded by its position."""

    def __init__(self, dataset: Dataset, mapper: Mapper, seed: int):
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        position, index = item
        with _seeded(np.random.SeedSequence((self.seed, position)).generate_state(1)[0]):
            return self.mapper(self.dataset[index])


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Seed the global generators that augmentations draw from, and put them back afterwards."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(int(seed))
    np.random.seed(seed)
    torch.default_generator.manual_seed(int(seed))
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _train_dicts(cfg: CfgNode) -> list[dict]:
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    return [
        item
        for name in cfg.DATASETS.TRAIN
        for item in load_dataset_dicts(
            name,
            filter_empty=cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS,
            min_keypoints=keypoints,
        )
    ]


def _build_sampler(cfg: CfgNode, size: int, seed: int) -> Sampler:
    name = cfg.DATALOADER.SAMPLER_TRAIN
    if name != "TrainingSampler":
        raise ValueError(f"DATALOADER.SAMPLER_TRAIN is {name!r}, expected 'TrainingSampler'")
    return TrainingSampler(size, seed=seed)


def _micro_batch_size(cfg: CfgNode) -> int:
    """Images of one forward pass over all processes."""
    total, steps = cfg.SOLVER.IMS_PER_BATCH, cfg.SOLVER.ACCUMULATION_STEPS
    processes = comm.get_world_size()
    if steps < 1 or total < 1 or total % (steps * processes):
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH {total} must be a multiple of SOLVER.ACCUMULATION_STEPS "
            f"{steps} times {processes} processes"
        )
    return total // steps
