"""`tools/convert_checkpoint.py` with Mask2Former in three layouts."""

from pathlib import Path

import convert_checkpoint
import pytest
import torch
from command_lines import run_main
from detectron2.checkpoint import DetectionCheckpointer
from mask2former_models import CHANNELS, head_weights, tiny_config, tiny_resnet, tiny_segmentor
from published_mask2former import PublishedMask2Former
from torch import Tensor, nn
from transformers import Mask2FormerForUniversalSegmentation

from metaprompt_d2.checkpoint import find_state_dict, load_checkpoint


def convert(*arguments: object) -> str:
    done = run_main(convert_checkpoint.main, *arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def refusal(*arguments: object) -> str:
    done = run_main(convert_checkpoint.main, *arguments)
    assert done.returncode
    return done.stderr


def tensors_of(file: Path) -> dict[str, Tensor]:
    return find_state_dict(load_checkpoint(file), file)


def assert_equal(file: Path, expected: dict[str, Tensor]) -> None:
    given = tensors_of(file)
    assert given.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(given[name], value), name


def published(**sizes: int) -> nn.Module:
    model = PublishedMask2Former(CHANNELS, **sizes)
    model.backbone = tiny_resnet()
    return model


@pytest.fixture
def ours(tmp_path: Path) -> tuple[Path, dict[str, Tensor]]:
    """A checkpoint of a training, and its weights."""
    weights = tiny_segmentor().state_dict()
    file = tmp_path / "ours.pth"
    torch.save({"model": weights, "iteration": 3}, file)
    return file, weights


def test_ours_goes_through_both_layouts_and_back(ours: tuple, tmp_path: Path) -> None:
    file, weights = ours
    theirs, hub, back = (tmp_path / n for n in ("theirs.pth", "hub.safetensors", "back.pth"))
    convert(file, theirs, "--to", "mask2former")
    convert(theirs, back)
    assert_equal(back, weights)
    said = convert(theirs, hub, "--to", "transformers")
    left_out = sum(name.startswith("backbone.") for name in weights)
    assert f"{left_out} tensors of the backbone left out, such as backbone." in said
    convert(hub, back)
    assert_equal(back, {n: v for n, v in weights.items() if n.startswith("sem_seg_head.")})


def test_theirs_come_back_bit_by_bit_with_their_backbones(tmp_path: Path) -> None:
    model, folder = published(conv_dim=64), tmp_path / "hub"
    torch.save({"model": model.state_dict()}, tmp_path / "theirs.pth")
    hub = Mask2FormerForUniversalSegmentation(tiny_config())
    hub.save_pretrained(folder)
    for source, to, ending in (
        (tmp_path / "theirs.pth", "mask2former", "pth"),
        (folder, "transformers", "safetensors"),
    ):
        kept, back = tmp_path / f"{to}_kept.pth", tmp_path / f"{to}_back.{ending}"
        convert(source, kept, "--task", "universal")
        convert(kept, back, "--to", to)
        file = source if source.is_file() else folder / "model.safetensors"
        assert_equal(back, tensors_of(file))


def test_it_prints_the_keys_of_the_head(tmp_path: Path) -> None:
    torch.save({"model": published(num_queries=7, num_heads=2).state_dict()}, tmp_path / "a.pth")
    said = convert(tmp_path / "a.pth", tmp_path / "b.pth")
    assert "Mask2Former's published layout for Detectron2" in said
    assert "[8, 16, 32, 64] channels" in said
    for key in ("SEM_SEG_HEAD.NUM_CLASSES 5", "MASK2FORMER.NUM_OBJECT_QUERIES 7"):
        assert f"  MODEL.{key}\n" in said
    assert "  MODEL.MASK2FORMER.NHEADS 2\n" in said


def test_detectron2s_checkpointer_loads_it_into_the_published_code(
    ours: tuple, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file, weights = ours
    convert(file, tmp_path / "theirs.pth", "--to", "mask2former")
    model = published()
    DetectionCheckpointer(model).load(str(tmp_path / "theirs.pth"))
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    loaded = model.state_dict()
    start = "sem_seg_head.decoders.transformer_module.decoder.layers.1.self_attn"
    parts = [weights[f"{start}.{part}_proj.weight"] for part in "qkv"]
    layer = "sem_seg_head.predictor.transformer_self_attention_layers.1.self_attn"
    assert torch.equal(loaded[f"{layer}.in_proj_weight"], torch.cat(parts))
    norm = "backbone.stem.conv1.weight"
    assert torch.equal(loaded[norm], weights[norm])


def test_transformers_loads_it(ours: tuple, tmp_path: Path) -> None:
    file, weights = ours
    tiny_config().save_pretrained(tmp_path)
    convert(file, tmp_path / "model.safetensors", "--to", "transformers")
    model, info = Mask2FormerForUniversalSegmentation.from_pretrained(
        tmp_path, output_loading_info=True
    )
    assert not info["unexpected_keys"]
    assert not info["mismatched_keys"]
    assert all(n.startswith("model.pixel_level_module.encoder.") for n in info["missing_keys"])
    expected = head_weights(
        {n.removeprefix("sem_seg_head."): v for n, v in weights.items() if n[0] == "s"}
    )
    loaded = model.state_dict()
    for name, value in expected.items():
        assert torch.equal(loaded[name], value), name


def test_tensors_that_do_not_fit_are_listed_and_nothing_is_written(tmp_path: Path) -> None:
    state_dict = published().state_dict()
    del state_dict["sem_seg_head.pixel_decoder.layer_1.norm.bias"]
    state_dict["sem_seg_head.predictor.decoder_norm.bias"] = torch.zeros(5)
    state_dict["sem_seg_head.predictor.extra.weight"] = torch.zeros(1)
    torch.save({"model": state_dict}, tmp_path / "theirs.pth")
    said = refusal(tmp_path / "theirs.pth", tmp_path / "hub.safetensors", "--to", "transformers")
    decoders = "sem_seg_head.decoders"
    assert "does not fit the model, 3 tensors" in said
    assert f"{decoders}.pixel_decoder.layer_1.1.bias: missing" in said
    assert f"{decoders}.transformer_module.decoder.layernorm.bias: (5,) in the file, (32,)" in said
    assert "sem_seg_head.predictor.extra.weight: not in the model" in said
    del state_dict["sem_seg_head.predictor.query_feat.weight"]
    torch.save({"model": state_dict}, tmp_path / "theirs.pth")
    said = refusal(tmp_path / "theirs.pth", tmp_path / "ours.pth")
    assert "theirs.pth: sizes cannot be told without the tensor" in said
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]


def test_other_files_and_wrong_arguments_are_refused(ours: tuple, tmp_path: Path) -> None:
    file, _ = ours
    other = tmp_path / "other.pth"
    torch.save(nn.Linear(2, 2).state_dict(), other)
    for to, name in (("mask2former", "x.pth"), ("transformers", "x.safetensors")):
        said = refusal(other, tmp_path / name, "--to", to)
        (line,) = (line for line in said.splitlines() if line.startswith("error: "))
        assert "other.pth holds no Mask2Former" in line
    assert "of Mask2Former in a layout of others" in refusal(file, tmp_path / "x.pth")
    said = refusal(file, tmp_path / "x.pkl", "--to", "mask2former")
    assert "Detectron2 expects another format" in said
    said = refusal(file, tmp_path / "x.bin", "--to", "transformers")
    assert "transformers needs the ending .safetensors" in said
    said = refusal(file, tmp_path / "x.pth", "--to", "mask2former", "--task", "depth")
    assert "is a universal checkpoint, but --task is depth" in said
    theirs = tmp_path / "theirs.pth"
    torch.save({"model": published().state_dict()}, theirs)
    said = refusal(theirs, tmp_path / "x.pth", "--config-out", tmp_path / "x.yaml")
    assert "--config-file and --config-out are for official MetaPrompts checkpoints" in said
    said = refusal(file, tmp_path / "x.pth", "--to", "mask2former", "--config-file", "x.yaml")
    assert "--config-file does not go with --to mask2former" in said
    assert not list(tmp_path.glob("x.*"))
