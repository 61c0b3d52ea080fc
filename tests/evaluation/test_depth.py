"""`DepthEvaluator`: mean over images, broken input and predictions, PNGs, several processes."""

import json
import logging
import math
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from depth_files import write_depth, write_pair
from depth_scoring import registered_depth, score_share, twice_as_far, write_depths
from detectron2.data import DatasetCatalog
from detectron2.engine import launch
from helpers import smallest_cfg
from PIL import Image

from metaprompt_d2.evaluation import DepthEvaluator, build_evaluators
from metaprompt_d2.metrics import DEPTH_METRICS

PAGE = Path(__file__).resolve().parents[2] / "docs/depth.md"
RANDOM = np.random.default_rng(0)


def depths(count: int, shape: tuple[int, int] = (6, 8)) -> list[np.ndarray]:
    """Meters that a PNG of millimeters holds exactly."""
    return [RANDOM.integers(1000, 9000, shape) / 1000 for _ in range(count)]


def score(evaluator: DepthEvaluator, items: list[dict], predict=twice_as_far) -> dict[str, float]:
    evaluator.reset()
    for item in items:
        evaluator.process([item], [{"depth": predict(item)}])
    return evaluator.evaluate()["depth"]


def ratio_of(item: dict) -> int:
    """Prediction over truth of `twice_as_far`."""
    return 2 + int(Path(item["depth_file_name"]).stem)


def test_metrics_are_the_mean_over_images(tmp_path: Path) -> None:
    truth = depths(3)
    truth[1][:, 2:] = 0  # an image with few valid pixels counts as much as the others
    items = write_depths(tmp_path, truth)
    with registered_depth(items) as name:
        metrics = score(DepthEvaluator(name), items)
    ratios = [ratio_of(item) for item in items]
    assert metrics["abs_rel"] == pytest.approx(np.mean([ratio - 1 for ratio in ratios]))
    assert metrics["rmse_log"] == pytest.approx(np.mean(np.log(ratios)), rel=1e-6)
    assert metrics["silog"] == pytest.approx(np.mean(np.log(ratios)) * math.sqrt(0.5), rel=1e-6)
    assert metrics["d3"] == 0
    assert metrics.keys() == {
        *DEPTH_METRICS,
        "images",
        "images_without_truth",
        "images_not_finite",
    }
    assert (metrics["images"], metrics["images_without_truth"]) == (3, 0)


def test_an_image_that_comes_twice_counts_once(tmp_path: Path) -> None:
    items = write_depths(tmp_path, depths(2))
    with registered_depth(items) as name:
        assert score(DepthEvaluator(name), [*items, items[1]]) == score(DepthEvaluator(name), items)


def test_two_processes_give_the_metrics_of_one(tmp_path: Path) -> None:
    items = write_depths(tmp_path, depths(3))
    files = [str(tmp_path / "one.json"), str(tmp_path / "two.json")]
    score_share(items, files[0])
    launch(score_share, 2, dist_url="auto", args=(items, files[1]))
    one, two = (json.loads(Path(file).read_text()) for file in files)
    assert one["images"] == 3
    assert two == pytest.approx(one, rel=1e-12)


def test_the_pages_example_scores_a_model_of_another_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TwoMeters(torch.nn.Module):
        def forward(self, inputs: list[dict]) -> list[dict]:
            return [{"depth": item["image"][0] * 0 + 2.0} for item in inputs]

    write_pair(tmp_path / "rooms/0.jpg", tmp_path / "rooms/0_depth.png")
    write_pair(tmp_path / "rooms/1.jpg", tmp_path / "rooms/1_depth.png", 6, 8)
    write_depth(tmp_path / "rooms/1_depth.png", np.full((6, 8), 2500))
    write_depth(tmp_path / "rooms/0_depth.png", np.full((12, 16), 1000))
    monkeypatch.chdir(tmp_path)
    (example,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)
    DatasetCatalog.data.pop("rooms_test", None)  # another test runs the page's example, too
    names: dict = {}
    exec(example, names)
    try:
        metrics = names["evaluate"](TwoMeters())["depth"]
    finally:
        DatasetCatalog.remove("rooms_test")
    assert metrics["rmse"] == pytest.approx((1.0 + 0.5) / 2)
    assert metrics["images"] == 2


# ------------------------------------------------------------------ what is scored


def test_depth_beyond_the_limits_is_not_scored(tmp_path: Path) -> None:
    items = write_depths(tmp_path, [np.array([[0.5, 1.0, 5.0, 20.0]])])
    with registered_depth(items, min_depth=0.7, max_depth=10.0) as name:
        metrics = score(DepthEvaluator(name), items, lambda _: torch.tensor([[9.0, 2.0, 5.0, 1.0]]))
    assert metrics["abs_rel"] == 0.5


