"""`tools/benchmark.py`: every task runs, all variants agree, and the report says so."""

import json
import math
import re
from pathlib import Path

import benchmark
import numpy as np
import pytest
import torch
from benchmarking import machine
from benchmarking.loading import loader_rate
from benchmarking.machine import PeakMemory, matmul_ceiling
from benchmarking.measure import Measurement, Workload, measure, stays
from benchmarking.samples import dense_output, inference_inputs
from benchmarking.sweep import Curve, Point, points_by_axis
from benchmarking.variants import Variant, inference_variants, training_variants
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from diffusers.models.attention_processor import Attention, AttnProcessor
from helpers import SMALLEST, registered_cityscapes, smallest_cfg, write_cityscapes
from PIL import Image
from torch import Tensor, nn

from metaprompt_d2.engine import load_config

CPU = torch.device("cpu")
CONFIGS = Path(__file__).resolve().parents[2] / "configs/mini"
# The mini recipes at the smallest sizes, with random weights.
OPTS = [
    part
    for key, value in SMALLEST.items()
    for part in (key, str(value))
    if not key.startswith("MODEL.META_PROMPT.NUM_PROMPTS")
] + ["MODEL.DIFFUSION.WEIGHTS", "", "MODEL.DIFFUSION.VAE.LATENT_CHANNELS", "4"]


def run(tmp_path: Path, *arguments: str) -> tuple[dict, str]:
    benchmark.main([*arguments, "--output-dir", str(tmp_path), *OPTS])
    return json.loads((tmp_path / "benchmark.json").read_text()), (
        tmp_path / "benchmark.md"
    ).read_text()


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """One call a turn, and no large matrix products: that there are times matters, not which."""
    monkeypatch.setattr("benchmarking.measure._TURN", 0.0)
    monkeypatch.setattr(machine, "_time_product", lambda *_: 1.0)


def check_agreement(section: dict) -> None:
    for row in section["variants"]:
        # Norms over the few values of such small maps, and a softmax, magnify round-off.
        assert row["rms_by_std"] < (0.3 if "bf16" in row["variant"] else 2e-3), row
        assert row["seconds"] > 0 and row["utilization"] > 0
        assert row["memory_gib"] is None or row["memory_gib"] > 0


@pytest.mark.usefixtures("brief")
def test_all_variants_of_prediction_and_training_agree(tmp_path: Path) -> None:
    arguments = ["--config-file", str(CONFIGS / "cityscapes_seg.yaml"), "--size", "64", "64"]
    report, text = run(tmp_path, *arguments, "--rounds", "1", "--train")
    for section, variants in (("inference", inference_variants), ("training", training_variants)):
        names = [row["variant"] for row in report[section]["variants"]]
        assert names == [variant.name for variant in variants(CPU, compiled=False)]
        assert names[0] == "plain"
        check_agreement(report[section])
    assert "## Training" in text and "| all, bf16" in text


@pytest.mark.usefixtures("brief")
def test_exact_outputs_are_those_of_a_model_in_float64(tmp_path: Path) -> None:
    arguments = ["--config-file", str(CONFIGS / "cityscapes_seg.yaml"), "--size", "64", "64"]
    chosen = ["--rounds", "1", "--exact", "--variant", "all, float32"]
    report, _ = run(tmp_path, *arguments, *chosen)
    exact, plain, best = report["inference"]["variants"]
    assert [row["variant"] for row in (exact, plain, best)] == ["float64", "plain", "all, float32"]
    assert exact["max"] == 0 and plain["speedup"] == 1
    model = benchmark.loaded_model(load_config(arguments[1], OPTS))
    inputs = inference_inputs(1, (64, 64))
    with torch.no_grad():
        found = dense_output(model(inputs))
        expected = dense_output(model.double()(inputs))
    error = (found - expected).abs().max() / expected.std()
    assert 0 < plain["max_by_std"] < 5 * error < 1e-2


