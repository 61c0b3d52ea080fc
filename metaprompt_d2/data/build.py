"""Data loaders: Detectron2's, with a training stream that depends on seed and iteration only."""

import os
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import torch
from detectron2.config import CfgNode, configurable
from detectron2.data import (
    DatasetFromList,
    MetadataCatalog,
    build_detection_test_loader,
    build_detection_train_loader,
    get_detection_dataset_dicts,
)
from detectron2.data.samplers import TrainingSampler
from detectron2.utils import comm
from torch.utils.data import DataLoader, Dataset, Sampler, SequentialSampler, get_worker_info

from ..utils.errors import InputError, MissingFileError
from ..utils.optional import optional_packages
from .checks import check_registered, check_same_names
from .mappers import ImageMapper

Mapper = Callable[[dict], dict]


def load_dataset_dicts(
    names: str | Sequence[str], *, filter_empty: bool = False, min_keypoints: int = 0
) -> list[dict]:
    """Load the dicts of one or several registered datasets.

    Args:
        names: Name, or names whose dicts are concatenated.
        filter_empty: Whether to leave out images without annotations other than crowds.
        min_keypoints: Least number of labeled keypoints; images with fewer are left out.

    Raises:
        MissingFileError: Folders of a dataset are missing or empty; the message names them.
        InputError: A dataset isn't registered, needs a package that isn't installed, or names its
            classes differently from another one.
    """
    options: dict[str, Any] = {"filter_empty": filter_empty, "min_keypoints": min_keypoints}
    if not isinstance(names, str):
        check_registered(names)
        check_same_names(names)
        return [item for name in names for item in load_dataset_dicts(name, **options)]
    check_registered([names])
    try:
        with optional_packages(f"dataset {names!r}"):
            return get_detection_dataset_dicts(names, **options)
    except (OSError, AssertionError) as error:
        metadata = MetadataCatalog.get(names).as_dict().items()
        folders = [f"{key} {value}" for key, value in metadata if key.endswith(("_dir", "_root"))]
        root = os.getenv("DETECTRON2_DATASETS", "datasets (the default)")
        raise MissingFileError(
            f"dataset {names!r} cannot be loaded: {error}. Expected its files in "
            f"{', '.join(folders) or 'its registered place'}; DETECTRON2_DATASETS is {root}. "
            "datasets/README.md shows the expected folders"
        ) from error


def _train_loader_from_config(cfg: CfgNode, mapper: Mapper) -> dict:
    if cfg.DATALOADER.SAMPLER_TRAIN != "TrainingSampler":
        found = cfg.DATALOADER.SAMPLER_TRAIN
        raise InputError(f"DATALOADER.SAMPLER_TRAIN is {found!r}, expected 'TrainingSampler'")
    keypoints = cfg.MODEL.ROI_KEYPOINT_HEAD.MIN_KEYPOINTS_PER_IMAGE if cfg.MODEL.KEYPOINT_ON else 0
    filter_empty = cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS
    return {
        "dataset": load_dataset_dicts(
            cfg.DATASETS.TRAIN, filter_empty=filter_empty, min_keypoints=keypoints
        ),
        "mapper": mapper,
        "total_batch_size": cfg.SOLVER.IMS_PER_BATCH,
        "accumulation_steps": cfg.SOLVER.ACCUMULATION_STEPS,
        "aspect_ratio_grouping": cfg.DATALOADER.ASPECT_RATIO_GROUPING,
        "num_workers": cfg.DATALOADER.NUM_WORKERS,
    }


