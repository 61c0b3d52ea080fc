"""Official Cityscapes metrics, Detectron2's metrics, and the table that finds evaluators."""

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, DatasetMapper, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.utils import comm
from helpers import registered_cityscapes, tiny_cfg, write_cityscapes
from raw_images import GRAY, png

from metaprompt_d2.evaluation import (
    CheckedSemSegEvaluator,
    DistributedCityscapesSemSegEvaluator,
    MergedEvaluators,
    build_evaluators,
)

ROAD, CAR = 0, 13


@pytest.fixture
def name(tmp_path: Path) -> Iterator[str]:
    write_cityscapes(tmp_path, num_images=3)
    with registered_cityscapes(tmp_path) as name:
        yield name


def truth(item: dict) -> np.ndarray:
    return cv2.imread(item["sem_seg_file_name"], cv2.IMREAD_UNCHANGED)


def logits(classes: np.ndarray) -> dict[str, torch.Tensor]:
    """A sure prediction of the classes, anything where they are ignored."""
    ids = torch.from_numpy(classes.astype(np.int64)) % 19
    return {"sem_seg": torch.nn.functional.one_hot(ids, 19).permute(2, 0, 1).float()}


def all_road(item: dict) -> np.ndarray:
    return np.full_like(truth(item), ROAD)


def score(evaluator: DatasetEvaluator, items: list[dict], predict=truth) -> dict[str, float]:
    evaluator.reset()
    for item in items:
        evaluator.process([item], [logits(predict(item))])
    return evaluator.evaluate()["sem_seg"]


def shares(items: list[dict]) -> tuple[float, float]:
    """Labeled pixels of road and car."""
    labels = np.stack([truth(item) for item in items])
    return (labels == ROAD).sum(), (labels == CAR).sum()


def test_a_perfect_prediction_scores_100(name: str) -> None:
    metrics = score(DistributedCityscapesSemSegEvaluator(name), DatasetCatalog.get(name))
    assert metrics == pytest.approx({"IoU": 100, "iIoU": 100, "IoU_sup": 100, "iIoU_sup": 100})


def test_inputs_of_detectron2s_mapper_are_scored(name: str) -> None:
    """It drops the names of label maps."""
    mapper = DatasetMapper(is_train=False, augmentations=[], image_format="RGB")
    evaluator = DistributedCityscapesSemSegEvaluator(name)
    evaluator.reset()
    for item in DatasetCatalog.get(name):
        evaluator.process([mapper(item)], [logits(truth(item))])
    assert evaluator.evaluate()["sem_seg"]["IoU"] == pytest.approx(100)


def test_a_prediction_of_road_alone_scores_half_of_the_roads_share(name: str) -> None:
    items = DatasetCatalog.get(name)
    metrics = score(DistributedCityscapesSemSegEvaluator(name), items, all_road)
    road, car = shares(items)
    # Road: its pixels over all labeled ones; car: 0. No other class occurs.
    assert metrics["IoU"] == pytest.approx(100 * road / (road + car) / 2)


def test_ignored_pixels_do_not_count(name: str) -> None:
    def wrong_where_ignored(item: dict) -> np.ndarray:
        labels = truth(item)
        return np.where(labels == 255, 7, labels)

    items = DatasetCatalog.get(name)
    metrics = score(DistributedCityscapesSemSegEvaluator(name), items, wrong_where_ignored)
    assert metrics["IoU"] == pytest.approx(100)