@pytest.mark.usefixtures("brief")
@pytest.mark.parametrize("task", ["cityscapes_seg", "kitti_depth", "coco_pose"])
def test_every_task_is_measured(tmp_path: Path, task: str) -> None:
    arguments = ["--config-file", str(CONFIGS / f"{task}.yaml"), "--size", "64", "64"]
    chosen = ["--variant", "all, float32", "--variant", "all, bf16"]
    report, _ = run(tmp_path, *arguments, "--rounds", "1", "--train", *chosen)
    check_agreement(report["inference"])
    check_agreement(report["training"])
    # A training step runs the same model forward and backward, on two images.
    # People are predicted in crops of the config's size, whatever size the images have.
    least = 0 if task == "coco_pose" else 2 * report["inference"]["tflop"]
    assert report["training"]["tflop"] > least and report["inference"]["tflop"] > 0
    parts = report["inference"]["parts"]["all, bf16"]
    passes = ["UNet pass 1", "UNet pass 2"]
    assert list(parts) == ["VAE encoder", *passes, "rearrangement", "head", "the rest"]
    assert all(value > 0 for value in parts.values())


class _TooLarge(AttnProcessor):
    """Explicit attention on a small GPU."""

    def __call__(
        self,
        attn: Attention,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: None = None,
        temb: None = None,
    ) -> Tensor:
        raise torch.OutOfMemoryError("as a GPU's allocator says")


def test_parts_are_measured_on_our_backbone_only() -> None:
    work = Workload(train=False, batch_size=1, size=(64, 64))
    variants = inference_variants(CPU, compiled=False)
    assert benchmark.parts_of(smallest_cfg(), nn.Conv2d(3, 1, 1), variants, work) == {}


def test_a_relative_crop_is_no_size() -> None:
    with pytest.raises(ValueError, match=r"INPUT\.CROP\.SIZE is \(0\.9, 0\.9\).*give --size"):
        benchmark.default_size(smallest_cfg({"INPUT.CROP.SIZE": (0.9, 0.9)}))


def test_a_sweep_varies_one_thing_at_a_time() -> None:
    cfg = smallest_cfg({"MODEL.META_PROMPT.REFINE_STEPS": 3, "MODEL.META_PROMPT.NUM_PROMPTS": 50})
    axes = points_by_axis(cfg, (512, 768))
    base = {"size": (256, 384), "steps": 3, "images": 1, "prompts": 50}
    assert [vars(p) for p in axes["pixels"]] == [
        base | {"size": size} for size in ((128, 192), (256, 384), (384, 576), (512, 768))
    ]
    assert [vars(p) for p in axes["steps"]] == [base | {"steps": n} for n in (1, 2, 3, 4)]
    assert [vars(p) for p in axes["images"]] == [base | {"images": n} for n in (1, 2, 4)]
    assert [vars(p) for p in axes["prompts"]] == [base | {"prompts": n} for n in (50, 100, 200)]
    # Sides are multiples of 64, and no size is measured twice.
    assert [p.size for p in points_by_axis(cfg, (192, 130))["pixels"]] == [
        (64, 64),
        (128, 64),
        (192, 128),
    ]


def test_pixels_images_and_prompts_have_exponents_and_steps_a_rate() -> None:
    # Slopes and means by hand. In powers of 2 the points are (0, 0), (1, 2), (2, 2).
    curve = Curve.fit("pixels", [1, 2, 3, 4], [1.0, 4.0, None, 4.0])
    assert (curve.start, curve.rate) == pytest.approx((2 ** (1 / 3), 1.0))
    assert curve(np.array([8.0])) == pytest.approx([8 * 2 ** (1 / 3)])
    assert str(Curve.fit("images", [1, 4, 16], [3.0, 1.5, 0.75])) == "images^-0.50"
    curve = Curve.fit("steps", [1, 2, 3], [1.0, 3.0, 3.0])
    assert (curve.start, curve.rate) == pytest.approx((1 / 3, 1.0))
    assert str(Curve.fit("steps", [1, 2, 4], [0.75, 1.0, 1.5])) == "0.5 + 0.25 steps"
    assert str(Curve.fit("prompts", [50, 100], [1.0, None])) == "?"


