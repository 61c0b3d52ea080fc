"""Panoptic quality: against an own computation, on one process and two, and bad input."""

import json
from collections import defaultdict
from collections.abc import Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import launch
from detectron2.evaluation import COCOPanopticEvaluator
from detectron2.utils import comm

from metaprompt_d2.data import load_dataset_dicts, register_panoptic
from metaprompt_d2.evaluation.panoptic import PanopticQualityEvaluator
from metaprompt_d2.utils.errors import InputError

NAME = "test_panoptic_quality"
HEIGHT, WIDTH, IMAGES = 24, 32, 5
# Classes 0, 2 and 3 are stuff, 1 and 4 things; their ids in the file are 10 more.
THINGS = {1, 4}
CATEGORIES = [
    {"id": index + 10, "name": f"class {index}", "isthing": int(index in THINGS)}
    for index in range(5)
]
Segments = tuple[np.ndarray, list[dict]]


def random_segments(random: np.random.Generator, *, crowds: bool) -> Segments:
    """Ids (H, W) of a few boxes over each other, with holes, and their list; 0 is void."""
    ids = np.zeros((HEIGHT, WIDTH), np.int32)
    infos = []
    for number in range(1, 9):
        y, x = random.integers(0, HEIGHT - 6), random.integers(0, WIDTH - 6)
        rows, columns = random.integers(4, 16, 2)
        ids[y : y + rows, x : x + columns] = number * 300
        category = int(random.integers(0, 5))
        crowd = int(crowds and category in THINGS and random.random() < 0.3)
        infos.append({"id": number * 300, "category_id": category, "iscrowd": crowd})
    ids[random.random((HEIGHT, WIDTH)) < 0.05] = 0
    there = [info for info in infos if (ids == info["id"]).any()]
    taken: set[int] = set()
    for info in there:  # one segment for each stuff class, one crowd for each thing class
        key = info["category_id"] + 100 * info["iscrowd"]
        once = info["iscrowd"] or info["category_id"] not in THINGS
        if once and key in taken:
            ids[ids == info["id"]] = 0
        taken |= {key} if once else set()
    return ids, [info for info in there if (ids == info["id"]).any()]


