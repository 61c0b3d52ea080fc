"""A small dataset for all tests of Detectron2's models and backbones."""

from collections.abc import Iterator

import pytest
from coco_files import CocoNames, registered_coco, write_coco
from depth_files import write_pair
from detectron2.data import DatasetCatalog, MetadataCatalog

from metaprompt_d2.data import register_keypoints
from metaprompt_d2.data.datasets.coco_topdown import COCO_PERSON
from metaprompt_d2.data.datasets.depth_lists import pair_dicts


@pytest.fixture(scope="session")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CocoNames]:
    root = tmp_path_factory.mktemp("coco")
    write_coco(root)
    with registered_coco(root) as names:
        yield names


@pytest.fixture(scope="session")
def topdown(coco: CocoNames) -> Iterator[str]:
    """The people of `coco`, one sample per person."""
    metadata = MetadataCatalog.get(coco.people)
    name = f"{coco.people}_topdown"
    register_keypoints(name, metadata.json_file, metadata.image_root, **COCO_PERSON)
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)


@pytest.fixture(scope="session")
def depth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    root = tmp_path_factory.mktemp("depth")
    files = root / "image.png", root / "depth.png"
    write_pair(*files, height=64, width=96)
    name = f"test_{root.name}"
    DatasetCatalog.register(name, lambda: pair_dicts([tuple(map(str, files))], 256.0, str))
    MetadataCatalog.get(name).set(
        evaluator_type="depth", crop="none", min_depth=1e-3, max_depth=80.0
    )
    yield name
    DatasetCatalog.remove(name)
    MetadataCatalog.remove(name)