def test_a_sweep_tells_and_draws_how_the_time_grows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(
        cfg: CfgNode, model: nn.Module, variants: list[Variant], work: Workload, *, rounds: int
    ) -> list[Measurement]:
        """Seconds of a known law, from what was built; `plain` doesn't fit at 128x128."""
        refinement = model.backbone.refinement
        per_image = (1 + 2 * len(refinement.step_embeddings)) * math.prod(work.size) ** 1.5
        per_image *= refinement.meta_prompts.num_prompts**0.1 / work.batch_size**0.2
        fast = Measurement(variants[1], times=[per_image * work.batch_size])
        return [Measurement(variants[0], fast.times if work.size == (64, 64) else []), fast]

    monkeypatch.setattr("benchmarking.sweep.measure", measured)
    arguments = ["--config-file", str(CONFIGS / "cityscapes_seg.yaml"), "--size", "128", "128"]
    what = ["--no-inference", "--sweep", "--plot", str(tmp_path / "new/figure.png")]
    report, text = run(tmp_path, *arguments, *what, "--variant", "all, float32")
    sweep = report["sweep"]
    assert [point["pixels"] for point in sweep["pixels"]] == [64**2, 128**2]
    assert sweep["pixels"][1]["seconds"]["plain"] is None
    assert re.search(r"\| pixels +\| 128x128 +\| 2 +\| 1 +\| 32 +\| out of memory +\| \d", text)
    assert re.search(r"\| pixels: fit [ |]+\| \? +\| pixels\^1.50 +\|", text)
    assert re.search(r"\| images: fit [ |]+\| images\^-0.20 +\| images\^-0.20 +\|", text)
    assert re.search(r"\| prompts: fit [ |]+\| prompts\^0.10 +\| prompts\^0.10 +\|", text)
    law = f"{64**3 * 32**0.1:.3g} + {2 * 64**3 * 32**0.1:.3g} steps"
    assert re.search(rf"\| steps: fit [ |]+(\| {re.escape(law)} +){{2}}\|", text)
    with Image.open(tmp_path / "new/figure.png") as figure:
        assert figure.size == (1200, 840)


@pytest.mark.usefixtures("brief")
def test_the_sweep_of_people_runs_in_crops_of_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes = []

    def spied(*arguments: object, **options: int) -> list[Measurement]:
        results = measure(*arguments, **options)
        shapes.extend(tuple(result.output.shape) for result in results)
        return results

    monkeypatch.setattr("benchmarking.sweep.measure", spied)
    point = Point((128, 64), steps=1, images=2, prompts=34)
    monkeypatch.setattr("benchmarking.sweep.points_by_axis", lambda *_: {"pixels": [point]})
    arguments = ["--config-file", str(CONFIGS / "coco_pose.yaml"), "--rounds", "1"]
    report, _ = run(tmp_path, *arguments, "--no-inference", "--sweep")
    (measured,) = report["sweep"]["pixels"]
    assert list(measured["seconds"]) == ["plain", "all, float32", "all, bf16"]
    assert all(seconds > 0 for seconds in measured["seconds"].values())
    assert shapes == 3 * [(2, 1, 17, 128 // 4, 64 // 4)]  # heatmaps of a person in each image


@pytest.mark.usefixtures("brief")
def test_the_loader_is_compared_with_what_training_consumes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(benchmark, "loader_rate", lambda cfg, seconds: loader_rate(cfg, seconds=1))
    write_cityscapes(tmp_path, height=64, width=128)
    arguments = ["--config-file", str(CONFIGS / "cityscapes_seg.yaml"), "--size", "64", "64"]
    choice = ["--rounds", "1", "--no-inference", "--train", "--variant", "sdpa", "--data"]
    with registered_cityscapes(tmp_path) as name:
        report, text = run(tmp_path, *arguments, *choice, "DATASETS.TRAIN", f"('{name}',)")
    assert "images/s with 0 workers; a core's time is worth" in text
    assert re.search(r"Training \(sdpa\) consumes .* \d+ core\(s\) of workers keep up", text)
    data = report["data"]
    assert data["images_per_second"] > 0 and data["batches"] > 0
    assert data["images_per_core_second"] > 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--variant", "fast"], "--variant ['fast']: expected some of ['plain', 'sdpa'"),
        (["--data", "--no-inference", "DATASETS.TRAIN", "('nothing',)"], "nothing"),
    ],
)
def test_bad_input_is_named(arguments: list[str], message: str) -> None:
    config = ["--config-file", str(CONFIGS / "cityscapes_seg.yaml"), "--size", "64", "64"]
    with pytest.raises(SystemExit) as stop:
        benchmark.main([*config, *arguments, *OPTS])
    assert message in stop.value.code


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--plot", "figure.png"], "--plot draws a sweep: give --sweep, too"),
        (["--exact", "--no-inference"], "--exact compares predictions, which"),
    ],
)
def test_options_that_do_nothing_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.parse_arguments(["--config-file", "any.yaml", *arguments])
    assert message in capsys.readouterr().err


