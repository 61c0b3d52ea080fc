"""Names of tensors, whatever wrappers of modules put into them."""

from random import Random

import pytest
import torch
from torch import nn

from metaprompt_d2.checkpoint import match_names, unwrap
from metaprompt_d2.utils.errors import InputError

WRAPPERS = ["module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"]


def wrapped(name: str, random: Random) -> str:
    """Put up to three wrappers before some parts of a name."""
    parts = []
    for part in name.split("."):
        parts += random.choices(WRAPPERS, k=random.choice((0, 0, 1, 2, 3))) + [part]
    return ".".join(parts)


@pytest.mark.parametrize("seed", range(20))
def test_wrappers_at_any_place_are_dropped(seed: int) -> None:
    random = Random(seed)
    names = ["backbone.net.weight", "backbone.net.bias", "head.0.weight", "scale"]
    assert unwrap({wrapped(name, random): name for name in names}) == {n: n for n in names}


def test_what_torch_itself_writes_is_dropped() -> None:
    inner = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    whole = nn.ModuleDict({"backbone": torch.compile(inner), "head": nn.Linear(2, 1)})
    named = nn.DataParallel(torch.compile(whole)).state_dict()
    assert "module._orig_mod.backbone._orig_mod.0.weight" in named
    plain = nn.ModuleDict({"backbone": inner, "head": whole["head"]}).state_dict()
    assert unwrap(named).keys() == plain.keys()


def test_a_model_with_such_names_keeps_them() -> None:
    known = {name: name for name in ("module.weight", "weight", "_orig_mod.bias")}
    assert match_names({"module.weight": 1, "weight": 2, "bias": 3}, known) == {
        "module.weight": 1,
        "weight": 2,
        "_orig_mod.bias": 3,
    }


def test_two_names_of_a_tensor_are_an_error() -> None:
    with pytest.raises(InputError, match=r"same tensor:\n  weight and module\.weight"):
        unwrap({"weight": 1, "module.weight": 2})
