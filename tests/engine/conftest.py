"""A small dataset in Cityscapes' format for the trainers."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from helpers import registered_cityscapes
from training_features import make_data


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


@pytest.fixture
def data(root: Path) -> Iterator[str]:
    """The name under which the dataset is registered."""
    with registered_cityscapes(root) as name:
        yield name