def test_variants_share_unchanged_weights_and_leave_the_model_unchanged() -> None:
    model = build_model(smallest_cfg()).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    plain = Variant("plain").applied_to(model)
    half = Variant("half", dtype=torch.bfloat16, convert=True).applied_to(model)
    name = "backbone.refinement.unet.conv_in.bias"
    assert plain.get_parameter(name).data_ptr() == model.get_parameter(name).data_ptr()
    assert half.get_parameter(name).dtype == torch.bfloat16
    assert model.get_parameter(name).dtype == torch.float32
    trained = Variant("trained").applied_to(model, train=True)
    assert trained.get_parameter(name).data_ptr() != model.get_parameter(name).data_ptr()
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())


def test_counted_operations_are_convolutions_and_matrix_products() -> None:
    model = build_model(smallest_cfg()).eval()
    work = Workload(train=False, batch_size=1, size=(64, 64))
    counts = []
    for batch_size in (1, 2):
        work = Workload(train=False, batch_size=batch_size, size=(64, 64))
        counts.append(measure(smallest_cfg(), model, [Variant("plain")], work, rounds=1)[0].flops)
    assert counts[1] == 2 * counts[0] > 0


def test_the_memory_peak_is_measured_after_it_has_passed() -> None:
    size = 2**26
    with PeakMemory(CPU) as peak:
        torch.ones(size, dtype=torch.uint8)
    assert peak.growth is None or 0.9 * size < peak.growth < 2 * size


def test_the_ceiling_is_the_rate_of_matrix_products() -> None:
    assert matmul_ceiling(CPU, torch.float32) > 1e8


@pytest.mark.parametrize(("flops", "size"), [(1e9, 512), (1e15, 2048)])
def test_the_products_of_a_slow_type_stay_small(
    monkeypatch: pytest.MonkeyPatch, flops: float, size: int
) -> None:
    sizes = []

    def time_product(size: int, *_: object) -> float:
        sizes.append(size)
        return 2 * size**3 / flops

    monkeypatch.setattr(machine, "_time_product", time_product)
    assert matmul_ceiling(CPU, torch.float32) == pytest.approx(flops)
    assert sizes[-1] == size


@pytest.mark.usefixtures("brief")
def test_a_variant_that_does_not_fit_is_named_and_the_others_are_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarking.variants.AttnProcessor", _TooLarge)
    arguments = ["--config-file", str(CONFIGS / "cityscapes_seg.yaml"), "--size", "32", "32"]
    what = ["--rounds", "2", "--train", "--variant", "sdpa"]
    report, text = run(tmp_path, *arguments, *what)
    for section in (report["inference"], report["training"]):
        plain, sdpa = section["variants"]
        assert plain == {"variant": "plain", "seconds": None}
        assert sdpa["speedup"] == 1 and sdpa["utilization"] > 0 and section["tflop"] > 0
    assert "plain" not in report["inference"]["parts"]
    assert text.count("out of memory") == 2
    arguments[1] = str(CONFIGS / "kitti_depth.yaml")
    with pytest.raises(SystemExit, match="no variant fits"):
        run(tmp_path, *arguments, "--rounds", "1", "--variant", "in-place VAE")


@pytest.mark.parametrize(("train", "compile_mode"), [(False, ""), (True, ""), (True, "default")])
def test_a_gpu_holds_all_variants_but_in_training_only_what_was_compiled(
    train: bool, compile_mode: str
) -> None:
    """Weights, gradients and optimizer of ten variants would not fit on any GPU."""
    work = Workload(train=train, batch_size=1, size=(64, 64))
    variant = Variant("some", compile_mode=compile_mode)
    assert stays(variant, work, torch.device("cuda")) == (not train or compile_mode != "")
    assert stays(variant, work, CPU) == (compile_mode != "")
