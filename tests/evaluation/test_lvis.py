"""Detectron2's LVIS evaluator runs with a package lvis that reads `numpy.float`."""

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.structures import Boxes, Instances

from metaprompt_d2.evaluation.lvis import PortedLVISEvaluator


class Annotations:
    def __init__(self, file: str):
        self.file = file

    def get_ann_ids(self) -> list[int]:
        return [1]


class Scorer:
    """As lvis 0.5.3: converts by a name that NumPy 1.24 removed."""

    def __init__(self, truth: Annotations, results: list[dict], iou_type: str):
        self.scores = [result["score"] for result in results]

    def run(self) -> None:
        self.mean = np.cumsum(self.scores).astype(np.float)[-1] / len(self.scores)

    def print_results(self) -> None:
        pass

    def get_results(self) -> dict[str, float]:
        return dict.fromkeys("AP AP50 AP75 APs APm APl APr APc APf".split(), self.mean)


@pytest.fixture
def _lvis(monkeypatch: pytest.MonkeyPatch) -> None:
    lvis = ModuleType("lvis")
    lvis.LVIS, lvis.LVISEval = Annotations, Scorer
    lvis.LVISResults = lambda truth, results, max_dets: results
    monkeypatch.setitem(sys.modules, "lvis", lvis)


@pytest.mark.usefixtures("_lvis")
def test_numpy_has_the_name_while_lvis_scores(tmp_path: Path) -> None:
    MetadataCatalog.get("test_lvis").json_file = str(tmp_path / "lvis.json")
    try:
        evaluator = PortedLVISEvaluator("test_lvis", output_dir=str(tmp_path))
        evaluator.reset()
        found = Instances((8, 8), pred_boxes=Boxes(torch.tensor([[0.0, 0.0, 4.0, 4.0]] * 2)))
        found.scores, found.pred_classes = torch.tensor([0.75, 0.25]), torch.tensor([0, 1])
        evaluator.process([{"image_id": 1}], [{"instances": found}])
        assert evaluator.evaluate()["bbox"]["AP"] == 50.0
    finally:
        MetadataCatalog.remove("test_lvis")
    assert not hasattr(np, "float")
