"""Equality with the official code on any machine: weights drawn again, a subsample of its outputs.

The whole outputs are compared in `test_golden.py` and `test_golden_depth.py`.
"""

from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from compact_fixtures import CompactFixture, load_compact, subsample
from compact_models import CASES, Outputs, float32_noise, whole_model
from golden_stages import assert_classes, probabilities
from golden_values import FLOAT64_TOLERANCE, NOISE_FACTOR
from helpers import tiny_cfg
from torch import nn


@pytest.fixture(scope="module", params=CASES)
def case(request: pytest.FixtureRequest) -> tuple[CompactFixture, nn.Module, Callable]:
    fixture = load_compact(request.param)
    build, stages = CASES[request.param]
    return fixture, build(fixture).eval(), stages


def assert_close(ours: Outputs, theirs: Mapping[str, np.ndarray], tolerance: Callable) -> None:
    for key, expected in theirs.items():
        difference = np.abs(subsample(ours[key]) - expected).max()
        assert difference <= tolerance(key), f"{key}: off by {difference:.3e}"


def test_every_official_stage_in_float32(case: tuple) -> None:
    fixture, model, stages = case
    theirs = {k: v for k, v in fixture.outputs.items() if not k.startswith("slide/")}
    assert len(theirs) >= 10
    ours = stages(model, fixture.inputs)
    assert_close(ours, theirs, lambda key: NOISE_FACTOR * float32_noise(fixture, key))


def test_every_official_stage_in_float64(case: tuple) -> None:
    fixture, model, stages = case
    if not fixture.same_weights:
        pytest.skip("torch draws other random numbers on this machine, in the last bits")
    inputs = {key: value.double() for key, value in fixture.inputs.items()}
    ours = stages(model.double(), inputs)
    model.float()
    assert len(fixture.exact) >= 10
    assert_close(ours, fixture.exact, lambda key: FLOAT64_TOLERANCE)


def test_sliding_windows_and_the_mirrored_image_give_the_official_classes() -> None:
    fixture = load_compact("seg_ade_r3_c1222")
    model = whole_model(tiny_cfg)(fixture).eval()
    plain, mirrored = probabilities(model, fixture.inputs["image_slide"][0], fixture.ori_shape)
    assert_classes(plain, torch.from_numpy(fixture.outputs["slide/pred"]))
    assert_classes((plain + mirrored) / 2, torch.from_numpy(fixture.outputs["slide/aug_pred"]))
    tolerance = NOISE_FACTOR * fixture.noise["logits"]
    for ours, key in ((plain, "prob_rescaled_ch0"), (mirrored, "prob_unflipped_ch0")):
        difference = np.abs(subsample(ours[None, 0]) - fixture.outputs[f"slide/{key}"]).max()
        assert difference <= tolerance, key


@pytest.mark.parametrize("name", CASES)
def test_the_fixtures_see_a_difference(name: str) -> None:
    """Weights that are a hundredth off are far from the stored outputs."""
    fixture = load_compact(name)
    build, stages = CASES[name]
    model = build(fixture).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(1.01)
    ours = stages(model, fixture.inputs)
    key = list(fixture.exact)[-1]
    assert np.abs(subsample(ours[key]) - fixture.exact[key]).max() > 1e-3