@configurable(from_config=_train_loader_from_config)
def build_train_loader(
    dataset: Sequence[dict],
    *,
    mapper: Mapper,
    seed: int,
    start_iter: int = 0,
    total_batch_size: int,
    accumulation_steps: int = 1,
    aspect_ratio_grouping: bool = False,
    num_workers: int = 0,
) -> DataLoader:
    """Build an endless loader of lists of mapped dicts, which can start at any iteration.

    Every sample has a position in one stream that all processes share, and its augmentation is
    drawn from a generator seeded by (seed, position). So the batch of an iteration depends neither
    on the number of processes nor on what ran before. With `aspect_ratio_grouping` this holds only
    without resuming, because batches wait for images of their kind.

    It takes these arguments or, like Detectron2's, a config and a mapper, `seed` and `start_iter`.

    Args:
        dataset: Dicts of `load_dataset_dicts`.
        mapper: Function that maps one dict. An `ImageMapper` also inspects some dicts at first.
        seed: Seed, which must be the same in all processes.
        start_iter: Number of iterations to skip.
        total_batch_size: Images per update.
        accumulation_steps: Number of parts that a batch is split into.
        aspect_ratio_grouping: Whether to put only landscape or only portrait images in a batch.
        num_workers: Number of worker processes; 0 loads in this process.

    Raises:
        InputError: The dataset is empty, or the batch can't be divided.
    """
    if not dataset:
        raise InputError("the datasets to train on (DATASETS.TRAIN) hold no image")
    processes = comm.get_world_size()
    parts = accumulation_steps * processes
    if parts < 1 or total_batch_size < 1 or total_batch_size % parts:
        raise InputError(
            f"SOLVER.IMS_PER_BATCH {total_batch_size} must be a multiple of "
            f"SOLVER.ACCUMULATION_STEPS {accumulation_steps} times {processes} processes"
        )
    if isinstance(mapper, ImageMapper) and comm.is_main_process():
        mapper.inspect(list(dataset))
    skipped = start_iter * total_batch_size // processes
    return build_detection_train_loader(
        _SeededDataset(DatasetFromList(list(dataset)), _WorkersMapper(mapper), seed),
        mapper=None,
        sampler=_PositionSampler(TrainingSampler(len(dataset), seed=seed), skipped),
        total_batch_size=total_batch_size // accumulation_steps,
        aspect_ratio_grouping=aspect_ratio_grouping,
        num_workers=num_workers,
        pin_memory=torch.cuda.is_available(),
    )


def _test_loader_from_config(cfg: CfgNode, name: str, mapper: Mapper) -> dict:
    dicts = load_dataset_dicts(name)
    return {"dataset": dicts, "mapper": mapper, "num_workers": cfg.DATALOADER.NUM_WORKERS}


@configurable(from_config=_test_loader_from_config)
def build_test_loader(
    dataset: Sequence[dict], *, mapper: Mapper, num_workers: int = 0
) -> DataLoader:
    """Build a loader that gives each sample of a dataset once, over all processes.

    Like Detectron2's, it takes these arguments, or a config, a dataset's name and a mapper.

    Args:
        dataset: Dicts of `load_dataset_dicts`.
        mapper: Function that maps one dict. An `ImageMapper` also chooses the dicts and the batch
            size, which is 1 otherwise.
        num_workers: Number of worker processes; 0 loads in this process.
    """
    dicts, batch_size = list(dataset), 1
    if isinstance(mapper, ImageMapper):
        dicts, batch_size = mapper.select(dicts), mapper.test_batch_size
    # Detectron2 neither serializes nor samples an empty list, which thresholds may leave.
    samples = DatasetFromList(dicts, copy=False, serialize=bool(dicts))
    return build_detection_test_loader(
        samples,
        mapper=_WorkersMapper(mapper),
        sampler=None if dicts else SequentialSampler(dicts),
        num_workers=num_workers,
        batch_size=batch_size,
    )


class _WorkersMapper:
    """A mapper that first sets up the worker process it runs in."""

    def __init__(self, mapper: Mapper):
        self.mapper = mapper
        self.is_set_up = False

    def __call__(self, dataset_dict: dict) -> dict:
        if not self.is_set_up and get_worker_info() is not None:
            # Workers share the cores already. (1 instead of 0 would make OpenCV wait for ever for
            # threads that don't exist in a forked process.)
            cv2.setNumThreads(0)
            # By default each tensor sent to the main process takes a file descriptor. The usual
            # limit of 1024 is too small for a batch of 512 people.
            torch.multiprocessing.set_sharing_strategy("file_system")
            self.is_set_up = True
        return self.mapper(dataset_dict)


class _PositionSampler(Sampler):
    """Yield pairs (position in the stream of all processes, index into the dataset)."""

    def __init__(self, sampler: Sampler, skipped: int):
        self.sampler = sampler
        self.skipped = skipped

    def __iter__(self) -> Iterator[tuple[int, int]]:
        rank, world_size = comm.get_rank(), comm.get_world_size()
        for turn, index in islice(enumerate(self.sampler), self.skipped, None):
            yield turn * world_size + rank, index


class _SeededDataset(Dataset):
    """Map each sample with the global generators seeded by its position, and restore them."""

    def __init__(self, dataset: DatasetFromList, mapper: Mapper, seed: int):
        self.dataset = dataset
        self.mapper = mapper
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, item: tuple[int, int]) -> Any:
        position, index = item
        seed = int(np.random.SeedSequence((self.seed, position)).generate_state(1)[0])
        states = random.getstate(), np.random.get_state(), torch.get_rng_state()
        random.seed(seed)
        np.random.seed(seed)
        torch.default_generator.manual_seed(seed)
        try:
            return self.mapper(self.dataset[index])
        finally:
            random.setstate(states[0])
            np.random.set_state(states[1])
            torch.set_rng_state(states[2])
