"""A backbone that should have Stable Diffusion's weights and runs without them says so, once."""

import copy
import io
import logging
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_backbone, build_model
from detectron2.utils.file_io import PathManager
from helpers import smallest_backbone, smallest_cfg
from torch import nn

from metaprompt_d2.checkpoint import load_diffusion_weights
from metaprompt_d2.diffusion.speedups import optimize_for_inference
from metaprompt_d2.engine import SafeCheckpointer, load_model
from metaprompt_d2.model_zoo import get_config
from metaprompt_d2.modeling.random_weights import WithoutRandomWeights, warn_if_random

IMAGES = torch.zeros(1, 3, 8, 8)
SOURCE = "metaprompt_d2://mini/diffusion"
ASKS = {"MODEL.DIFFUSION.WEIGHTS": SOURCE}


def messages(caplog: pytest.LogCaptureFixture, backbone: nn.Module, passes: int = 2) -> list[str]:
    """Warnings of some passes."""
    caplog.clear()
    with torch.no_grad():
        for _ in range(passes):
            backbone(IMAGES)
    name = "metaprompt_d2.modeling.random_weights"
    return [r.getMessage() for r in caplog.records if r.name == name and r.levelname == "WARNING"]


def test_the_first_pass_with_random_weights_warns(caplog: pytest.LogCaptureFixture) -> None:
    (message,) = messages(caplog, smallest_backbone(ASKS))
    assert f"{SOURCE} have not been loaded: the VAE and UNet of this model run with" in message
    assert "convert_checkpoint.py --to detectron2" in message


def test_a_model_that_asks_for_no_weights_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    assert not messages(caplog, smallest_backbone())


def test_random_weights_in_one_part_are_seen(caplog: pytest.LogCaptureFixture) -> None:
    backbone, other = smallest_backbone(ASKS), smallest_backbone()
    backbone.refinement.load_state_dict(other.refinement.state_dict())
    (message,) = messages(caplog, backbone)
    assert "the VAE of this model run with" in message


def test_a_checkpoint_of_something_else_does_not_count(caplog: pytest.LogCaptureFixture) -> None:
    backbone, other = smallest_backbone(ASKS), smallest_backbone()
    prompts = {n: v for n, v in other.state_dict().items() if "meta_prompts" in n}
    backbone.load_state_dict(prompts, strict=False)
    assert len(messages(caplog, backbone)) == 1


def by_state_dict(backbone: nn.Module) -> nn.Module:
    backbone.load_state_dict(smallest_backbone().state_dict())
    return backbone


def by_assignment(backbone: nn.Module) -> nn.Module:
    backbone.load_state_dict(smallest_backbone().state_dict(), assign=True)
    return backbone


def by_copying(backbone: nn.Module) -> nn.Module:
    other = smallest_backbone()
    for parameter, value in zip(backbone.parameters(), other.parameters(), strict=True):
        parameter.data = value.data
    return backbone


def by_checkpointer(backbone: nn.Module) -> nn.Module:
    content = {"model": smallest_backbone().state_dict()}
    SafeCheckpointer(backbone)._load_model(content)
    return backbone


def in_half_precision(backbone: nn.Module) -> nn.Module:
    optimize_for_inference(by_state_dict(backbone).eval(), dtype=torch.bfloat16)
    return backbone


def copied(backbone: nn.Module) -> nn.Module:
    return copy.deepcopy(by_state_dict(backbone))


@pytest.mark.parametrize(
    "load",
    [by_state_dict, by_assignment, by_copying, by_checkpointer, in_half_precision, copied],
    ids=lambda load: load.__name__,
)
def test_any_way_to_load_weights_counts(load, caplog: pytest.LogCaptureFixture) -> None:
    assert not messages(caplog, load(smallest_backbone(ASKS)))


def test_our_own_loader_counts(caplog: pytest.LogCaptureFixture) -> None:
    cfg = get_config("mini/cityscapes_seg.yaml", ["MODEL.DEVICE", "cpu"])
    backbone = build_backbone(cfg)
    load_diffusion_weights(backbone, PathManager.get_local_path(cfg.MODEL.DIFFUSION.WEIGHTS))
    assert not messages(caplog, backbone)


