"""Keys of registered projects, next to this package's recipes."""

import pytest
from config_keys import leaves
from detectron2.utils.registry import Registry
from mask2former_keys import KEYS, add_mask2former_keys

from metaprompt_d2.config import projects, recipe_names
from metaprompt_d2.data import build_mapper
from metaprompt_d2.engine import load_config
from metaprompt_d2.utils.errors import UnknownKeyError

# The others are Detectron2's models, for which no file of ours names a mapper.
OURS = [name for name in recipe_names() if not name.startswith("compose/") or "R_50" in name]


@pytest.fixture
def mask2former(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = Registry("CONFIG_KEYS")
    registry.register(add_mask2former_keys)
    monkeypatch.setattr(projects, "CONFIG_KEYS_REGISTRY", registry)


@pytest.mark.parametrize("name", OURS)
def test_a_recipe_stays_the_same(name: str, request: pytest.FixtureRequest) -> None:
    alone = dict(leaves(load_config(f"metaprompt_d2://{name}", [])))
    request.getfixturevalue("mask2former")
    cfg = load_config(f"metaprompt_d2://{name}", [])
    assert alone.items() <= dict(leaves(cfg)).items()
    assert cfg.MODEL.MASK_FORMER.DEC_LAYERS == 6


@pytest.mark.usefixtures("mask2former")
def test_keys_have_the_projects_defaults_and_can_be_set() -> None:
    assert KEYS.items() <= dict(leaves(load_config("", []))).items()
    cfg = load_config("", ["MODEL.MASK_FORMER.DEC_LAYERS", 10])
    assert cfg.MODEL.MASK_FORMER.DEC_LAYERS == 10


@pytest.mark.usefixtures("mask2former")
def test_a_mapper_that_nobody_registered_is_named() -> None:
    with pytest.raises(UnknownKeyError, match=r"MAPPER_NAME is 'mask_former_semantic', expected"):
        build_mapper(load_config("", []), is_train=True)


def test_a_key_of_nobody_comes_with_advice() -> None:
    with pytest.raises(UnknownKeyError, match=r"MASK_FORMER.*DETECTRON2_ENV_MODULE.*compose\.md"):
        load_config("", ["MODEL.MASK_FORMER.DEC_LAYERS", 10])
