"""The table of evaluators: Detectron2's own for its datasets of instances."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from coco_files import CocoNames, registered_coco, write_coco
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    COCOPanopticEvaluator,
    PascalVOCDetectionEvaluator,
)
from helpers import smallest_cfg

from metaprompt_d2.evaluation import CheckedSemSegEvaluator, build, build_evaluators
from metaprompt_d2.evaluation.cityscapes import DistributedCityscapesSemSegEvaluator
from metaprompt_d2.utils.errors import InputError


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CocoNames]:
    root = tmp_path_factory.mktemp("coco")
    write_coco(root)
    with registered_coco(root) as names:
        yield names


def kinds(name: str, output_dir: Path) -> list[type]:
    return [
        type(part) for part in build_evaluators(smallest_cfg({"OUTPUT_DIR": str(output_dir)}), name)
    ]


def test_instances_have_detectron2s_evaluators(coco: CocoNames, tmp_path: Path) -> None:
    assert kinds(coco.people, tmp_path) == [COCOEvaluator]
    assert kinds(coco.stuff, tmp_path) == [CheckedSemSegEvaluator]
    assert kinds("voc_2007_val", tmp_path) == [PascalVOCDetectionEvaluator]
    assert kinds("cityscapes_fine_instance_seg_val", tmp_path) == [CityscapesInstanceEvaluator]


def test_cityscapes_panoptic_segmentation_has_all_evaluators_of_cityscapes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: object())
    assert kinds("cityscapes_fine_panoptic_val", tmp_path) == [
        DistributedCityscapesSemSegEvaluator,
        CityscapesInstanceEvaluator,
        COCOPanopticEvaluator,
    ]


def test_a_package_that_lvis_needs_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lvis", None)  # importing it fails
    message = r"'lvis_v1_val', 'lvis', needs the package lvis: pip install --no-deps"
    with pytest.raises(InputError, match=message):
        kinds("lvis_v1_val", tmp_path)


def test_panoptic_quality_is_scored_where_its_scorer_is_installed(
    coco: CocoNames,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(build, "find_spec", lambda name: None)
    assert kinds(coco.panoptic, tmp_path) == [CheckedSemSegEvaluator, COCOEvaluator]
    assert "needs panopticapi" in caplog.text
    monkeypatch.setattr(build, "find_spec", lambda name: object())
    assert kinds(coco.panoptic, tmp_path)[-1] is COCOPanopticEvaluator