def changed(random: np.random.Generator, truth: Segments) -> Segments:
    """The truth moved by a pixel or two, with some other classes and segments."""
    ids, infos = np.roll(truth[0], random.integers(-2, 3, 2), axis=(0, 1)), truth[1]
    other_ids, other_infos = random_segments(random, crowds=False)
    where = random.random((HEIGHT // 8, WIDTH // 8)) < 0.25
    where = where.repeat(8, axis=0).repeat(8, axis=1)
    ids = np.where(where, np.where(other_ids > 0, other_ids + 7, 0), ids)
    both = [*infos, *({**info, "id": info["id"] + 7} for info in other_infos)]
    return ids, [
        {"id": info["id"], "category_id": info["category_id"]}
        for info in both
        if (ids == info["id"]).any()
    ]


def quality(pairs: list[tuple[Segments, Segments]]) -> dict[str, float]:
    """PQ, SQ and RQ in percent, from the formulas of the paper (arXiv 1801.00868)."""
    counts: dict[int, np.ndarray] = defaultdict(lambda: np.zeros(4))  # IoU, TP, FP, FN
    for (true_ids, true_infos), (ids, infos) in pairs:
        masks = [(ids == info["id"], info["category_id"]) for info in infos]
        wanted = [
            (true_ids == info["id"], info["category_id"], info["iscrowd"]) for info in true_infos
        ]
        void = true_ids == 0
        matched = set()
        for true_mask, category, crowd in wanted:
            if crowd:
                continue
            found = False
            for number, (mask, predicted) in enumerate(masks):
                inter, union = (true_mask & mask).sum(), (true_mask | mask & ~void).sum()
                if predicted == category and inter / union > 0.5:
                    counts[category] += (inter / union, 1, 0, 0)
                    matched.add(number)
                    found = True
            counts[category] += (0, 0, 0, not found)
        for number, (mask, category) in enumerate(masks):
            ignored = void.copy()
            for true_mask, label, crowd in wanted:
                if crowd and label == category:
                    ignored |= true_mask
            if number not in matched and (mask & ignored).sum() <= 0.5 * mask.sum():
                counts[category] += (0, 0, 1, 0)
    results = {}
    for suffix, classes in (("", range(5)), ("_th", THINGS), ("_st", {0, 2, 3})):
        rows = [counts[label] for label in classes if counts[label][1:].any()]
        recognition = [tp / (tp + fp / 2 + fn / 2) for _, tp, fp, fn in rows]
        segmentation = [iou / tp if tp else 0 for iou, tp, _, _ in rows]
        both = np.multiply(recognition, segmentation)
        for name, values in (("PQ", both), ("SQ", segmentation), ("RQ", recognition)):
            results[name + suffix] = 100 * float(np.mean(values))
    return results


@pytest.fixture
def truths(tmp_path: Path) -> Iterator[list[Segments]]:
    """A registered dataset; image ids are 0, 1, ..."""
    random = np.random.default_rng(0)
    segments = [random_segments(random, crowds=True) for _ in range(IMAGES)]
    images, notes = [], []
    for number, (ids, infos) in enumerate(segments):
        cv2.imwrite(str(tmp_path / f"{number}.jpg"), np.zeros((HEIGHT, WIDTH, 3), np.uint8))
        colors = np.stack([ids // 65536, ids // 256, ids % 256], axis=-1).astype(np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), colors)
        images.append({"id": number, "file_name": f"{number}.jpg"})
        listed = [info | {"category_id": info["category_id"] + 10} for info in infos]
        notes.append({"image_id": number, "file_name": f"{number}.png", "segments_info": listed})
    content = {"images": images, "annotations": notes, "categories": CATEGORIES}
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    register_panoptic(NAME, str(tmp_path / "panoptic.json"), str(tmp_path), str(tmp_path))
    yield segments
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def output(segments: Segments) -> dict:
    ids, infos = segments
    listed = [
        {
            "id": info["id"],
            "category_id": info["category_id"],
            "isthing": info["category_id"] in THINGS,
        }
        for info in infos
    ]
    return {"panoptic_seg": (torch.from_numpy(ids), listed)}


def score(predictions: list[Segments], order: list[int] | None = None) -> dict[str, float]:
    evaluator = PanopticQualityEvaluator(NAME)
    evaluator.reset()
    items = load_dataset_dicts(NAME)
    for number in range(len(predictions)) if order is None else order:
        evaluator.process([items[number]], [output(predictions[number])])
    results = evaluator.evaluate()
    assert results is not None and list(results) == ["panoptic_seg"]
    return results["panoptic_seg"]


def test_it_is_the_formula_of_the_paper(truths: list[Segments]) -> None:
    random = np.random.default_rng(1)
    predictions = [changed(random, truth) for truth in truths]
    expected = quality(list(zip(truths, predictions, strict=True)))
    assert 20 < expected["PQ"] < 80 and expected["PQ_th"] != expected["PQ_st"]
    found = score(predictions)
    assert found == pytest.approx(expected, abs=1e-9)
    assert score(predictions, [0, 1, 1, 2, 3, 4, 0]) == found  # repeated images count once


def test_it_is_detectron2s_result(
    truths: list[Segments], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Processes that panopticapi forks from one with threads, such as this one, may wait forever.
    monkeypatch.setattr("multiprocessing.Pool", ThreadPool)
    random = np.random.default_rng(2)
    predictions = [changed(random, truth) for truth in truths]
    content = json.loads((tmp_path / "panoptic.json").read_text())
    for note, (ids, _) in zip(content["annotations"], truths, strict=True):
        for segment in note["segments_info"]:
            segment["area"] = int((ids == segment["id"]).sum())
    (tmp_path / "panoptic.json").write_text(json.dumps(content))  # which panopticapi needs
    theirs = COCOPanopticEvaluator(NAME, str(tmp_path / "out"))
    theirs.reset()
    for item, prediction in zip(load_dataset_dicts(NAME), predictions, strict=True):
        theirs.process([item], [output(prediction)])
    assert score(predictions) == pytest.approx(theirs.evaluate()["panoptic_seg"], abs=1e-9)


def test_perfect_predictions_have_100_percent(truths: list[Segments]) -> None:
    perfect = []
    for ids, infos in truths:
        crowds = [info["id"] for info in infos if info["iscrowd"]]
        perfect.append(
            (
                np.where(np.isin(ids, crowds), 0, ids),
                [info for info in infos if not info["iscrowd"]],
            )
        )
    found = score(perfect)
    assert found == dict.fromkeys(found, 100.0) and len(found) == 9


def test_images_without_predicted_segments_are_misses(truths: list[Segments]) -> None:
    empty = (np.zeros((HEIGHT, WIDTH), np.int32), [])
    predictions = [empty, *truths[1:]]
    expected = quality(list(zip(truths, predictions, strict=True)))
    assert score(predictions) == pytest.approx(expected, abs=1e-9)
    found = score([empty] * IMAGES)
    assert found == dict.fromkeys(found, 0.0)


def test_the_outputs_are_not_changed(truths: list[Segments]) -> None:
    evaluator = PanopticQualityEvaluator(NAME)
    evaluator.reset()
    (item, *_), given = load_dataset_dicts(NAME), output(truths[0])
    ids, infos = given["panoptic_seg"][0].clone(), json.dumps(given["panoptic_seg"][1])
    evaluator.process([item], [given])
    assert torch.equal(given["panoptic_seg"][0], ids)
    assert json.dumps(given["panoptic_seg"][1]) == infos
    # Panoptic-DeepLab's format: classes times 1000 plus a number, and -1.
    encoded = torch.full((HEIGHT, WIDTH), -1)
    evaluator.reset()
    evaluator.process([item], [{"panoptic_seg": (encoded, None)}])
    assert (encoded == -1).all()


def test_kinds_without_segments_are_left_out(
    truths: list[Segments], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    content = json.loads((tmp_path / "panoptic.json").read_text())
    predictions = []
    for note, (ids, infos) in zip(content["annotations"], truths, strict=True):
        stuff = [info for info in infos if info["category_id"] not in THINGS]
        ids = np.where(np.isin(ids, [info["id"] for info in stuff]), ids, 0)
        colors = np.stack([ids // 65536, ids // 256, ids % 256], axis=-1).astype(np.uint8)
        cv2.imwrite(str(tmp_path / note["file_name"]), colors)
        note["segments_info"] = [
            part for part in note["segments_info"] if part["category_id"] - 10 not in THINGS
        ]
        predictions.append((ids, stuff))
    (tmp_path / "panoptic.json").write_text(json.dumps(content))
    found = score(predictions)
    assert set(found) == {f"{name}{kind}" for name in ("PQ", "SQ", "RQ") for kind in ("", "_st")}
    assert set(found.values()) == {100.0}
    assert "no image has segments of things" in caplog.text


def score_share(file: str) -> None:
    """Score a share of the images on each of two processes; both have the third."""
    random = np.random.default_rng(1)
    predictions = [changed(random, truth) for truth in torch.load(file, weights_only=False)]
    items = load_dataset_dicts(NAME)
    evaluator = PanopticQualityEvaluator(NAME)
    evaluator.reset()
    for number in ([0, 1, 2], [2, 3, 4])[comm.get_rank()]:
        evaluator.process([items[number]], [output(predictions[number])])
    results = evaluator.evaluate()
    if comm.is_main_process():
        torch.save(dict(results["panoptic_seg"]), f"{file}.results")
    else:
        assert results is None


def test_two_processes_score_as_one(truths: list[Segments], tmp_path: Path) -> None:
    file = str(tmp_path / "truths.pth")
    torch.save(truths, file)
    launch(score_share, 2, dist_url="auto", args=(file,))
    random = np.random.default_rng(1)
    assert torch.load(f"{file}.results") == score([changed(random, truth) for truth in truths])


def test_missing_predictions_are_named(truths: list[Segments]) -> None:
    with pytest.raises(InputError, match=r"2 of 5 images .*have no panoptic .* 1\.png, 3"):
        score(truths, [0, 2, 4])


def test_bad_input_is_explained(truths: list[Segments], tmp_path: Path) -> None:
    evaluator = PanopticQualityEvaluator(NAME)
    evaluator.reset()
    item, good = load_dataset_dicts(NAME)[0], output(truths[0])["panoptic_seg"]

    def message(item: dict, ids: torch.Tensor, infos: list[dict]) -> str:
        with pytest.raises(InputError) as caught:
            evaluator.process([item], [{"panoptic_seg": (ids, infos)}])
        assert "\n" not in str(caught.value)
        return str(caught.value)

    thing = {"id": 300, "category_id": 0, "isthing": True}
    assert "0.jpg: a predicted segment is the thing 0, dataset" in message(item, good[0], [thing])
    unknown = thing | {"isthing": False, "category_id": 9}
    assert "is the stuff 9" in message(item, good[0], [unknown])
    assert "has the image_id 'x'" in message(item | {"image_id": "x"}, *good)
    assert "0.png is 24x32" in message(item, good[0][:, 1:], good[1])
    (tmp_path / "panoptic.json").write_text('{"annotations": []}')
    with pytest.raises(InputError, match=r"panoptic\.json isn't in COCO's panoptic format"):
        evaluator.reset()
    with pytest.raises(InputError, match="has no panoptic_json in its metadata"):
        PanopticQualityEvaluator("coco_2017_val")


def test_nothing_is_printed(truths: list[Segments], capfd: pytest.CaptureFixture) -> None:
    score(truths)
    assert capfd.readouterr().out == ""
