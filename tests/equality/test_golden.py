"""Equality with outputs, gradients, groups and schedules of the official code (random weights)."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from golden_stages import assert_classes, probabilities, segmentor_outputs, unet_outputs
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
from helpers import M64_SIZES, tiny_cfg, tiny_model
from torch import Tensor, nn

from metaprompt_d2.checkpoint import from_official
from metaprompt_d2.checkpoint.compvis import UNET_PREFIX, from_compvis_unet
from metaprompt_d2.diffusion import FeatureUNet
from metaprompt_d2.engine import build_lr_scheduler, group_parameters, load_config
from metaprompt_d2.modeling import DenseModelWithTTA

# --------------------------------------------------------------------------- the UNet by itself


@pytest.fixture(scope="module")
def unet_fixture(golden: Path) -> dict:
    return load(golden, "unet_m64.pt")


@pytest.fixture(scope="module")
def unet(unet_fixture: dict) -> FeatureUNet:
    official = {
        name.removeprefix(UNET_PREFIX): value for name, value in unet_fixture["state_dict"].items()
    }
    unet = FeatureUNet(**M64_SIZES)
    unet.load_state_dict(from_compvis_unet(official))
    return unet.eval()


@pytest.mark.parametrize("name", ["a", "odd"])
def test_unet_gives_the_official_features_and_latent(
    unet: FeatureUNet, unet_fixture: dict, name: str
) -> None:
    ours = unet_outputs(unet, unet_fixture["input"], name)
    assert len(ours) == 5
    assert_outputs(ours, unet_fixture)


def test_unet_in_float64_gives_the_official_outputs_exactly(
    golden: Path, unet: FeatureUNet, unet_fixture: dict
) -> None:
    inputs = {key: value.double() for key, value in unet_fixture["input"].items()}
    theirs = load(golden, "f64/unet_m64.pt")["outputs"]
    unet.double()
    ours = unet_outputs(unet, inputs, "a") | unet_outputs(unet, inputs, "odd")
    unet.float()
    assert ours.keys() == theirs.keys()
    assert_outputs_float64(ours, theirs)


# --------------------------------------------------------------------------- segmentation


@pytest.fixture(scope="module")
def seg_fixture(golden: Path) -> dict:
    return load(golden, "seg_ade_r3_c1222.pt")


@pytest.fixture(scope="module")
def segmentor(seg_fixture: dict) -> nn.Module:
    return official_segmentor(seg_fixture).eval()


def official_segmentor(fixture: dict) -> nn.Module:
    model = tiny_model()
    model.load_state_dict(from_official(fixture["state_dict"]).model)
    return model


def test_segmentation_gives_every_official_stage(segmentor: nn.Module, seg_fixture: dict) -> None:
    ours = segmentor_outputs(segmentor, seg_fixture["input"]["image"])
    stored = {key for key in seg_fixture["outputs"] if "/" not in key}
    assert ours.keys() == stored
    assert_outputs(ours, seg_fixture)


def test_segmentation_gives_every_official_stage_at_an_odd_size(
    segmentor: nn.Module, seg_fixture: dict
) -> None:
    outputs = segmentor_outputs(segmentor, seg_fixture["input"]["image_120x136"])
    prefix = "120x136/"
    stored = {key.removeprefix(prefix) for key in seg_fixture["outputs"] if key.startswith(prefix)}
    assert len(stored) == 19
    assert_outputs({key: outputs[key] for key in stored}, seg_fixture, prefix)


def test_segmentation_in_float64_gives_every_official_stage_exactly(
    golden: Path, segmentor: nn.Module, seg_fixture: dict
) -> None:
    theirs = load(golden, "f64/seg_ade_r3_c1222.pt")["outputs"]
    segmentor.double()
    ours = segmentor_outputs(segmentor, seg_fixture["input"]["image"].double())
    segmentor.float()
    assert ours.keys() == theirs.keys()
    assert_outputs_float64(ours, theirs)


@pytest.fixture(scope="module")
def slide_probabilities(segmentor: nn.Module, seg_fixture: dict) -> tuple[Tensor, Tensor]:
    size = seg_fixture["meta"]["slide"]["ori_shape"]
    return probabilities(segmentor, seg_fixture["input"]["image_slide"][0], size)


def test_sliding_window_gives_the_official_logits(segmentor: nn.Module, seg_fixture: dict) -> None:
    image = seg_fixture["input"]["image_slide"][0]
    with torch.no_grad():
        (output,) = segmentor([{"image": image}])
    theirs = seg_fixture["outputs"]["slide/logits_ch_every4"][0]
    tolerance = NOISE_FACTOR * noise_of(seg_fixture, "logits")
    assert_near(output["sem_seg"][::4], theirs, tolerance, "slide logits")


def test_sliding_window_gives_the_official_probabilities(
    slide_probabilities: tuple[Tensor, Tensor], seg_fixture: dict
) -> None:
    # A softmax moves at most half as far as its logits, so their noise bounds it.
    tolerance = NOISE_FACTOR * noise_of(seg_fixture, "logits")
    plain, mirrored = slide_probabilities
    outputs = seg_fixture["outputs"]
    assert_near(plain[0], outputs["slide/prob_rescaled_ch0"][0, 0], tolerance, "plain")
    assert_near(mirrored[0], outputs["slide/prob_unflipped_ch0"][0, 0], tolerance, "mirrored")


@pytest.mark.parametrize(("key", "flip"), [("slide/pred", False), ("slide/aug_pred", True)])
def test_test_time_augmentation_gives_the_official_classes(
    segmentor: nn.Module,
    slide_probabilities: tuple[Tensor, Tensor],
    seg_fixture: dict,
    key: str,
    flip: bool,
) -> None:
    model = DenseModelWithTTA(segmentor, boxes=[None], flip=flip)
    height, width = seg_fixture["meta"]["slide"]["ori_shape"]
    image = seg_fixture["input"]["image_slide"][0]
    (output,) = model([{"image": image, "height": height, "width": width}])
    expected = sum(slide_probabilities) / 2 if flip else slide_probabilities[0]
    torch.testing.assert_close(output["sem_seg"], expected, rtol=1e-4, atol=1e-5)
    assert_classes(output["sem_seg"], seg_fixture["outputs"][key])


@pytest.mark.parametrize("key", ["slide/pred", "slide/aug_pred"])
def test_sliding_window_gives_the_official_classes(
    slide_probabilities: tuple[Tensor, Tensor], seg_fixture: dict, key: str
) -> None:
    plain, mirrored = slide_probabilities
    ours = plain if key == "slide/pred" else (plain + mirrored) / 2
    assert_classes(ours, seg_fixture["outputs"][key])


# --------------------------------------------------------------------------- training

# Our loss against the official one.
LOSSES = {
    "loss_sem_seg": "decode.loss_ce",
    "loss_lovasz": "decode.loss_lovasz",
    "loss_aux": "aux.loss_ce_aux",
}


@pytest.fixture(scope="module")
def our_names(seg_fixture: dict) -> dict[str, str]:
    return names_by_conversion(seg_fixture["state_dict"])


@pytest.fixture(scope="module")
def step_fixture(golden: Path) -> dict:
    return load(golden, "seg_train_step_c1222.pt")


@pytest.fixture(scope="module", params=["eval", "train"])
def backward(request: pytest.FixtureRequest, seg_fixture: dict, step_fixture: dict) -> Iterator:
    """(official outputs, our losses, our model after one backward pass) in either mode."""
    model = official_segmentor(seg_fixture).train(request.param == "train")
    images = step_fixture["input"]["image"]
    labels = step_fixture["input"]["gt"][:, 0].long()
    if model.training:
        pairs = zip(images, labels, strict=True)
        losses = model([{"image": image, "sem_seg": label} for image, label in pairs])
    else:
        model.sem_seg_head.training = True  # but not its layers: dropout and norms
        _, losses = model.sem_seg_head(model.backbone(images), labels)
    sum(losses.values()).backward()
    return step_fixture["outputs"][request.param], losses, model


def test_losses_are_the_official_ones(backward: tuple) -> None:
    theirs, losses, _ = backward
    assert losses.keys() == LOSSES.keys()
    for name, official in LOSSES.items():
        expected = theirs["losses_f64"][official]
        assert losses[name].item() == pytest.approx(expected, rel=2e-5), name
    assert sum(losses.values()).item() == pytest.approx(theirs["total"].item(), rel=2e-5)


def test_every_gradient_has_the_official_norm(backward: tuple, our_names: dict[str, str]) -> None:
    theirs, _, model = backward
    assert_gradient_norms(model, theirs, our_names)


def test_selected_gradients_are_the_official_ones(
    backward: tuple, our_names: dict[str, str]
) -> None:
    theirs, _, model = backward
    assert len(theirs["grad"]) == 21
    assert_selected_gradients(model, theirs, our_names)


def test_one_adamw_step_gives_the_official_parameters_and_statistics(
    seg_fixture: dict, step_fixture: dict, our_names: dict[str, str]
) -> None:
    cfg = tiny_cfg()
    model = official_segmentor(seg_fixture).train()
    solver = cfg.SOLVER
    groups = group_parameters(
        model, solver.PARAM_RULES, base_lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
    )
    optimizer = torch.optim.AdamW(groups)
    inputs = step_fixture["input"]
    pairs = zip(inputs["image"], inputs["gt"][:, 0].long(), strict=True)
    losses = model([{"image": image, "sem_seg": labels} for image, labels in pairs])
    sum(losses.values()).backward()
    optimizer.step()
    assert_adamw_step(model.state_dict(), step_fixture["outputs"], groups, our_names)


# --------------------------------------------------------------------------- optimization


@pytest.mark.parametrize("recipe", ["cityscapes", "ade"])
def test_parameter_groups_are_the_official_ones_name_by_name(
    golden: Path, segmentor: nn.Module, our_names: dict[str, str], recipe: str
) -> None:
    official = json.loads((golden / f"param_groups_seg_{recipe}.json").read_text())
    expected = {
        our_names[entry["name"]]: (entry["lr"], entry["weight_decay"])
        for entry in official["params"]
        if entry["requires_grad"] and ".time_embed." not in entry["name"]
    }
    file = {"cityscapes": "cityscapes_seg.yaml", "ade": "ade20k_seg.yaml"}[recipe]
    solver = load_config(f"metaprompt_d2://{file}", []).SOLVER
    groups = group_parameters(
        segmentor, solver.PARAM_RULES, base_lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
    )
    ours = {
        name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]
    }
    assert ours.keys() == expected.keys()
    for name, values in expected.items():
        assert ours[name] == pytest.approx(values), name


def test_learning_rates_are_the_official_ones(golden: Path) -> None:
    official = json.loads((golden / "lr_schedules.json").read_text())["seg_cityscapes"]
    cfg = tiny_cfg()
    parameters = [nn.Parameter(torch.zeros(1)) for _ in official["lr_mults"]]
    optimizer = torch.optim.AdamW(
        {"params": [parameter], "lr": cfg.SOLVER.BASE_LR * multiplier}
        for parameter, multiplier in zip(parameters, official["lr_mults"], strict=True)
    )
    scheduler = build_lr_scheduler(cfg, optimizer)
    iterations = [iteration for iteration, *_ in official["iter_and_lrs"]]
    assert iterations[0] == 0
    assert iterations[-1] == cfg.SOLVER.MAX_ITER - 1
    for iteration, *rates in official["iter_and_lrs"]:
        assert learning_rates(scheduler, iteration) == pytest.approx(rates, rel=1e-9), iteration
