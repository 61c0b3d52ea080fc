"""Learning rates and weight decay by ordered rules on names."""

import pytest
import torch
from helpers import smallest_backbone, smallest_cfg
from torch import nn

from metaprompt_d2.engine import build_optimizer, group_parameters


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Linear(2, 2)
        self.head = nn.Linear(2, 2)


def test_the_first_rule_that_fits_holds() -> None:
    rules = [("stem.bias", 3.0, 0.0), ("stem", 0.5, 2.0), ("bias", 7.0, 7.0)]
    groups = group_parameters(Net(), rules, base_lr=0.1, weight_decay=0.01)
    found = {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]}
    assert found == {
        "stem.weight": pytest.approx((0.05, 0.02)),
        "stem.bias": pytest.approx((0.3, 0.0)),
        "head.weight": pytest.approx((0.1, 0.01)),
        "head.bias": pytest.approx((0.7, 0.07)),
    }


def test_the_vae_is_never_trained_whatever_its_flags_say() -> None:
    backbone = smallest_backbone().requires_grad_(True)
    groups = group_parameters(backbone, [], base_lr=1.0, weight_decay=0.0)
    names = [name for group in groups for name in group["names"]]
    assert "refinement.unet.conv_in.weight" in names
    assert not [name for name in names if name.startswith("latent_encoder")]


@pytest.mark.parametrize("rule", [("stem", 1.0), ("(", 1.0, 1.0), ("stem", "fast", 1.0), 5])
def test_a_rule_that_is_no_triple_is_refused(rule: object) -> None:
    with pytest.raises(ValueError, match="SOLVER.PARAM_RULES"):
        group_parameters(Net(), [rule], base_lr=1.0, weight_decay=0.0)


def test_a_model_with_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="no parameter to train"):
        group_parameters(Net().requires_grad_(False), [], base_lr=1.0, weight_decay=0.0)


def test_gradients_are_clipped_by_value_as_in_detectron2() -> None:
    keys = {"ENABLED": True, "CLIP_TYPE": "value", "CLIP_VALUE": 0.5}
    cfg = smallest_cfg({f"SOLVER.CLIP_GRADIENTS.{key}": value for key, value in keys.items()})
    model = Net()
    optimizer = build_optimizer(cfg, model)
    for parameter in model.parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    assert all((parameter.grad == 0.5).all() for parameter in model.parameters())
