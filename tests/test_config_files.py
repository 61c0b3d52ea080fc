"""The configs that ship: reachable from anywhere, buildable, and without a key that nothing has."""

from pathlib import Path

import pytest
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

from metaprompt_d2.checkpoint import load_diffusion_weights
from metaprompt_d2.config_files import CONFIG_ROOT
from metaprompt_d2.engine import load_config

RECIPES = sorted(
    str(file.relative_to(CONFIG_ROOT))
    for file in CONFIG_ROOT.rglob("*.yaml")
    if not file.name.startswith("Base-")
)


@pytest.mark.parametrize("recipe", RECIPES)
def test_every_recipe_loads_from_any_folder(
    recipe: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cfg = load_config(f"metaprompt_d2://{recipe}", [])  # unknown keys are errors
    assert cfg.MODEL.BACKBONE.NAME == "MetaPromptBackbone"


def test_the_mini_recipe_starts_from_the_diffusion_model_that_ships() -> None:
    cfg = load_config("metaprompt_d2://mini/cityscapes_seg.yaml", [])
    folder = PathManager.get_local_path(cfg.MODEL.DIFFUSION.WEIGHTS)
    model = build_model(cfg)
    before = model.backbone.refinement.unet.conv_in.weight.clone()
    load_diffusion_weights(model, folder)
    assert not before.equal(model.backbone.refinement.unet.conv_in.weight)


def test_without_a_gpu_the_device_becomes_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert load_config("", []).MODEL.DEVICE == "cpu"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert load_config("", []).MODEL.DEVICE == "cuda"


def test_a_missing_config_and_an_unknown_key_are_named() -> None:
    with pytest.raises(FileNotFoundError, match="nonsense.yaml"):
        load_config("metaprompt_d2://nonsense.yaml", [])
    with pytest.raises(KeyError, match="MODEL.META_PROMPT.NUMBER"):
        load_config("", ["MODEL.META_PROMPT.NUMBER", "5"])
