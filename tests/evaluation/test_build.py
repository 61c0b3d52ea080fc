"""The table of evaluators: Detectron2's own for its datasets of instances."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from coco_files import CocoNames, registered_coco, write_coco
from detectron2.evaluation import (
    CityscapesInstanceEvaluator,
    COCOEvaluator,
    PascalVOCDetectionEvaluator,
)
from helpers import smallest_cfg

from metaprompt_d2.evaluation import CheckedSemSegEvaluator, build, build_evaluators, outputs
from metaprompt_d2.evaluation.cityscapes import DistributedCityscapesSemSegEvaluator
from metaprompt_d2.evaluation.instances import ThingsEvaluator
from metaprompt_d2.evaluation.panoptic import PanopticQualityEvaluator
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
    tmp_path: Path,
) -> None:
    assert kinds("cityscapes_fine_panoptic_val", tmp_path) == [
        DistributedCityscapesSemSegEvaluator,
        CityscapesInstanceEvaluator,
        PanopticQualityEvaluator,
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
    assert kinds(coco.panoptic, tmp_path)[-1] is PanopticQualityEvaluator
    monkeypatch.setattr(outputs, "find_spec", lambda name: None)
    assert kinds(coco.panoptic, tmp_path) == [CheckedSemSegEvaluator, COCOEvaluator]
    assert "needs panopticapi: pip install -e '.[panoptic]'" in caplog.text


SEMANTIC, PANOPTIC, INSTANCE = (
    f"MODEL.MASK2FORMER.TEST.{key}" for key in ("SEMANTIC_ON", "PANOPTIC_ON", "INSTANCE_ON")
)


def kinds_of_universal(
    monkeypatch: pytest.MonkeyPatch, name: str, output_dir: Path, *on: str
) -> list[type]:
    """Types of the evaluators for a universal model of which these outputs are on."""
    for module in (build, outputs):
        monkeypatch.setattr(module, "find_task", lambda cfg: "universal")
    keys = {key: key in on for key in (SEMANTIC, PANOPTIC, INSTANCE)}
    cfg = smallest_cfg({"OUTPUT_DIR": str(output_dir)} | keys)
    return [type(part) for part in build_evaluators(cfg, name)]


def test_universal_models_are_scored_by_their_outputs(
    coco: CocoNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def scored(name: str, *on: str) -> list[type]:
        return kinds_of_universal(monkeypatch, name, tmp_path, *on)

    assert scored(coco.panoptic, SEMANTIC) == [CheckedSemSegEvaluator]
    assert scored(coco.panoptic, PANOPTIC) == [PanopticQualityEvaluator]
    assert scored(coco.panoptic, INSTANCE) == [ThingsEvaluator]
    everything = [CheckedSemSegEvaluator, PanopticQualityEvaluator, ThingsEvaluator]
    assert scored(coco.panoptic, SEMANTIC, PANOPTIC, INSTANCE) == everything
    assert scored(coco.stuff, SEMANTIC) == [CheckedSemSegEvaluator]
    assert scored(coco.people, INSTANCE) == [ThingsEvaluator]
    cityscapes = "cityscapes_fine_instance_seg_val"
    assert scored(cityscapes, INSTANCE) == [CityscapesInstanceEvaluator]
    assert scored("cityscapes_fine_panoptic_val", PANOPTIC, INSTANCE) == [
        PanopticQualityEvaluator,
        CityscapesInstanceEvaluator,
    ]


def test_outputs_without_ground_truth_are_said_once(
    coco: CocoNames,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    found = kinds_of_universal(monkeypatch, coco.people, tmp_path, SEMANTIC, PANOPTIC, INSTANCE)
    assert found == [ThingsEvaluator]
    said = [text for text in caplog.messages if "no ground truth to score semantic and pan" in text]
    assert len(said) == 1


def test_nothing_to_score_is_an_error(
    coco: CocoNames, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    message = r"ground truth for \['instances'\], .* turns on \['panoptic'\] .*PANOPTIC_ON True"
    with pytest.raises(InputError, match=message):
        kinds_of_universal(monkeypatch, coco.people, tmp_path, PANOPTIC)
