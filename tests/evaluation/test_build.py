"""The table of evaluators: Detectron2's own for its datasets of instances."""

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