def test_predictions_of_other_processes_are_collected(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    items = DatasetCatalog.get(name)
    other = DistributedCityscapesSemSegEvaluator(name)
    other.reset()
    for item in items[1:]:
        other.process([item], [logits(truth(item))])
    files = {file.name: file.read_bytes() for file in Path(other._temp_dir).iterdir()}
    assert len(files) == 2
    monkeypatch.setattr(comm, "gather", lambda own: [own, files])
    metrics = score(DistributedCityscapesSemSegEvaluator(name), items[:1])
    assert metrics["IoU"] == pytest.approx(100)


def test_label_maps_without_an_image_are_named_and_not_scored(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = DatasetCatalog.get(name)[1]["file_name"]
    Path(file).unlink()
    items = DatasetCatalog.get(name)
    assert len(items) == 2
    metrics = score(DistributedCityscapesSemSegEvaluator(name), items)
    assert metrics["IoU"] == pytest.approx(100)
    assert "1 label maps" in caplog.text and "town_000001_000000_gtFine_labelIds" in caplog.text


def test_images_without_a_prediction_are_named(name: str) -> None:
    with pytest.raises(ValueError, match=r"2 of 3 images .* have no prediction"):
        score(DistributedCityscapesSemSegEvaluator(name), DatasetCatalog.get(name)[:1])


def test_label_maps_that_the_official_script_misreads_are_refused(name: str) -> None:
    item = DatasetCatalog.get(name)[0]
    file = Path(item["sem_seg_file_name"].replace("labelTrainIds", "labelIds"))
    file.write_bytes(png(np.full((24, 48), 7), 4, GRAY))
    with pytest.raises(ValueError, match=r"_labelIds\.png has gray values of less than 8 bits"):
        score(DistributedCityscapesSemSegEvaluator(name), [item])


def test_label_maps_are_found_below_any_folder_name(tmp_path: Path) -> None:
    write_cityscapes(tmp_path / "data [1] * ü", num_images=1)
    with registered_cityscapes(tmp_path / "data [1] * ü") as name:
        metrics = score(DistributedCityscapesSemSegEvaluator(name), DatasetCatalog.get(name))
    assert metrics["IoU"] == pytest.approx(100)


def test_predictions_are_removed_after_scoring(name: str) -> None:
    evaluator = DistributedCityscapesSemSegEvaluator(name)
    score(evaluator, DatasetCatalog.get(name))
    assert not Path(evaluator._temp_dir).exists()


def test_detectron2s_metrics_agree_by_hand(name: str) -> None:
    items = DatasetCatalog.get(name)
    road, car = shares(items)
    metrics = score(CheckedSemSegEvaluator(name), items, all_road)
    assert metrics["mIoU"] == pytest.approx(100 * road / (road + car) / 2)
    assert metrics["pACC"] == pytest.approx(100 * road / (road + car))
    assert score(CheckedSemSegEvaluator(name), items)["mIoU"] == pytest.approx(100)


def test_ground_truth_of_another_size_is_refused_by_name(name: str) -> None:
    item = DatasetCatalog.get(name)[0]
    cv2.imwrite(item["sem_seg_file_name"], np.zeros((5, 6), np.uint8))
    with pytest.raises(ValueError, match=r"_labelTrainIds\.png is 5x6.*_leftImg8bit\.png is 24x48"):
        CheckedSemSegEvaluator(name).process([item], [logits(np.zeros((24, 48), np.uint8))])


def test_ground_truth_with_unknown_ids_is_refused_by_name(name: str) -> None:
    item = DatasetCatalog.get(name)[0]
    cv2.imwrite(item["sem_seg_file_name"], np.full((24, 48), 33, np.uint8))
    with pytest.raises(ValueError, match=r"_labelTrainIds\.png holds ids \[33\]"):
        CheckedSemSegEvaluator(name).process([item], [logits(np.zeros((24, 48), np.uint8))])


def test_a_cityscapes_dataset_gets_both_scorers_and_their_metrics_merge(
    name: str, tmp_path: Path
) -> None:
    cfg = tiny_cfg({"OUTPUT_DIR": str(tmp_path / "out")})
    evaluators = build_evaluators(cfg, name)
    assert [type(evaluator) for evaluator in evaluators] == [
        DistributedCityscapesSemSegEvaluator,
        CheckedSemSegEvaluator,
    ]
    metrics = score(MergedEvaluators(evaluators), DatasetCatalog.get(name))
    assert (metrics["IoU"], metrics["mIoU"]) == pytest.approx((100, 100))
    assert (tmp_path / "out/inference" / name / "sem_seg_predictions.json").is_file()


def test_an_unknown_evaluator_type_is_refused_with_the_known_ones() -> None:
    dataset = "test_dataset_of_no_known_type"
    MetadataCatalog.get(dataset).evaluator_type = "unheard_of"
    try:
        with pytest.raises(ValueError, match=rf"'{dataset}' .*'unheard_of'.*'cityscapes_sem_seg'"):
            build_evaluators(tiny_cfg(), dataset)
    finally:
        MetadataCatalog.remove(dataset)