def test_random_weights_are_seen_in_half_precision_and_with_packed_kernels(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for dtype in (None, torch.bfloat16):
        backbone = smallest_backbone(ASKS).eval()
        optimize_for_inference(backbone, dtype=dtype)
        assert len(messages(caplog, backbone)) == 1


def test_adapters_change_nothing(caplog: pytest.LogCaptureFixture) -> None:
    pytest.importorskip("peft")
    lora = {"MODEL.DIFFUSION.LORA.RANK": 2, "MODEL.DIFFUSION.LORA.TARGETS": ("to_q", "conv_in")}
    backbone = smallest_backbone(ASKS | lora)
    assert len(messages(caplog, copy.deepcopy(backbone))) == 1
    backbone.load_state_dict(smallest_backbone(lora).state_dict())
    assert not messages(caplog, backbone)


def test_a_model_is_saved_whole_and_loaded(caplog: pytest.LogCaptureFixture) -> None:
    stream = io.BytesIO()
    torch.save(smallest_backbone(ASKS), stream)
    stream.seek(0)
    assert len(messages(caplog, torch.load(stream, weights_only=False))) == 1


class Small(nn.Module):
    """What the check reads of a backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_encoder = nn.ModuleDict({"encoder": nn.ModuleDict()})
        self.latent_encoder["encoder"]["conv_in"] = nn.Conv2d(3, 4, 1)
        self.refinement = nn.ModuleDict({"unet": nn.ModuleDict({"conv_in": nn.Conv2d(4, 2, 1)})})

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        latent = self.latent_encoder["encoder"]["conv_in"](images)
        return self.refinement["unet"]["conv_in"](latent)


def test_programs_do_not_contain_the_check(caplog: pytest.LogCaptureFixture) -> None:
    """A pass through a compiled or traced model neither breaks nor counts as the first one."""
    caplog.set_level(logging.WARNING)
    backbone = Small()
    warn_if_random(backbone, SOURCE)
    with torch.no_grad():
        torch.compile(backbone, backend="eager", fullgraph=True)(IMAGES)
        torch.jit.trace(backbone, IMAGES, check_trace=False)  # whose check is a plain pass
        program = torch.export.export(backbone, (IMAGES,)).module()
        assert torch.equal(program(IMAGES), Small.forward(backbone, IMAGES))
    assert not caplog.records
    assert len(messages(caplog, backbone)) == 1


def test_a_model_without_values_runs(caplog: pytest.LogCaptureFixture) -> None:
    """On the device "meta", which counters of operations use, and filled from there."""
    with torch.device("meta"):
        backbone = smallest_backbone(ASKS)
        backbone(torch.zeros(1, 3, 8, 8))
    assert not caplog.records
    filled = backbone.to_empty(device="cpu")
    filled.load_state_dict(smallest_backbone().state_dict())
    assert not messages(caplog, filled)


def test_parameters_that_a_file_will_set_are_not_drawn() -> None:
    before = torch.get_rng_state()
    with WithoutRandomWeights():
        layers = nn.ModuleList(
            [nn.Linear(3, 4), nn.Conv2d(3, 4, 3), nn.Embedding(5, 2), nn.LayerNorm(4)]
        )
        nn.init.xavier_uniform_(layers[0].weight)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(layers[3].weight, torch.ones(4))  # not random
    with WithoutRandomWeights():
        noise = torch.zeros(4).normal_()  # no parameter
    assert noise.abs().min() > 0
    nn.init.normal_(layers[0].weight)  # the context is over
    assert layers[0].weight.std() > 0.1


@pytest.mark.parametrize("rank", [0, 2])
def test_a_model_built_without_draws_has_no_undefined_weights(tmp_path: Path, rank: int) -> None:
    """Memory without values is NaN in torch's deterministic mode; the file has no adapters."""
    expected = build_model(smallest_cfg())
    torch.save({"model": expected.state_dict()}, tmp_path / "model.pth")
    adapters = {"MODEL.DIFFUSION.LORA.RANK": rank, "MODEL.DIFFUSION.LORA.TARGETS": ["to_q"]}
    cfg = smallest_cfg(adapters | {"MODEL.WEIGHTS": str(tmp_path / "model.pth")})
    torch.use_deterministic_algorithms(True)
    try:
        assert torch.empty(3).isnan().all()
        loaded = load_model(cfg, optimize=False).eval()
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(value.isfinite().all() for value in loaded.state_dict().values())
    image = [{"image": torch.rand(3, 64, 64)}]
    with torch.no_grad():
        outputs = [model(image)[0]["sem_seg"] for model in (expected.eval(), loaded)]
    torch.testing.assert_close(*outputs)
