"""Equality of the depth model, loss, recipe, test protocol and metrics with the official code."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.modeling import build_model
from golden_stages import depth_outputs
from golden_values import (
    NOISE_FACTOR,
    assert_adamw_step,
    assert_gradient_norms,
    assert_near,
    assert_outputs,
    assert_outputs_float64,
    assert_selected_gradients,
    learning_rates,
    load,
    names_by_conversion,
    noise_of,
)
from helpers import tiny_depth_cfg
from torch import nn
from torch.nn import functional as F

from metaprompt_d2.checkpoint import from_official
from metaprompt_d2.engine import build_lr_scheduler, group_parameters
from metaprompt_d2.layers import silog_loss
from metaprompt_d2.metrics import clean_depth, compute_depth_metrics, valid_depth_mask

ENCODER = "encoder."


# --------------------------------------------------------------------------- weights


def official_model(fixture: dict, overrides: dict | None = None) -> nn.Module:
    model = build_model(tiny_depth_cfg(overrides))
    model.load_state_dict(from_official(fixture["state_dict"]).model)
    return model


@pytest.fixture(scope="module")
def depth_fixture(golden: Path) -> dict:
    return load(golden, "depth_nyu_r3_c1222.pt")


@pytest.fixture(scope="module")
def model(depth_fixture: dict) -> nn.Module:
    return official_model(depth_fixture).eval()


@pytest.fixture(scope="module")
def our_names(depth_fixture: dict) -> dict[str, str]:
    return names_by_conversion(depth_fixture["state_dict"], prefix=ENCODER)


# --------------------------------------------------------------------------- forward


def test_the_depth_model_gives_every_official_stage(model: nn.Module, depth_fixture: dict) -> None:
    ours = depth_outputs(model, depth_fixture["input"]["image"])
    output = ours.pop("output")
    assert ours.keys() == {key for key in depth_fixture["outputs"] if "/" not in key}
    assert_outputs(ours, depth_fixture)
    assert_outputs({"pred_d": output}, depth_fixture)


def test_the_depth_model_gives_the_official_stages_at_an_odd_size(
    model: nn.Module, depth_fixture: dict
) -> None:
    outputs = depth_outputs(model, depth_fixture["input"]["image_100x140"])
    keys = ("vae_latents", "rearranged", "rearranged_resized", "pred_d")
    assert_outputs({key: outputs[key] for key in keys}, depth_fixture, prefix="100x140/")
    # Ours has the image's size: the official one, resized.
    official = depth_fixture["outputs"]["100x140/pred_d"]
    assert official.shape[-2:] == (96, 136)
    expected = F.interpolate(official, size=(100, 140), mode="bilinear", align_corners=False)
    assert_near(
        outputs["output"], expected, NOISE_FACTOR * noise_of(depth_fixture, "pred_d"), "output"
    )


def test_the_depth_model_in_float64_gives_every_official_stage_exactly(
    golden: Path, model: nn.Module, depth_fixture: dict
) -> None:
    theirs = load(golden, "f64/depth_nyu_r3_c1222.pt")["outputs"]
    model.double()
    ours = depth_outputs(model, depth_fixture["input"]["image"].double())
    model.float()
    output = ours.pop("output")
    assert ours.keys() == theirs.keys()
    assert_outputs_float64(ours | {"pred_d": output}, theirs)
    assert_outputs_float64(ours, theirs)


# --------------------------------------------------------------------------- loss


@pytest.fixture(scope="module")
def silog_fixture(golden: Path) -> dict:
    return load(golden, "silog_loss.pt")


@pytest.mark.parametrize("name", ["nyu", "kitti"])
def test_silog_and_its_gradient_are_the_official_ones(silog_fixture: dict, name: str) -> None:
    case = silog_fixture["cases"][name]
    for dtype, suffix, tolerance in ((torch.float32, "", 2e-6), (torch.float64, "_f64", 1e-12)):
        pred = case["pred"].clone().to(dtype).requires_grad_()
        loss = silog_loss(pred, case["target"].to(dtype), mean_weight=silog_fixture["lambd"])
        loss.backward()
        assert loss.item() == pytest.approx(case[f"loss{suffix}"].item(), rel=tolerance)
        gradient = case[f"grad{suffix}"]
        assert_near(pred.grad, gradient, tolerance * gradient.abs().max().item(), suffix)


def test_silog_of_degenerate_batches_is_the_official_one_where_that_is_a_number(
    silog_fixture: dict,
) -> None:
    official = silog_fixture["degenerate"]
    target = torch.rand(2, 4, 5) + 1
    ratio = silog_loss(target * 1.5, target).item()
    assert ratio == pytest.approx(official["const_ratio_1p5"], rel=1e-5)
    assert silog_loss(target, target).item() == official["perfect_loss"] == 0
    # There NaN; ours is 0 (tests/layers/test_losses.py).
    assert official["perfect_grad_is_nan"]
    assert official["no_valid_loss_is_nan"]


# --------------------------------------------------------------------------- training


@pytest.fixture(scope="module")
def step_fixture(golden: Path) -> dict:
    return load(golden, "depth_train_step_c1222.pt")


def train_inputs(step_fixture: dict) -> list[dict]:
    pairs = zip(step_fixture["input"]["image"], step_fixture["input"]["depth"], strict=True)
    return [{"image": image, "depth": depth} for image, depth in pairs]


@pytest.fixture(scope="module", params=["eval", "train"])
def backward(request: pytest.FixtureRequest, depth_fixture: dict, step_fixture: dict) -> Iterator:
    """(official outputs, our loss, our model after one backward pass) in either mode."""
    model = official_model(depth_fixture).train(request.param == "train")
    if model.training:
        loss = model(train_inputs(step_fixture))["loss_silog"]
    else:
        images = step_fixture["input"]["image"]
        features = model._features((images - model.pixel_mean) / model.pixel_std)
        depth, _ = model.depth_head(features, images.shape[-2:])
        loss = silog_loss(depth[:, 0], step_fixture["input"]["depth"])
    loss.backward()
    return step_fixture["outputs"][request.param], loss, model


def test_the_loss_is_the_official_one(backward: tuple) -> None:
    theirs, loss, _ = backward
    assert loss.item() == pytest.approx(theirs["loss_f64"], rel=2e-5)


def test_every_gradient_has_the_official_norm(backward: tuple, our_names: dict[str, str]) -> None:
    theirs, _, model = backward
    assert_gradient_norms(model, theirs, our_names)


def test_selected_gradients_are_the_official_ones(
    backward: tuple, our_names: dict[str, str]
) -> None:
    theirs, _, model = backward
    assert len(theirs["grad"]) == 33
    assert_selected_gradients(model, theirs, our_names)


def recipe_groups(model: nn.Module, base_lr: float) -> list[dict]:
    solver = tiny_depth_cfg().SOLVER
    return group_parameters(
        model,
        solver.PARAM_RULES,
        base_lr=base_lr,
        weight_decay=solver.WEIGHT_DECAY,
        decay_vectors=solver.DECAY_VECTORS,
    )


def test_one_adamw_step_gives_the_official_parameters_and_statistics(
    depth_fixture: dict, step_fixture: dict, our_names: dict[str, str]
) -> None:
    model = official_model(depth_fixture).train()
    groups = recipe_groups(model, base_lr=step_fixture["outputs"]["after_step"]["lr"])
    optimizer = torch.optim.AdamW(groups)
    model(train_inputs(step_fixture))["loss_silog"].backward()
    optimizer.step()
    assert_adamw_step(model.state_dict(), step_fixture["outputs"], groups, our_names)


# --------------------------------------------------------------------------- optimization


def test_parameter_groups_are_the_official_ones_name_by_name(
    golden: Path, model: nn.Module, our_names: dict[str, str]
) -> None:
    official = json.loads((golden / "param_groups_depth.json").read_text())
    expected = {
        our_names[entry["name"]]: (
            official["max_lr"] * entry["lr_scale"],
            entry["weight_decay"],
        )
        for entry in official["params"]
    }
    groups = recipe_groups(model, base_lr=official["max_lr"])
    assert len(groups) == len(official["groups"]) == 4
    ours = {
        name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]
    }
    assert ours.keys() == expected.keys()
    for name, values in expected.items():
        assert ours[name] == pytest.approx(values), name


def test_learning_rates_are_the_official_ones(golden: Path) -> None:
    official = json.loads((golden / "lr_schedules.json").read_text())["depth"]
    rates = official["lr_of_update"]
    cfg = tiny_depth_cfg({"SOLVER.MAX_ITER": len(rates)})
    optimizer = torch.optim.AdamW(
        {"params": [nn.Parameter(torch.zeros(1))], "lr": cfg.SOLVER.BASE_LR * scale}
        for scale in official["lr_scales"]
    )
    scheduler = build_lr_scheduler(cfg, optimizer)
    for iteration, expected in enumerate(rates):
        assert learning_rates(scheduler, iteration) == pytest.approx(expected, rel=1e-9), iteration


# --------------------------------------------------------------------------- evaluation

CROPS = {"nyu": "nyu", "kitti_garg": "garg", "kitti_eigen": "eigen"}


def scored(pred: np.ndarray, target: np.ndarray, crop: str, limits: dict) -> tuple[dict, int]:
    """Our metrics but for BTS's, and the number of pixels they are taken on."""
    cleaned, *_ = clean_depth(pred, **limits)
    mask = valid_depth_mask(target, crop=crop, **limits)
    metrics = compute_depth_metrics(cleaned, target, mask)
    del metrics["silog_bts"]
    return metrics, int(mask.sum())


