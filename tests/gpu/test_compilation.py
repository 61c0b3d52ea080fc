"""`torch.compile` and CUDA graphs give what eager models give, also where sizes change."""

import copy
from collections.abc import Iterator

import pytest
import torch
from detectron2.modeling import build_model
from helpers import TWO_LEVELS, random_image, smallest_cfg
from task_loops import run, training_loop

from metaprompt_d2.diffusion.speedups import optimize_for_inference

pytestmark = pytest.mark.gpu

SIZES = [(64, 64), (64, 96), (96, 64), (64, 64)]
# (mode, weights, root mean square difference relative to the standard deviation)
CASES = [
    ("default", None, 2e-3),
    ("reduce-overhead", None, 2e-3),
    ("reduce-overhead", torch.bfloat16, 0.05),
    ("max-autotune-no-cudagraphs", None, 2e-3),
    ("max-autotune", None, 2e-3),
]


@pytest.fixture(autouse=True)
def _fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()  # CUDA graphs hold memory


@pytest.mark.parametrize(("mode", "dtype", "tolerance"), CASES)
@torch.no_grad()
def test_predictions_are_the_eager_ones_at_changing_sizes(
    mode: str, dtype: torch.dtype | None, tolerance: float, device: torch.device
) -> None:
    if device.type == "cpu" and mode != "default":
        pytest.skip("the mode is for GPUs")
    keys = {"MODEL.DEVICE": str(device), "MODEL.META_PROMPT.REFINE_STEPS": 2}
    eager = build_model(smallest_cfg(TWO_LEVELS | keys)).eval()
    model = copy.deepcopy(eager)
    model.inference_dtype = dtype
    optimize_for_inference(model, dtype=dtype, compile_mode=mode)
    for size in SIZES:
        inputs = [{"image": random_image(*size)}]
        expected, found = (m(inputs)[0]["sem_seg"].clone() for m in (eager, model))
        error = (found - expected).square().mean().sqrt()
        assert error < tolerance * expected.std(), size


def test_a_compiled_training_has_the_eager_losses(device: torch.device) -> None:
    eager, compiled = (
        run(training_loop("depth", device, compile_mode=mode), 2) for mode in ("", "default")
    )
    assert compiled == pytest.approx(eager, rel=1e-2)
