"""All speed-ups by one call, and by config keys in inference and training."""

import copy

import pytest
import torch
from detectron2.modeling import build_model
from helpers import random_image, smallest_cfg
from torch import nn

from metaprompt_d2.diffusion.speedups import (
    InPlaceResidualBlock,
    PackedConv2d,
    optimize_for_inference,
    optimize_for_training,
)
from metaprompt_d2.engine import Trainer, load_model


def is_channels_last(model: nn.Module) -> bool:
    kernel = model.backbone.refinement.unet.conv_in.weight
    return kernel.is_contiguous(memory_format=torch.channels_last)


def count(model: nn.Module, kind: type[nn.Module]) -> int:
    return sum(isinstance(module, kind) for module in model.modules())


def test_all_speed_ups_give_the_same_numbers_and_state_dict() -> None:
    plain = build_model(smallest_cfg()).eval()
    inputs = [{"image": random_image(64, 72)}]
    packed = {"pack_float32_kernels": True}
    for arguments in ({}, {"channels_last": True}, packed, packed | {"pack_kernels": False}):
        model = copy.deepcopy(plain)
        optimize_for_inference(model, **arguments)
        assert is_channels_last(model) == arguments.get("channels_last", False)
        with torch.no_grad():
            expected, output = (m(inputs)[0]["sem_seg"] for m in (plain, model))
        torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-4)
        assert count(model, InPlaceResidualBlock) == 6
        assert bool(count(model, PackedConv2d)) == (arguments == packed)
        state = model.state_dict()
        assert state.keys() == plain.state_dict().keys()
        assert all(torch.equal(state[name], value) for name, value in plain.state_dict().items())


def test_a_model_in_training_is_not_packed() -> None:
    model = build_model(smallest_cfg())
    optimize_for_training(model, channels_last=True)
    assert count(model, PackedConv2d) == 0
    assert count(model, InPlaceResidualBlock) == 6
    assert is_channels_last(model)
    labels = torch.zeros(64, 64, dtype=torch.long)
    losses = model([{"image": random_image(64, 64), "sem_seg": labels} for _ in range(2)])
    sum(losses.values()).backward()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained)


def test_keys_act_on_loaded_models(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda _, mode: modes.append(mode))
    keys = {"MODEL.SPEED.CHANNELS_LAST": True, "MODEL.SPEED.COMPILE": "reduce-overhead"}
    model = load_model(smallest_cfg(keys), require_weights=False)
    assert is_channels_last(model) and modes == ["reduce-overhead"] * 3
    assert count(model, PackedConv2d) == 0
    half, packs = {"TEST.AMP.ENABLED": True}, "MODEL.SPEED.PACK_KERNELS"
    packs_float32 = {"MODEL.SPEED.PACK_FLOAT32_KERNELS": True}
    for keys, packed in (
        ({}, False),
        (half, True),
        (half | {packs: False}, False),
        (packs_float32, True),
        (packs_float32 | {packs: False}, False),
    ):
        model = load_model(smallest_cfg(keys), require_weights=False)
        assert bool(count(model, PackedConv2d)) == packed
    keys = {"MODEL.SPEED.CHANNELS_LAST": True}
    model = load_model(smallest_cfg(keys), optimize=False, require_weights=False)
    assert not is_channels_last(model) and count(model, InPlaceResidualBlock) == 0


def test_keys_act_on_trained_models(monkeypatch: pytest.MonkeyPatch) -> None:
    modes: list[str] = []
    monkeypatch.setattr(nn.Module, "compile", lambda _, mode: modes.append(mode))

    class StopError(Exception):
        pass

    def stop(model: nn.Module, **options: object) -> None:
        assert is_channels_last(model) and count(model, InPlaceResidualBlock) == 6
        raise StopError

    monkeypatch.setattr("metaprompt_d2.engine.base_trainer.create_ddp_model", stop)
    monkeypatch.setattr("metaprompt_d2.engine.trainer.check_datasets", lambda cfg: None)
    with pytest.raises(StopError):
        Trainer(smallest_cfg({"MODEL.SPEED.CHANNELS_LAST": True, "MODEL.SPEED.COMPILE": "default"}))
    assert modes == ["default"] * 3