@pytest.mark.parametrize("name", list(CROPS))
def test_figures_are_the_official_ones(golden: Path, name: str) -> None:
    case = load(golden, "depth_metrics.pt")[name]
    limits = {"min_depth": case["min_depth_eval"], "max_depth": case["max_depth_eval"]}
    pred, target = case["pred"].numpy(), case["gt"].numpy()
    figures, count = scored(pred, target, CROPS[name], limits)
    assert count == case["n_valid"]
    assert figures.keys() == case["metrics"].keys()
    assert figures == pytest.approx(case["metrics"], rel=2e-7)
    figures, _ = scored(pred.astype(np.float64), target, CROPS[name], limits)
    shares = {"d1", "d2", "d3"}  # stored in float32
    for key, value in case["metrics_f64"].items():
        assert figures[key] == pytest.approx(value, rel=1e-7 if key in shares else 1e-9), key


@pytest.fixture(scope="module")
def protocol(golden: Path) -> dict:
    return load(golden, "depth_test_protocol_nyu_c1222.pt")


@pytest.mark.parametrize("batch_size", [1, 4])
def test_shifted_and_mirrored_windows_give_the_official_prediction(
    depth_fixture: dict, protocol: dict, batch_size: int
) -> None:
    overrides = {
        "MODEL.PIXEL_MEAN": [127.5] * 3,
        "MODEL.PIXEL_STD": [127.5] * 3,
        "TEST.SHIFTED_WINDOWS.COUNT": 2,
        "TEST.SHIFTED_WINDOWS.COVER_ALL": False,
        "TEST.AUG.ENABLED": True,
        "TEST.AUG.FLIP": True,
        "TEST.SLIDING_WINDOW.BATCH_SIZE": batch_size,
    }
    model = official_model(depth_fixture, overrides).eval()
    with torch.no_grad():
        (output,) = model([{"image": protocol["input"]["image_u8"][0]}])
    depth, outputs = output["depth"], protocol["outputs"]
    tolerance = NOISE_FACTOR * noise_of(depth_fixture, "pred_d")
    assert_near(depth, outputs["pred"], tolerance, "pred")

    limits = {"min_depth": 1e-3, "max_depth": 10.0}
    target = protocol["input"]["depth"][0].numpy()
    figures, count = scored(depth.numpy(), target, "nyu", limits)
    assert count == outputs["n_valid"]
    assert figures == pytest.approx(outputs["metrics"], rel=1e-4)
