"""Loaders: the training stream is a function of seed and iteration; errors name the dataset."""

import json
import random
import resource
import sys
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path

import cv2
import detectron2.data.build as detectron2_build
import numpy as np
import pytest
import torch
from coco_files import registered_coco, write_coco
from detectron2.utils import comm
from helpers import registered_cityscapes, tiny_cfg, write_cityscapes

from metaprompt_d2.data import (
    ImageMapper,
    SemSegMapper,
    build_test_loader,
    build_train_loader,
    load_dataset_dicts,
)
from metaprompt_d2.utils.errors import InputError

BATCH = 4


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("cityscapes")
    write_cityscapes(root, num_images=5)
    return root


@pytest.fixture(scope="module")
def name(folder: Path) -> Iterator[str]:
    with registered_cityscapes(folder) as name:
        yield name


def config(name: str, **overrides):
    keys = {
        "DATASETS.TRAIN": (name,),
        "DATALOADER.NUM_WORKERS": 0,
        "SOLVER.IMS_PER_BATCH": BATCH,
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 19,
        "INPUT.MIN_SIZE_TRAIN": (24,),
        "INPUT.MAX_SIZE_TRAIN": 48,
        "INPUT.CROP.SIZE": [16, 16],
    }
    return tiny_cfg(keys | {key.replace("__", "."): value for key, value in overrides.items()})


def draw(item: dict) -> tuple:
    """A mapper whose result shows the image and the state of all three generators."""
    return item["file_name"], random.random(), np.random.rand(), torch.rand(()).item()


def batches(cfg, count: int, *, seed: int = 7, start_iter: int = 0, mapper=draw) -> list[list]:
    loader = build_train_loader(cfg, mapper, seed=seed, start_iter=start_iter)
    return list(islice(loader, count))


def test_the_same_seed_gives_the_same_samples(name: str) -> None:
    first, second = (batches(config(name), 4) for _ in range(2))
    assert first == second
    assert batches(config(name), 4, seed=8) != first


def test_workers_change_nothing(name: str) -> None:
    alone = batches(config(name), 4)
    assert batches(config(name, DATALOADER__NUM_WORKERS=2), 4) == alone


def test_real_samples_do_not_depend_on_workers_either(name: str) -> None:
    cfg = config(name)
    parallel = config(name, DATALOADER__NUM_WORKERS=2)
    alone, workers = (
        [item for batch in batches(c, 2, mapper=SemSegMapper(c)) for item in batch]
        for c in (cfg, parallel)
    )
    assert len(alone) == 2 * BATCH
    for a, b in zip(alone, workers, strict=True):
        assert torch.equal(a["image"], b["image"])
        assert torch.equal(a["sem_seg"], b["sem_seg"])


def many_tensors(item: dict) -> tuple:
    """A mapper with more tensors than a process may have open files, and OpenCV's threads."""
    return cv2.getNumThreads(), [torch.full((1,), index) for index in range(300)]


def test_workers_have_one_thread_and_no_open_file_for_each_tensor(name: str) -> None:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    strategy, threads = torch.multiprocessing.get_sharing_strategy(), cv2.getNumThreads()
    cfg = config(name, DATALOADER__NUM_WORKERS=1)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, before[1]))
    try:
        (batch,) = batches(cfg, 1, mapper=many_tensors)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
    assert [threads for threads, _ in batch] == [1] * BATCH
    assert all(torch.cat(tensors).tolist() == list(range(300)) for _, tensors in batch)
    assert torch.multiprocessing.get_sharing_strategy() == strategy
    assert cv2.getNumThreads() == threads


@pytest.mark.parametrize("start", [1, 3])
def test_a_later_start_gives_the_tail_of_the_stream(name: str, start: int) -> None:
    assert batches(config(name), 3, start_iter=start) == batches(config(name), 3 + start)[start:]