def test_the_crop_is_the_datasets_or_the_keys(tmp_path: Path) -> None:
    items = write_depths(tmp_path, [np.ones((480, 640))])
    with registered_depth(items, crop="nyu") as name:
        pred = torch.full((480, 640), 2.0)
        pred[45:471, 41:601] = 1.0
        assert score(DepthEvaluator(name), items, lambda _: pred)["d1"] == 1
        cfg = smallest_cfg({"TEST.DEPTH_EVAL.CROP": "none", "OUTPUT_DIR": str(tmp_path)})
        (evaluator,) = build_evaluators(cfg, name)
        inside = (471 - 45) * (601 - 41) / (480 * 640)
        assert score(evaluator, items, lambda _: pred)["d1"] == pytest.approx(inside)


@pytest.mark.parametrize("shape", [(240, 320), (96, 128), (960, 1280), (200, 640)])
def test_nyus_crop_is_scaled_to_other_frames(
    tmp_path: Path, shape: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """A pixel is scored if its center, scaled to 480x640, lies in rows 45-471, columns 41-601."""
    items = write_depths(tmp_path, [np.ones(shape)])
    rows, columns = ((np.arange(n) + 0.5) * m / n for n, m in zip(shape, (480, 640), strict=True))
    inside = ((rows >= 45) & (rows < 471))[:, None] & ((columns >= 41) & (columns < 601))
    pred = torch.from_numpy(np.where(inside, 1.0, 2.0))
    with registered_depth(items, crop="nyu") as name:
        assert score(DepthEvaluator(name), items, lambda _: pred)["d1"] == 1
        shares = score(DepthEvaluator(name, crop="none"), items, lambda _: pred)["d1"]
    assert shares == pytest.approx(inside.mean())
    assert f"The crop 'nyu' of 480x640 is scaled to {shape[0]}x{shape[1]}" in caplog.text


def test_kitti_ground_truth_is_cropped_to_the_benchmarks_frame(tmp_path: Path) -> None:
    truth = np.zeros((375, 1242))
    truth[23:, 13:1229] = RANDOM.integers(1, 80, (352, 1216))
    items = [item | {"kb_crop": True} for item in write_depths(tmp_path, [truth], scale=256)]
    pred = torch.from_numpy(truth[23:, 13:1229].astype(np.float32))
    with registered_depth(items, max_depth=80.0) as name:
        metrics = score(DepthEvaluator(name), items, lambda _: pred)
    assert (metrics["d1"], metrics["rmse"]) == (1, 0)


# ------------------------------------------------------------------ broken input and predictions


def test_images_without_ground_truth_are_left_out_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    truth = depths(3)
    truth[1][:] = 0
    items = write_depths(tmp_path, truth)
    with registered_depth(items) as name, caplog.at_level(logging.WARNING):
        metrics = score(DepthEvaluator(name), items)
    assert (metrics["images"], metrics["images_without_truth"]) == (2, 1)
    assert metrics["abs_rel"] == pytest.approx((1 + 3) / 2)
    assert "1 images have no pixel with ground truth" in caplog.text
    assert items[1]["file_name"] in caplog.text
    assert items[0]["file_name"] not in caplog.text


def test_a_dataset_without_any_ground_truth_has_no_metrics_but_counts(tmp_path: Path) -> None:
    items = write_depths(tmp_path, [np.zeros((3, 4))] * 2)
    with registered_depth(items) as name:
        metrics = score(DepthEvaluator(name), items)
    assert all(math.isnan(metrics[key]) for key in DEPTH_METRICS)
    assert (metrics["images"], metrics["images_without_truth"]) == (0, 2)


def test_broken_predictions_are_scored_as_officially_counted_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = write_depths(tmp_path, [np.full((1, 4), 5.0), np.full((1, 4), 5.0)])
    preds = [torch.full((1, 4), 5.0), torch.tensor([[math.nan, math.inf, 5.0, 5.0]])]
    values = dict(zip((item["file_name"] for item in items), preds, strict=True))
    with registered_depth(items) as name, caplog.at_level(logging.WARNING):
        metrics = score(DepthEvaluator(name), items, lambda item: values[item["file_name"]])
    assert metrics["images_not_finite"] == 1
    # NaN is 0.001 m, infinity 10 m.
    assert metrics["abs_rel"] == pytest.approx((0.9998 + 1) / 4 / 2, rel=1e-5)
    assert f"{items[1]['file_name']} (1 NaN, 1 infinite)" in caplog.text


def test_a_prediction_of_another_size_names_both_files(tmp_path: Path) -> None:
    (item,) = write_depths(tmp_path, depths(1))
    with registered_depth([item]) as name:
        evaluator = DepthEvaluator(name)
        message = rf"{item['depth_file_name']} is 6x8 .*{item['file_name']} is 6x9"
        with pytest.raises(ValueError, match=message):
            evaluator.process([item], [{"depth": torch.ones(6, 9)}])


def test_a_missing_ground_truth_file_is_named(tmp_path: Path) -> None:
    (item,) = write_depths(tmp_path, depths(1))
    Path(item["depth_file_name"]).unlink()
    with registered_depth([item]) as name, pytest.raises(FileNotFoundError, match=r"00\.png"):
        DepthEvaluator(name).process([item], [{"depth": torch.ones(6, 8)}])


def test_a_frame_too_small_for_kittis_crop_is_named(tmp_path: Path) -> None:
    (item,) = write_depths(tmp_path, depths(1))
    with (
        registered_depth([item]) as name,
        pytest.raises(ValueError, match=r"00\.png: a frame of 6x8 .* too small"),
    ):
        DepthEvaluator(name).process([item | {"kb_crop": True}], [{"depth": torch.ones(6, 8)}])


@pytest.mark.parametrize(
    ("metadata", "arguments", "message"),
    [
        ({"max_depth": None}, {}, "has no max_depth"),
        ({"crop": "garden"}, {}, "'garden', expected one of"),
        ({}, {"crop": "lawn"}, "'lawn', expected one of"),
        ({}, {"save_png": True}, "output_dir is needed"),
    ],
)
def test_impossible_settings_are_refused(metadata: dict, arguments: dict, message: str) -> None:
    with registered_depth([], **metadata) as name, pytest.raises(ValueError, match=message):
        DepthEvaluator(name, **arguments)


# ------------------------------------------------------------------ predictions as files


def test_predictions_are_written_for_the_kitti_benchmark(tmp_path: Path) -> None:
    items = write_depths(tmp_path / "data", depths(3))
    cfg = smallest_cfg({"OUTPUT_DIR": str(tmp_path / "out"), "TEST.DEPTH_EVAL.SAVE_PNG": True})
    pred = torch.tensor([[0.0, 1.0, 2.5, 79.99, 1e4, math.nan, math.inf, 3.0]]).expand(6, 8)
    with registered_depth(items) as name:
        (evaluator,) = build_evaluators(cfg, name)
        score(evaluator, items, lambda _: pred)
        folder = tmp_path / "out/inference" / name / "depth"
    files = sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*.*"))
    assert files == ["scene_0/00.png", "scene_0/02.png", "scene_1/01.png"]
    with Image.open(folder / files[0]) as image:
        assert image.mode == "I;16"
        values = np.asarray(image)
    assert values[0].tolist() == [1, 256, 640, 20477, 65535, 1, 2560, 768]


def test_depth_that_the_png_cannot_hold_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = write_depths(tmp_path / "data", depths(1))
    with registered_depth(items) as name:
        evaluator = DepthEvaluator(name, output_dir=str(tmp_path / "out"), save_png=True)
        score(evaluator, items, lambda _: torch.full((6, 8), 300.0))
    assert "1 images have deeper predictions than 255.996 m" in caplog.text
    assert "00.jpg (48 pixels)" in caplog.text


def test_two_images_of_one_name_are_refused_instead_of_overwritten(tmp_path: Path) -> None:
    items = [{"file_name": f"{tmp_path}/a{ending}"} for ending in (".jpg", ".png")]
    with registered_depth(items) as name:
        evaluator = DepthEvaluator(name, output_dir=str(tmp_path / "out"), save_png=True)
        with pytest.raises(ValueError, match=r"a\.jpg and .*a\.png would both"):
            evaluator.reset()


def test_names_in_a_dataset_lead_to_no_file_outside(tmp_path: Path) -> None:
    precious = tmp_path / "out/precious.png"
    precious.parent.mkdir()
    precious.write_text("keep me")
    (tmp_path / "data/a").mkdir(parents=True)
    names = ["data/a/one.png", "data/a/../../out/../data/two.png", "data/../out/precious.png"]
    items = [{"file_name": f"{tmp_path}/{name}"} for name in names]
    with registered_depth(items) as name:
        evaluator = DepthEvaluator(name, output_dir=str(tmp_path / "out"), save_png=True)
        score(evaluator, items, lambda _: torch.ones(2, 3))
    assert precious.read_text() == "keep me"
    written = {str(file.relative_to(tmp_path / "out")) for file in tmp_path.rglob("*.png")}
    assert written == {
        *("precious.png", "depth/data/a/one.png", "depth/data/two.png", "depth/out/precious.png")
    }


def test_images_without_ground_truth_are_written_but_not_scored(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    items = [{"file_name": str(tmp_path / f"{number:03d}.png")} for number in range(60)]
    with registered_depth(items) as name, caplog.at_level(logging.WARNING):
        evaluator = DepthEvaluator(name, output_dir=str(tmp_path / "out"), save_png=True)
        metrics = score(evaluator, items, lambda _: torch.full((2, 3), math.nan))
    assert (metrics["images"], metrics["images_without_truth"]) == (0, 60)
    assert metrics["images_not_finite"] == 60
    assert len(list((tmp_path / "out/depth").glob("*.png"))) == 60
    for record in caplog.messages:
        assert "049.png" in record and "050.png" not in record and "and 10 more" in record


def test_predictions_are_written_only_by_their_key(tmp_path: Path) -> None:
    items = write_depths(tmp_path / "data", depths(1))
    with registered_depth(items) as name:
        (evaluator,) = build_evaluators(smallest_cfg({"OUTPUT_DIR": str(tmp_path / "out")}), name)
        score(evaluator, items)
    assert not (tmp_path / "out").exists()
