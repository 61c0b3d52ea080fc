"""Compiled networks: one program each, and iterations of CUDA graphs."""

import pytest
import torch
from detectron2.modeling import build_model
from helpers import TWO_LEVELS, random_image, smallest_cfg, smallest_vae
from torch import nn
from torch._dynamo.testing import CompileCounter

from metaprompt_d2.diffusion.speedups import compile_networks, optimize_for_inference


def test_an_unknown_mode_of_compilation_is_refused() -> None:
    with pytest.raises(RuntimeError, match="Unrecognized mode=fast, should be one of"):
        compile_networks(smallest_vae(), "fast")


@pytest.mark.parametrize(("dtype", "channels_last"), [(None, False), (torch.bfloat16, True)])
def test_each_part_compiles_into_one_program_for_all_steps(
    dtype: torch.dtype | None, channels_last: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By tracing: nothing breaks a graph, and latents of all steps have the same strides."""
    programs: list[CompileCounter] = []
    compile_ = nn.Module.compile

    def count_programs(module: nn.Module, mode: str) -> None:
        programs.append(CompileCounter())
        compile_(module, backend=programs[-1], fullgraph=True)

    torch.compiler.reset()
    monkeypatch.setattr(nn.Module, "compile", count_programs)
    model = build_model(smallest_cfg(TWO_LEVELS | {"MODEL.META_PROMPT.REFINE_STEPS": 2})).eval()
    model.inference_dtype = dtype
    optimize_for_inference(model, dtype=dtype, channels_last=channels_last, compile_mode="default")
    with torch.no_grad():
        model([{"image": random_image(64, 64)}])
    assert [program.frame_count for program in programs] == [1, 1, 1]


def test_passes_and_rearrangement_are_one_iteration_of_cuda_graphs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise a part's recording frees the outputs of the part before it."""
    events: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda *args, **kwargs: None)
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: events.append("begin"))
    backbone = build_model(smallest_cfg({"MODEL.META_PROMPT.REFINE_STEPS": 2})).eval().backbone
    compile_networks(backbone, "reduce-overhead")
    for name in ("latent_encoder", "refinement.unet", "rearrangement"):
        part = backbone.get_submodule(name)
        part.register_forward_pre_hook(lambda *_, name=name: events.append(name))
    with torch.no_grad():
        backbone(torch.rand(1, 3, 64, 64))
    passes = ["refinement.unet"] * 2
    assert events == ["begin", "latent_encoder", "begin", *passes, "rearrangement"]
