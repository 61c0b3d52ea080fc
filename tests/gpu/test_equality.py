"""Outputs of the official code on a GPU: in float32 and float64, and in half precision."""

import copy
from collections.abc import Callable, Mapping

import pytest
import torch
from compact_fixtures import CompactFixture, load_compact, subsample
from compact_models import CASES, float32_noise
from golden_values import FLOAT64_TOLERANCE, NOISE_FACTOR
from torch import Tensor, nn

from metaprompt_d2.diffusion.speedups import optimize_for_inference

pytestmark = pytest.mark.gpu

# Fixture -> (output of the model, stage of the official code)
OUTPUTS = {"seg_ade_r3_c1222": ("sem_seg", "logits"), "depth_nyu_r3_c1222": ("depth", "output")}
# Root mean square error relative to the output's standard deviation.
TOLERANCES = {torch.bfloat16: 0.05, torch.float16: 0.01}


@pytest.fixture(scope="module", params=CASES)
def case(
    request: pytest.FixtureRequest, device: torch.device
) -> tuple[CompactFixture, nn.Module, Callable]:
    fixture = load_compact(request.param)
    build, stages = CASES[request.param]
    return fixture, build(fixture).eval().to(device), stages


def moved(tensors: Mapping[str, Tensor], device: torch.device | str) -> dict[str, Tensor]:
    return {name: value.to(device) for name, value in tensors.items()}


def test_every_official_stage_in_float32(case: tuple, device: torch.device) -> None:
    fixture, model, stages = case
    ours = moved(stages(model, moved(fixture.inputs, device)), "cpu")
    theirs = {k: v for k, v in fixture.outputs.items() if not k.startswith("slide/")}
    assert len(theirs) >= 10
    off = {key: abs(subsample(ours[key]) - expected).max() for key, expected in theirs.items()}
    allowed = {key: NOISE_FACTOR * float32_noise(fixture, key) for key in off}
    assert {key: (off[key], allowed[key]) for key in off if off[key] > allowed[key]} == {}


def test_every_official_stage_in_float64(case: tuple, device: torch.device) -> None:
    fixture, model, stages = case
    if not fixture.same_weights:
        pytest.skip("torch draws other random numbers on this machine, in the last bits")
    inputs = {name: value.double() for name, value in moved(fixture.inputs, device).items()}
    ours = moved(stages(copy.deepcopy(model).double(), inputs), "cpu")
    off = {key: abs(subsample(ours[key]) - exact).max() for key, exact in fixture.exact.items()}
    assert {key: error for key, error in off.items() if error > FLOAT64_TOLERANCE} == {}


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("name", OUTPUTS)
@torch.no_grad()
def test_models_in_half_precision(name: str, dtype: torch.dtype, device: torch.device) -> None:
    if device.type == "cpu" and name.startswith("depth"):
        pytest.skip("it takes minutes on a CPU without bf16")
    fixture = load_compact(name)
    model = CASES[name][0](fixture).eval().to(device)
    model.inference_dtype = dtype
    optimize_for_inference(model, dtype=dtype, channels_last=device.type == "cuda")
    output, stage = OUTPUTS[name]
    (ours,) = model([{"image": fixture.inputs["image"][0]}])
    ours, exact = subsample(ours[output].cpu()[None]), fixture.outputs[stage]
    error = ((ours - exact) ** 2).mean() ** 0.5
    assert error < TOLERANCES[dtype] * exact.std()
