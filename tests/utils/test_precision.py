"""Half precision: config nodes, converted weights and autocast of all three tasks."""

import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from helpers import SMALLEST_DEPTH, random_image, smallest_cfg
from torch import nn
from torch._dynamo.testing import CompileCounter

from metaprompt_d2.diffusion import FeatureUNet, LatentEncoder
from metaprompt_d2.engine import load_model
from metaprompt_d2.utils.precision import amp_dtype, autocast, convert_weights

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
    fast = {"TEST.AMP.ENABLED": True, "MODEL.SPEED.CHANNELS_LAST": True}
    exact = build_model(cfg).eval()
    for name, parameter in exact.named_parameters():
        if "head." in name and parameter.ndim == 4:  # drawn too small to differ, for depth
            nn.init.kaiming_normal_(parameter)
    half = build_model(smallest_cfg(TASKS[task] | fast)).eval()
    half.load_state_dict(exact.state_dict())
    if converted:
        for module in half.modules():
            if isinstance(module, FeatureUNet | LatentEncoder):
                convert_weights(module, torch.bfloat16)
    inputs = [{"image": random_image(64, 64)}]
    with torch.no_grad():
        expected, output = dense(exact(inputs)[0]), dense(half(inputs)[0])
    assert output.dtype == torch.float32
    assert not torch.equal(output, expected)
    error = (output - expected).square().mean().sqrt()
    assert error < 0.05 * expected.std()


def test_load_model_converts_vae_and_unet_only() -> None:
    model = load_model(smallest_cfg({"TEST.AMP.ENABLED": True, "TEST.AMP.DTYPE": "float16"}))
    names = {n for n, p in model.named_parameters() if p.dtype == torch.float16}
    parts = ("backbone.latent_encoder.", "backbone.refinement.unet.")
    assert names == {n for n, _ in model.named_parameters() if n.startswith(parts)}


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


def test_an_unknown_mode_of_compilation_is_refused() -> None:
    with pytest.raises(ValueError, match=r"MODEL\.SPEED\.COMPILE is 'fast'"):
        build_model(smallest_cfg({"MODEL.SPEED.COMPILE": "fast"}))


@pytest.mark.parametrize("half", [False, True])
def test_each_part_compiles_into_one_program_for_all_steps(half: bool) -> None:
    """By tracing: nothing breaks a graph, and every refinement step has the same layout."""
    keys = {"MODEL.META_PROMPT.REFINE_STEPS": 3, "TEST.AMP.ENABLED": half}
    model = load_model(smallest_cfg(keys)).eval()
    backbone = model.backbone
    programs = []
    torch.compiler.reset()
    for part in (backbone.latent_encoder.encoder, backbone.refinement.unet, backbone.rearrangement):
        programs.append(CompileCounter())
        part.compile(backend=programs[-1], fullgraph=True)
    inputs = [{"image": random_image(64, 64)}]
    with torch.no_grad():
        model(inputs)
    assert [program.frame_count for program in programs] == [1, 1, 1]


def test_passes_and_rearrangement_are_one_iteration_of_cuda_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a part's recording frees the outputs of the part before it."""
    events = []
    monkeypatch.setattr(nn.Module, "compile", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("begin"))
    keys = {"MODEL.SPEED.COMPILE": "reduce-overhead", "MODEL.META_PROMPT.REFINE_STEPS": 2}
    backbone = build_model(smallest_cfg(keys)).eval().backbone
    for name in ("latent_encoder", "refinement.unet", "rearrangement"):
        part = backbone.get_submodule(name)
        part.register_forward_pre_hook(lambda *_, name=name: events.append(name))
    with torch.no_grad():
        backbone(torch.rand(1, 3, 64, 64))
    passes = ["refinement.unet"] * 2
    assert events == ["begin", "latent_encoder", "begin", *passes, "rearrangement"]


def test_both_memory_layouts_give_the_same_numbers() -> None:
    models = [
        build_model(smallest_cfg({"MODEL.SPEED.CHANNELS_LAST": value})).eval()
        for value in (False, True)
    ]
    models[1].load_state_dict(models[0].state_dict())
    assert models[1].backbone.refinement.unet.conv_in.weight.is_contiguous(
        memory_format=torch.channels_last
    )
    inputs = [{"image": random_image(64, 72)}]
    with torch.no_grad():
        contiguous, channels_last = (model(inputs)[0]["sem_seg"] for model in models)
    torch.testing.assert_close(channels_last, contiguous, rtol=1e-4, atol=1e-4)
