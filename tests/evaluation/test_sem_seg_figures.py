"""The official scorer beside Detectron2's, and ground truth that doesn't fit."""

from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers import registered_cityscapes, smallest_cfg, write_cityscapes

from metaprompt_d2.evaluation import MergedEvaluators, build_evaluators
from metaprompt_d2.reading import read_labels


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[str]:
    write_cityscapes(tmp_path / "data", num_images=3)
    with registered_cityscapes(tmp_path / "data") as name:
        yield name


def evaluate(dataset: str, output_dir: Path, predict) -> OrderedDict:
    cfg = smallest_cfg({"OUTPUT_DIR": str(output_dir)})
    evaluator = MergedEvaluators(build_evaluators(cfg, dataset))
    evaluator.reset()
    for item in DatasetCatalog.get(dataset):
        labels = torch.from_numpy(predict(read_labels(item["sem_seg_file_name"])).astype(np.int64))
        logits = torch.nn.functional.one_hot(labels, 19).permute(2, 0, 1).float()
        evaluator.process([item], [{"sem_seg": logits}])
    return evaluator.evaluate()


def test_false_positives_of_an_absent_class_lower_the_official_mean_only_further(
    dataset: str, tmp_path: Path
) -> None:
    def bus_in_the_last_column(labels: np.ndarray) -> np.ndarray:
        labels = np.where(labels == 255, 0, labels)
        labels[:, -1] = 15
        return labels

    figures = evaluate(dataset, tmp_path, bus_in_the_last_column)["sem_seg"]
    # Road and car in the mean of one, road, car and bus (0) in that of the other.
    assert figures["IoU"] == pytest.approx(figures["mIoU"] * 2 / 3, rel=1e-4)


def test_ground_truth_of_another_size_is_named(dataset: str, tmp_path: Path) -> None:
    file = DatasetCatalog.get(dataset)[1]["sem_seg_file_name"]
    cv2.imwrite(file, np.zeros((20, 48), np.uint8))
    with pytest.raises(ValueError, match=f"{file} is 20x48"):
        evaluate(dataset, tmp_path, lambda labels: np.zeros((24, 48)))


def test_ground_truth_with_unknown_ids_is_named(dataset: str, tmp_path: Path) -> None:
    file = DatasetCatalog.get(dataset)[2]["sem_seg_file_name"]
    cv2.imwrite(file, np.full((24, 48), 26, np.uint8))
    with pytest.raises(ValueError, match=rf"{file} holds ids \[26\]"):
        evaluate(dataset, tmp_path, lambda labels: np.zeros((24, 48)))


def test_an_unknown_evaluator_type_is_refused_with_the_known_ones(tmp_path: Path) -> None:
    MetadataCatalog.get("a_test_without_evaluator").set(evaluator_type="lvis")
    with pytest.raises(ValueError, match="'lvis', expected one of .*cityscapes_sem_seg"):
        build_evaluators(smallest_cfg(), "a_test_without_evaluator")
