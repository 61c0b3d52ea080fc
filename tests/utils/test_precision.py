"""Half precision by config nodes: converted weights and autocast for all three tasks."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from helpers import SMALLEST_DEPTH, random_image, smallest_cfg
from torch import nn

from metaprompt_d2.diffusion.speedups import optimize_for_inference
from metaprompt_d2.engine import convert_frozen_weights, load_model
from metaprompt_d2.utils.precision import amp_dtype, autocast

POSE = {
    "MODEL.META_ARCHITECTURE": "TopDownPoseEstimator",
    "MODEL.HEATMAP_HEAD.IN_FEATURE": "p4",
    "INPUT.PERSON_CROP.SIZE": (64, 64),
    "TEST.POSE.HEATMAPS": True,
}
TASKS = {"sem_seg": {}, "depth": SMALLEST_DEPTH, "pose": POSE}


def dense(output: dict) -> torch.Tensor:
    if "instances" in output:
        return output["instances"].pred_keypoint_heatmaps
    return output.get("sem_seg", output.get("depth"))


def test_a_node_says_the_type() -> None:
    assert amp_dtype(CfgNode({"ENABLED": False, "DTYPE": "bfloat16"}), "TEST.AMP") is None
    assert amp_dtype(CfgNode({"ENABLED": True, "DTYPE": "float16"}), "TEST.AMP") == torch.float16
    with pytest.raises(ValueError, match=r"TEST\.AMP\.DTYPE is 'half'"):
        amp_dtype(CfgNode({"ENABLED": False, "DTYPE": "half"}), "TEST.AMP")


def test_autocast_without_a_type_leaves_things_as_they_are() -> None:
    cpu = torch.device("cpu")
    with autocast(cpu, None):
        assert not torch.is_autocast_enabled("cpu")
    with autocast(cpu, torch.bfloat16), autocast(cpu, None):
        assert torch.is_autocast_enabled("cpu")
        assert torch.get_autocast_dtype("cpu") == torch.bfloat16


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("converted", [False, True])
def test_half_precision_predicts_nearly_the_same(task: str, converted: bool) -> None:
    cfg = smallest_cfg(TASKS[task])
    exact = build_model(cfg).eval()
    for name, parameter in exact.named_parameters():
        if "head." in name and parameter.ndim == 4:  # drawn too small to differ, for depth
            nn.init.kaiming_normal_(parameter)
    half = build_model(smallest_cfg(TASKS[task] | {"TEST.AMP.ENABLED": True})).eval()
    half.load_state_dict(exact.state_dict())
    dtype = torch.bfloat16 if converted else None
    optimize_for_inference(half, dtype=dtype, channels_last=True)
    inputs = [{"image": random_image(64, 64)}]
    with torch.no_grad():
        expected, output = dense(exact(inputs)[0]), dense(half(inputs)[0])
    assert output.dtype == torch.float32
    assert not torch.equal(output, expected)
    error = (output - expected).square().mean().sqrt()
    assert error < 0.05 * expected.std()


def test_load_model_converts_vae_and_unet_only() -> None:
    cfg = smallest_cfg({"TEST.AMP.ENABLED": True, "TEST.AMP.DTYPE": "float16"})
    model = load_model(cfg, require_weights=False)
    names = {n for n, p in model.named_parameters() if p.dtype == torch.float16}
    parts = ("backbone.latent_encoder.", "backbone.refinement.unet.")
    assert names == {n for n, _ in model.named_parameters() if n.startswith(parts)}


@pytest.mark.parametrize("converted", ["by TEST.AMP", "frozen"])
def test_adapters_of_prompts_stay_in_float32_with_converted_weights(converted: str) -> None:
    """Autocast, which is on for the heads, doesn't reach them."""
    model = build_model(smallest_cfg(SMALLEST_DEPTH | {"MODEL.DIFFUSION.FREEZE_UNET": True})).eval()
    prompts = model.backbone.refinement.meta_prompts
    expected = [prompts(step) for step in range(len(prompts.adapters))]
    assert expected
    if converted == "frozen":
        convert_frozen_weights(model, torch.bfloat16)
    else:
        optimize_for_inference(model, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        for step, value in enumerate(expected):
            assert torch.equal(prompts(step), value)


def test_training_is_float32_whatever_inference_is() -> None:
    model = build_model(smallest_cfg({"TEST.AMP.ENABLED": True}))
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    seen = []
    model.backbone.refinement.unet.register_forward_hook(
        lambda *args: seen.append(args[2][0].dtype)
    )
    labels = torch.zeros(64, 64, dtype=torch.long)
    model([{"image": random_image(64, 64), "sem_seg": labels} for _ in range(2)])
    model.eval()
    with torch.no_grad():
        model([{"image": random_image(64, 64)}])
    assert set(seen[:2]) == {torch.float32}
    assert set(seen[2:]) == {torch.bfloat16}
