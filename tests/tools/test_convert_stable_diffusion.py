"""`tools/convert_checkpoint.py --to detectron2`: Stable Diffusion for any Detectron2 project."""

import pickle
import subprocess
from pathlib import Path

import convert_checkpoint
import pytest
import torch
from command_lines import run_main
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import instantiate
from detectron2.layers import ShapeSpec
from detectron2.utils.file_io import PathManager
from safetensors.torch import load_file
from torch import nn

from metaprompt_d2.checkpoint import load_diffusion_weights, read_weights
from metaprompt_d2.diffusion import base_names, is_adapter
from metaprompt_d2.model_zoo import get_config
from metaprompt_d2.modeling import MetaPromptBackbone, MetaPromptFPN, meta_prompt_backbone

SOURCE = "metaprompt_d2://mini/diffusion"


def convert(*arguments: object) -> subprocess.CompletedProcess:
    return run_main(convert_checkpoint.main, *arguments, "--to", "detectron2")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("weights") / "sd.pkl"
    result = convert(SOURCE, file)
    assert result.returncode == 0, result.stderr
    assert "0 missing" in result.stdout
    assert [path.name for path in file.parent.iterdir()] == ["sd.pkl"]
    return file


class Nested(nn.Module):
    """A project's backbone with ours as its part `net`, and layers of the same names in its own."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net
        self.conv_in, self.encoder = (
            nn.Conv2d(3, 4, 1),
            nn.ModuleDict({"conv_in": nn.Conv2d(3, 4, 1)}),
        )


class Model(nn.Module):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone


def mini(**arguments: object) -> MetaPromptBackbone:
    return instantiate(meta_prompt_backbone("mini", rearrange="none", **arguments))


def in_fpn(**arguments: object) -> nn.Module:
    """A finer map makes the part `backbone.bottom_up.backbone`."""
    names = ["up2", "up3", "up4", "up5", "up6"]
    return MetaPromptFPN(mini(**arguments), names, out_channels=8)


def part_of(model: nn.Module) -> MetaPromptBackbone:
    (part,) = (module for module in model.modules() if isinstance(module, MetaPromptBackbone))
    return part


@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("kind", ["backbone", "net", "fpn", "alone"])
def test_detectron2s_checkpointer_loads_it_wherever_the_backbone_stands(
    file: Path, kind: str, steps: int
) -> None:
    made = {"backbone": mini, "net": lambda **k: Nested(mini(**k)), "fpn": in_fpn, "alone": mini}
    backbone = made[kind](num_steps=steps)
    model = backbone if kind == "alone" else Model(backbone)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    DetectionCheckpointer(model).load(str(file))
    expected = mini(num_steps=steps)
    load_diffusion_weights(expected, PathManager.get_local_path(SOURCE))
    loaded, expected = part_of(model).state_dict(), expected.state_dict()
    of_diffusion = [n for n in loaded if n.startswith(("latent_encoder.", "refinement.unet."))]
    assert len(of_diffusion) > 200
    assert all(torch.equal(loaded[name], expected[name]) for name in of_diffusion)
    # Prompts, step embeddings and whatever else the model has stay as they were.
    after = model.state_dict()
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert {name.rpartition("backbone.")[2].removeprefix("net.") for name in changed} <= {
        *of_diffusion,
        *(f"bottom_up.{name}" for name in of_diffusion),
    }


def test_our_own_reader_loads_it(file: Path) -> None:
    content = read_weights(str(file))
    assert (content["__author__"], content["matching_heuristics"]) == ("Stable Diffusion", True)
    stored = load_file(
        PathManager.get_local_path(f"{SOURCE}/unet/diffusion_pytorch_model.safetensors")
    )
    loaded = content["model"]["refinement.unet.conv_out.bias"]
    assert torch.equal(loaded, stored["conv_out.bias"].float())


def test_it_is_a_plain_pickle_of_float32_arrays(file: Path) -> None:
    with file.open("rb") as stream:
        content = pickle.load(stream, encoding="latin1")
    assert {type(value).__module__ for value in content["model"].values()} == {"numpy"}
    assert {value.dtype.str for value in content["model"].values()} == {"<f4"}


def test_adapters_of_a_config_are_met_by_their_names(file: Path, tmp_path: Path) -> None:
    pytest.importorskip("peft")
    overrides = ["MODEL.DIFFUSION.LORA.RANK", 2, "MODEL.DEVICE", "cpu"]
    cfg = get_config("mini/cityscapes_seg.yaml", overrides)
    config, adapted = tmp_path / "config.yaml", tmp_path / "sd.pkl"
    config.write_text(cfg.dump())
    result = convert(SOURCE, adapted, "--config-file", config)
    assert result.returncode == 0, result.stderr
    model = Model(MetaPromptBackbone(cfg, ShapeSpec(channels=3)))
    before = {name: v.clone() for name, v in model.state_dict().items() if is_adapter(name)}
    DetectionCheckpointer(model).load(str(adapted))
    expected, loaded = read_weights(str(file))["model"], model.backbone.state_dict()
    for name, value in base_names(loaded).items():
        if name.startswith(("latent_encoder.", "refinement.unet.")):
            assert torch.equal(value, expected[name]), name
    after = model.state_dict()
    assert before
    assert all(torch.equal(after[name], value) for name, value in before.items())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["sd.pth"], "output is .*sd.pth: Detectron2 needs the ending .pkl"),
        (["sd.pkl", "--config-out", "sd.yaml"], "--config-out goes with --to ours and --to plain"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    output, *others = arguments
    result = convert(SOURCE, tmp_path / output, *others)
    assert result.returncode == 2
    assert message.replace(".*", str(tmp_path) + "/") in result.stderr


def test_a_source_that_is_not_stable_diffusion_is_refused_in_one_line(tmp_path: Path) -> None:
    result = convert(tmp_path / "none", tmp_path / "sd.pkl")
    assert result.returncode == 1
    assert "is neither a folder in diffusers' layout" in result.stderr
    assert not list(tmp_path.iterdir())