def test_a_later_start_counts_accumulated_parts_as_one_iteration(name: str) -> None:
    cfg = config(name, SOLVER__ACCUMULATION_STEPS=2)
    parts = batches(cfg, 6)
    assert {len(part) for part in parts} == {BATCH // 2}
    assert batches(cfg, 4, start_iter=1) == parts[2:]
    # The images of an update are the same as without accumulation.
    whole = batches(config(name), 3)
    assert [a + b for a, b in zip(parts[::2], parts[1::2], strict=True)] == whole


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[int, int], None]:
    """Make the code believe that it runs in process `rank` of `world_size`."""

    def set_process(rank: int, world_size: int) -> None:
        monkeypatch.setattr(comm, "get_rank", lambda: rank)
        monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
        monkeypatch.setattr(detectron2_build, "get_world_size", lambda: world_size)

    return set_process


@pytest.mark.parametrize("start", [0, 2])
def test_two_processes_share_the_stream_of_one(name: str, pretend: Callable, start: int) -> None:
    alone = batches(config(name), 3, start_iter=start)
    of_rank = []
    for rank in (0, 1):
        pretend(rank, 2)
        of_rank.append(batches(config(name), 3, start_iter=start))
    for whole, *halves in zip(alone, *of_rank, strict=True):
        assert [len(half) for half in halves] == [BATCH // 2] * 2
        assert sorted(halves[0] + halves[1]) == sorted(whole)


def test_every_image_comes_once_before_any_comes_again(name: str) -> None:
    files = [item[0] for batch in batches(config(name), 5) for item in batch]
    assert len(files) == 20
    for epoch in range(4):
        assert len(set(files[5 * epoch : 5 * epoch + 5])) == 5


def test_the_same_image_is_augmented_differently_each_time(name: str) -> None:
    draws = [item[1:] for batch in batches(config(name), 5) for item in batch]
    assert len(set(draws)) == len(draws)


def test_loading_leaves_the_global_generators_alone(name: str) -> None:
    stream = iter(build_train_loader(config(name), draw, seed=7))
    next(stream)

    def states() -> tuple:
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
        )

    before = states()
    for _ in range(3):
        next(stream)
    assert states() == before


def test_generators_are_put_back_after_an_error(name: str) -> None:
    def fail(item: dict) -> None:
        random.random()
        raise RuntimeError("broken image")

    before = random.getstate()
    with pytest.raises(RuntimeError, match="broken image"):
        batches(config(name), 1, mapper=fail)
    assert random.getstate() == before


def test_several_datasets_are_concatenated(name: str, tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_images=3, seed=1)
    with registered_cityscapes(tmp_path) as other:
        stream = batches(config(name, DATASETS__TRAIN=(name, other)), 2)
    files = [item[0] for batch in stream for item in batch]
    assert len(set(files)) == 8
    assert sum(str(tmp_path) in file for file in files) == 3


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ({}, {"002.jpg", "003.jpg"}),
        ({"DATALOADER__FILTER_EMPTY_ANNOTATIONS": False}, {"001.jpg", "002.jpg", "003.jpg"}),
        ({"MODEL__KEYPOINT_ON": True}, {"003.jpg"}),
    ],
)
def test_detectors_train_on_images_that_have_something(
    tmp_path: Path, overrides: dict, expected: set[str]
) -> None:
    write_coco(tmp_path / "coco")
    file = tmp_path / "coco/instances.json"
    content = json.loads(file.read_text())
    content["annotations"] = [item for item in content["annotations"] if item["image_id"] != 1]
    for item in content["annotations"]:
        if item["image_id"] == 2:
            item["keypoints"] = [0] * 51
    file.write_text(json.dumps(content))
    with registered_coco(tmp_path / "coco") as names:
        drawn = batches(config(names.people, **overrides), 2)
    assert {Path(sample[0]).name for batch in drawn for sample in batch} == expected


