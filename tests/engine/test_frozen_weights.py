"""SOLVER.AMP.CONVERT_FROZEN: frozen weights in half precision next to float32 ones that train."""

import statistics
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from helpers import smallest_backbone, smallest_cfg
from torch import Tensor, nn

from metaprompt_d2.config import check_combinations
from metaprompt_d2.diffusion import FeatureUNet, LatentEncoder
from metaprompt_d2.engine import SafeCheckpointer, convert_frozen_weights

LORA = {"MODEL.DIFFUSION.LORA.RANK": 2}
FROZEN = {"MODEL.DIFFUSION.FREEZE_UNET": True}


def built(keys: dict) -> nn.Module:
    torch.manual_seed(0)
    return build_model(smallest_cfg(keys))


def seeded(keys: dict) -> nn.Module:
    torch.manual_seed(0)
    return smallest_backbone(keys)


@pytest.mark.parametrize(
    ("keys", "networks"),
    [
        (LORA, (FeatureUNet, LatentEncoder)),
        (FROZEN, (FeatureUNet, LatentEncoder)),
        ({}, LatentEncoder),
    ],
    ids=["LoRA", "frozen UNet", "everything trains"],
)
def test_what_trains_stays_in_float32_and_frozen_networks_do_not(
    keys: dict, networks: tuple[type[nn.Module], ...]
) -> None:
    model, before = built(keys), built(keys).state_dict()
    convert_frozen_weights(model, torch.bfloat16)
    of_networks = {
        parameter
        for module in model.modules()
        if isinstance(module, networks)
        for parameter in module.parameters()
    }
    for name, parameter in model.named_parameters():
        half = parameter in of_networks and not parameter.requires_grad
        assert parameter.dtype == (torch.bfloat16 if half else torch.float32), name
        assert parameter.equal(before[name].to(parameter.dtype)), name


def gradients(backbone: nn.Module, dtype: torch.dtype | None, seed: int) -> Tensor:
    """Of all that trains in a backbone, for a loss that weighs its features at random."""
    torch.manual_seed(seed)
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.autocast("cpu", dtype=dtype or torch.bfloat16, enabled=dtype is not None):
        features = backbone.train()(images)
    torch.manual_seed(seed + 100)
    backbone.zero_grad()
    sum((f.float() * torch.randn(f.shape)).sum() for f in features.values()).backward()
    found = [p.grad for p in backbone.parameters() if p.requires_grad]
    assert all(gradient.dtype == torch.float32 for gradient in found)
    return torch.cat([gradient.flatten() for gradient in found])


@pytest.mark.parametrize("keys", [LORA, FROZEN, {}], ids=["LoRA", "frozen UNet", "all trains"])
def test_gradients_are_as_near_to_float32_as_under_autocast_alone(keys: dict) -> None:
    exact, autocast, converted = seeded(keys), seeded(keys), seeded(keys)
    convert_frozen_weights(converted, torch.bfloat16)
    errors = []
    for backbone in (autocast, converted):
        squares = []
        for seed in range(4):
            expected = gradients(exact, None, seed)
            error = gradients(backbone, torch.bfloat16, seed) - expected
            squares.append(((error.norm() / expected.norm()) ** 2).item())
        errors.append(statistics.mean(squares) ** 0.5)
    # Autocast rounds what convolutions and products return. A converted network also rounds what
    # norms and sums return: three roundings instead of one, so the error is sqrt(3) as large.
    assert 0 < errors[1] < 2 * errors[0] < 1


def test_a_model_in_training_predicts_what_its_checkpoint_does(tmp_path: Path) -> None:
    model, again = built(LORA), built(LORA)
    convert_frozen_weights(model, torch.bfloat16)
    SafeCheckpointer(model, str(tmp_path)).save("model_final")
    SafeCheckpointer(again).load(str(tmp_path / "model_final.pth"))
    assert {parameter.dtype for parameter in again.parameters()} == {torch.float32}
    inputs = [{"image": torch.randint(256, (3, 64, 64), dtype=torch.uint8)}]
    with torch.no_grad():
        expected, output = (m.eval()(inputs)[0]["sem_seg"] for m in (again, model))
    assert output.dtype == torch.float32
    assert 0 < (output - expected).square().mean().sqrt() < 0.05 * expected.std()


def test_it_belongs_to_half_precision() -> None:
    with pytest.raises(ValueError, match="CONVERT_FROZEN True needs SOLVER.AMP.ENABLED True"):
        check_combinations(smallest_cfg({"SOLVER.AMP.CONVERT_FROZEN": True}))
