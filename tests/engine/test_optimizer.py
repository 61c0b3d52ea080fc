"""Parameter groups by ordered rules, and the optimizer over them."""

import pytest
import torch
from helpers import (
    smallest_cfg,
    smallest_depth_cfg,
    smallest_depth_model,
    smallest_model,
    smallest_vae,
)
from torch import nn

from metaprompt_d2.engine import build_optimizer, group_parameters
from metaprompt_d2.utils.errors import InputError


def small_model() -> nn.Module:
    return nn.ModuleDict({"body": nn.Linear(2, 3), "head": nn.Linear(3, 1)})


def grouped(model: nn.Module, rules: list) -> dict[str, tuple[float, float]]:
    """Learning rate and weight decay of every parameter; base values 1 and 10."""
    groups = group_parameters(model, rules, base_lr=1.0, weight_decay=10.0)
    return {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]}


def test_without_rules_everything_has_the_base_values() -> None:
    assert grouped(small_model(), []) == {
        "body.weight": (1, 10),
        "body.bias": (1, 10),
        "head.weight": (1, 10),
        "head.bias": (1, 10),
    }


def test_the_first_rule_that_is_found_applies() -> None:
    rules = [["bias$", 2.0, 0.0], ["^body", 0.1, 0.5], ["body.bias", 9.0, 9.0]]
    assert grouped(small_model(), rules) == {
        "body.weight": (0.1, 5),
        "body.bias": (2, 0),
        "head.weight": (1, 10),
        "head.bias": (2, 0),
    }
    assert grouped(small_model(), rules[::-1])["body.bias"] == (9, 90)


def test_vectors_are_not_decayed_if_asked_for() -> None:
    model = nn.ModuleDict({"body": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
    model["prompts"] = nn.Embedding(1, 4)
    groups = group_parameters(
        model, [["body", 0.1, 2.0]], base_lr=1.0, weight_decay=10.0, decay_vectors=False
    )
    assert {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]} == {
        "body.weight": (0.1, 20),
        "body.bias": (0.1, 0),
        "norm.weight": (1, 0),
        "norm.bias": (1, 0),
        "prompts.weight": (1, 10),  # one row, but a matrix
    }


def test_norms_and_biases_have_detectron2s_values_which_the_rules_multiply() -> None:
    model = nn.ModuleDict({"body": nn.Linear(2, 3), "norm": nn.GroupNorm(1, 3)})
    groups = group_parameters(
        model,
        [["body", 0.1, 2.0]],
        base_lr=1.0,
        weight_decay=10.0,
        weight_decay_norm=3.0,
        weight_decay_bias=5.0,
        bias_lr_factor=2.0,
    )
    assert {name: (g["lr"], g["weight_decay"]) for g in groups for name in g["names"]} == {
        "body.weight": (0.1, 20),
        "body.bias": (0.2, 10),
        "norm.weight": (1, 3),
        "norm.bias": (2, 5),  # a bias, as in Detectron2
    }


def test_the_keys_for_norms_and_biases_are_used() -> None:
    keys = {
        "SOLVER.BASE_LR": 1.0,
        "SOLVER.WEIGHT_DECAY": 10.0,
        "SOLVER.WEIGHT_DECAY_NORM": 3.0,
        "SOLVER.WEIGHT_DECAY_BIAS": 5.0,
        "SOLVER.BIAS_LR_FACTOR": 2.0,
    }
    model = nn.Sequential(nn.Linear(2, 3), nn.LayerNorm(3))
    groups = build_optimizer(smallest_cfg(keys), model).param_groups
    values = {
        id(p): (group["lr"], group["weight_decay"]) for group in groups for p in group["params"]
    }
    found = [values[id(parameter)] for parameter in model.parameters()]
    assert found == [(1, 10), (2, 5), (1, 3), (2, 5)]


@pytest.mark.parametrize("key", ["weight_decay_norm", "weight_decay_bias"])
def test_a_decay_of_vectors_contradicts_none(key: str) -> None:
    options = {"base_lr": 1.0, "weight_decay": 1.0, "decay_vectors": False}
    with pytest.raises(InputError, match=f"{key} .*0.5"):
        group_parameters(small_model(), [], **options, **{key: 0.5})
    group_parameters(small_model(), [], **options, **{key: 0.0})


def test_the_depth_recipe_gives_four_groups() -> None:
    model = smallest_depth_model()
    groups = build_optimizer(smallest_depth_cfg(), model).param_groups
    # the official depth recipe
    values = sorted((group["lr"], group["weight_decay"]) for group in groups)
    expected = [(5e-6, 0.0), (5e-6, 0.1), (5e-4, 0.0), (5e-4, 0.1)]
    assert values == [pytest.approx(pair) for pair in expected]
    for group in groups:
        decayed = {parameter.ndim > 1 for parameter in group["params"]}
        assert decayed == {group["weight_decay"] > 0}


def test_equal_multipliers_share_a_group() -> None:
    rules = [["body.weight", 0.1, 1.0], ["head.weight", 0.1, 1.0]]
    groups = group_parameters(small_model(), rules, base_lr=1.0, weight_decay=1.0)
    assert [group["names"] for group in groups] == [
        ["body.weight", "head.weight"],
        ["body.bias", "head.bias"],
    ]
    assert [len(group["params"]) for group in groups] == [2, 2]


def test_frozen_parameters_are_left_out() -> None:
    model = small_model()
    model["body"].requires_grad_(False)
    assert grouped(model, []).keys() == {"head.weight", "head.bias"}


def test_the_vae_is_left_out_whatever_its_flags_say() -> None:
    model = nn.ModuleDict({"vae": smallest_vae(), "head": nn.Linear(2, 2)})
    model.requires_grad_(True)
    assert grouped(model, []).keys() == {"head.weight", "head.bias"}


def test_a_shared_parameter_is_trained_once() -> None:
    model = small_model()
    model["again"] = model["head"]
    groups = group_parameters(model, [], base_lr=1.0, weight_decay=1.0)
    assert sum(len(group["params"]) for group in groups) == 4


def test_a_model_with_nothing_to_train_is_refused() -> None:
    model = small_model().requires_grad_(False)
    with pytest.raises(ValueError, match="no parameter to train"):
        group_parameters(model, [], base_lr=1.0, weight_decay=1.0)


@pytest.mark.parametrize(
    "rule", [["(", 1.0, 1.0], ["a", 1.0], ["a", "much", 1.0], ["a", 1.0, None], [3, 1.0, 1.0], 5]
)
def test_a_bad_rule_is_refused(rule) -> None:
    with pytest.raises(InputError, match=r"rules: .* isn't a \(regular expression"):
        group_parameters(small_model(), [rule], base_lr=1.0, weight_decay=1.0)


def test_the_recipe_gives_adamw_with_three_groups() -> None:
    cfg = smallest_cfg()
    model = smallest_model()
    optimizer = build_optimizer(cfg, model)
    assert isinstance(optimizer, torch.optim.AdamW)
    assert optimizer.defaults["betas"] == (0.9, 0.999)
    assert optimizer.defaults["eps"] == 1e-8
    values = sorted((group["lr"], group["weight_decay"]) for group in optimizer.param_groups)
    # the official recipe: rest of the UNet, transformer norms, everything else
    assert [list(pair) for pair in values] == [
        pytest.approx([8e-6, 0.001]),
        pytest.approx([8e-5, 0.0]),
        pytest.approx([8e-5, 0.001]),
    ]
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in model.parameters() if p.requires_grad}