@pytest.mark.parametrize(("batch_size", "steps"), [(3, 2), (2, 4)])
def test_a_batch_that_cannot_be_divided_is_refused(name: str, batch_size: int, steps: int) -> None:
    cfg = config(name, SOLVER__IMS_PER_BATCH=batch_size, SOLVER__ACCUMULATION_STEPS=steps)
    with pytest.raises(
        ValueError, match=rf"IMS_PER_BATCH {batch_size} must be a multiple .*{steps}"
    ):
        build_train_loader(cfg, draw, seed=0)


def test_a_batch_must_divide_among_processes(name: str, pretend: Callable) -> None:
    pretend(0, 3)
    with pytest.raises(ValueError, match=r"IMS_PER_BATCH 4 .*3 processes"):
        build_train_loader(config(name), draw, seed=0)


def test_an_unknown_sampler_is_refused_with_the_known_ones(name: str) -> None:
    cfg = config(name, DATALOADER__SAMPLER_TRAIN="RepeatFactorTrainingSampler")
    with pytest.raises(ValueError, match=r"SAMPLER_TRAIN is 'Repeat.*'TrainingSampler'"):
        build_train_loader(cfg, draw, seed=0)


def test_the_test_loader_gives_every_image_once_and_alone(name: str) -> None:
    loader = build_test_loader(config(name), name, lambda item: item["file_name"])
    loaded = list(loader)
    assert [len(batch) for batch in loaded] == [1] * 5
    expected = [item["file_name"] for item in load_dataset_dicts(name)]
    assert [file for (file,) in loaded] == expected


def test_a_mapper_may_choose_the_test_samples_and_their_batches(name: str) -> None:
    class EveryOther(ImageMapper):
        test_batch_size = 2

        def select(self, dataset_dicts: list[dict]) -> list[dict]:
            return dataset_dicts[::2]

        def __call__(self, item: dict) -> str:
            return item["file_name"]

    loaded = list(build_test_loader(config(name), name, EveryOther(False, "RGB")))
    expected = [item["file_name"] for item in load_dataset_dicts(name)][::2]
    assert loaded == [expected[:2], expected[2:]]


def test_a_missing_folder_is_named_with_its_dataset(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETECTRON2_DATASETS", "/somewhere")
    with (
        registered_cityscapes(tmp_path / "gone") as missing,
        pytest.raises(
            FileNotFoundError,
            match=rf"{missing}.*{tmp_path}/gone/leftImg8bit.*DETECTRON2_DATASETS is /somewhere",
        ),
    ):
        load_dataset_dicts(missing)


def test_an_empty_folder_is_named_with_its_dataset(tmp_path: Path) -> None:
    for part in ("leftImg8bit", "gtFine"):
        (tmp_path / part).mkdir()
    with (
        registered_cityscapes(tmp_path) as empty,
        pytest.raises(FileNotFoundError, match=rf"{empty}.*image_dir {tmp_path}/leftImg8bit"),
    ):
        load_dataset_dicts(empty)


def test_an_image_without_ground_truth_is_named(tmp_path: Path) -> None:
    write_cityscapes(tmp_path, num_images=1)
    (truth,) = tmp_path.glob("gtFine/*/*_labelTrainIds.png")
    truth.unlink()
    with (
        registered_cityscapes(tmp_path) as broken,
        pytest.raises(FileNotFoundError, match=rf"{broken}.*labelTrainIds"),
    ):
        load_dataset_dicts(broken)


def test_an_unknown_dataset_is_named_with_those_near_it() -> None:
    with pytest.raises(ValueError, match=r"'ade20k_sem_seg_vall' \(near: ade20k_sem") as error:
        load_dataset_dicts("ade20k_sem_seg_vall")
    assert "DETECTRON2_ENV_MODULE" in str(error.value)
    with pytest.raises(ValueError, match=r"registered as '_'\. Your own"):
        load_dataset_dicts(["_"])


def test_a_dataset_whose_package_is_missing_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "lvis", None)  # importing it fails
    message = "dataset 'lvis_v1_val' needs the package lvis: pip install --no-deps"
    with pytest.raises(InputError, match=message):
        load_dataset_dicts("lvis_v1_val")
