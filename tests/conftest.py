"""Settings and fixtures of all tests. pytest puts this folder on the path: `import helpers`."""

import gc
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

# Before anything imports diffusers: no test may reach the network.
os.environ["HF_HUB_OFFLINE"] = "1"
# Tools that tests start: spinning threads of several processes would starve each other.
os.environ["OMP_NUM_THREADS"] = "1"

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let tests marked `gpu` run what a CPU can of them."""
    parser.addoption("--test-device", default="cuda", help="device of the tests marked gpu")


def pytest_collection_finish() -> None:
    """Spare the garbage collector what was imported: half a second, each time it collects."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _one_thread() -> None:
    """Results are bit-stable for a fixed number of threads only."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """Every test draws the same random numbers, whatever ran before it."""
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Processes of a launch are forks of this one: spawned ones would import everything first."""
    if not torch.cuda.is_available():  # which forks can't use
        forked = partial(torch.multiprocessing.start_processes, start_method="fork")
        monkeypatch.setattr(torch.multiprocessing, "start_processes", forked)


@pytest.fixture(autouse=True)
def _loggers_as_before() -> Iterator[None]:
    """A set-up of logging adds handlers whose streams are closed after the test."""
    from loggers import loggers_as_before

    with loggers_as_before():
        yield


@pytest.fixture
def empty_catalogs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget all registered datasets until the test ends."""
    from detectron2.data import DatasetCatalog, MetadataCatalog

    for catalog in (DatasetCatalog, MetadataCatalog):
        monkeypatch.setattr(catalog, "data", {})


@pytest.fixture(scope="session")
def golden() -> Path:
    """Folder with outputs of the official code on random weights."""
    return _existing(SHARED / "golden")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder with a few real images, laid out as DETECTRON2_DATASETS."""
    return _existing(SHARED / "real-data")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        pytest.skip(f"{folder.parent.name}/{folder.name} isn't next to this checkout")
    return folder