def test_rules_of_the_config_are_used() -> None:
    cfg = smallest_cfg({"SOLVER.PARAM_RULES": [["sem_seg_head", 3.0, 0.0]], "SOLVER.BASE_LR": 2.0})
    model = smallest_model()
    groups = build_optimizer(cfg, model).param_groups
    head = {id(p) for p in model.sem_seg_head.parameters()}
    for group in groups:
        expected = (6.0, 0.0) if id(group["params"][0]) in head else (2.0, 0.001)
        assert (group["lr"], group["weight_decay"]) == pytest.approx(expected)
        assert len({id(p) in head for p in group["params"]}) == 1


def step_with_gradient(cfg, value: float) -> torch.Tensor:
    """The gradients that the optimizer saw for a layer of four weights with equal gradients."""
    layer = nn.Linear(4, 1, bias=False)
    optimizer = build_optimizer(cfg, layer)
    layer.weight.grad = torch.full((1, 4), value)
    optimizer.step()
    (state,) = optimizer.state.values()
    return state["exp_avg"] / 0.1  # after the first step the average is 0.1 * gradient


@pytest.mark.parametrize(
    ("clip_type", "expected"),
    [
        ("value", 0.5),  # each element
        ("norm", 0.25),  # each parameter: norm sqrt(4 * 3^2) = 6 becomes 0.5
        ("full_model", 3.0),  # in the training loop instead
    ],
)
def test_gradients_are_clipped_as_the_config_asks(clip_type: str, expected: float) -> None:
    cfg = smallest_cfg(
        {
            "SOLVER.CLIP_GRADIENTS.ENABLED": True,
            "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": clip_type,
            "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": 0.5,
        }
    )
    seen = step_with_gradient(cfg, 3.0)
    torch.testing.assert_close(seen, torch.full((1, 4), expected), rtol=1e-4, atol=1e-6)


def test_the_recipe_does_not_clip() -> None:
    seen = step_with_gradient(smallest_cfg(), 3.0)
    torch.testing.assert_close(seen, torch.full((1, 4), 3.0), rtol=1e-4, atol=1e-6)
