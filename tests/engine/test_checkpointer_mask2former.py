"""Files of Mask2Former load into a segmentor with our head."""

import logging
import pickle
from pathlib import Path

import pytest
import torch
from mask2former_models import CHANNELS, tiny_config, tiny_resnet, tiny_segmentor
from published_mask2former import PublishedMask2Former
from torch import nn
from transformers import Mask2FormerForUniversalSegmentation

from metaprompt_d2.checkpoint import match_weights
from metaprompt_d2.engine import SafeCheckpointer
from metaprompt_d2.utils.errors import InputError, MissingFileError

FROM_PUBLISHED = "Converted the head's weights from Mask2Former's published layout for Detectron2"


@pytest.fixture(autouse=True)
def _all_logs(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)


def _published() -> nn.Module:
    model = PublishedMask2Former(CHANNELS)
    model.backbone = tiny_resnet()
    return model.eval()


def _write_published(model: nn.Module, file: Path) -> str:
    """Write a file as the authors do: arrays, and the versions of names with them."""
    state_dict = model.state_dict()
    if file.suffix == ".pkl":
        for name, value in state_dict.items():
            state_dict[name] = value.numpy()
        file.write_bytes(pickle.dumps({"model": state_dict, "__author__": "authors"}))
    else:
        torch.save({"model": state_dict, "iteration": 7}, file)
    return str(file)


@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_a_published_file_gives_the_published_predictions(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, ending: str
) -> None:
    theirs, ours = _published(), tiny_segmentor().eval()
    file = _write_published(theirs, tmp_path / f"model_final_94dc52.{ending}")
    SafeCheckpointer(ours, for_inference=True).load(file)
    assert FROM_PUBLISHED in caplog.text
    image = torch.randn(1, 3, 64, 96)
    expected = theirs(theirs.backbone(image))
    predicted, _ = ours.sem_seg_head(ours.backbone(image))
    for one, other in zip(predicted, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_head_of_other_classes_is_refused_unless_it_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    theirs, ours = _published(), tiny_segmentor(num_classes=3)
    file = _write_published(theirs, tmp_path / "published.pkl")
    classes = "sem_seg_head.decoders.class_predictor"
    with pytest.raises(InputError, match="3 tensors differ") as error:
        SafeCheckpointer(ours).load(file)
    assert f"{classes}.weight: (6, 32) in the file, (4, 32) in the model" in str(error.value)
    assert "sem_seg_head.criterion.empty_weight: (6,)" in str(error.value)
    before = ours.sem_seg_head.decoders.class_predictor.weight.clone()
    SafeCheckpointer(ours, skip_mismatches=[classes, "sem_seg_head.criterion"]).load(file)
    assert f"as MODEL.SKIP_MISMATCHES says: {classes}.weight" in caplog.text
    assert torch.equal(ours.sem_seg_head.decoders.class_predictor.weight, before)
    module = ours.sem_seg_head.decoders.transformer_module
    query = theirs.sem_seg_head.predictor.query_feat.weight
    assert torch.equal(module.queries_features.weight, query)


def test_missing_and_unknown_tensors_are_named_for_inference(tmp_path: Path) -> None:
    theirs = _published()
    del theirs.sem_seg_head.predictor.decoder_norm
    theirs.sem_seg_head.predictor.extra = nn.Linear(1, 1, bias=False)
    file = _write_published(theirs, tmp_path / "published.pth")
    with pytest.raises(InputError, match="3 tensors differ") as error:
        SafeCheckpointer(tiny_segmentor(), for_inference=True).load(file)
    norm = "sem_seg_head.decoders.transformer_module.decoder.layernorm"
    assert f"{norm}.bias: missing in the file" in str(error.value)
    assert "sem_seg_head.predictor.extra.weight: not in the model" in str(error.value)


@pytest.mark.parametrize("kind", ["folder", "safetensors", "bin"])
def test_transformers_head_loads_without_its_backbone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    theirs, ours = Mask2FormerForUniversalSegmentation(tiny_config()), tiny_segmentor()
    theirs.save_pretrained(tmp_path)
    torch.save(theirs.state_dict(), tmp_path / "model.bin")
    path = str(tmp_path if kind == "folder" else tmp_path / f"model.{kind}")
    SafeCheckpointer(ours).load(path)
    assert "from the layout of transformers' Mask2FormerForUniversalSegmentation" in caplog.text
    head = ours.sem_seg_head.decoders
    assert torch.equal(head.class_predictor.weight, theirs.class_predictor.weight)
    pixel_decoder = theirs.model.pixel_level_module.decoder.state_dict()
    for name, value in head.pixel_decoder.state_dict().items():
        assert torch.equal(value, pixel_decoder[name]), name
    # What isn't used, and what the model lacks.
    assert "model.pixel_level_module.encoder.hidden_states_norms" in caplog.text
    assert "backbone.stem.conv1.weight" in caplog.text
    with pytest.raises(InputError, match=r"backbone\.stem\.conv1\.weight: missing in the file"):
        SafeCheckpointer(ours, for_inference=True).load(path)


def test_a_folder_without_weights_is_named(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(MissingFileError, match="holds neither model.safetensors nor pytorch_model"):
        SafeCheckpointer(tiny_segmentor()).load(str(tmp_path))


def test_a_model_of_the_authors_keeps_its_names(caplog: pytest.LogCaptureFixture) -> None:
    state_dict = _published().state_dict()
    matched = match_weights(_published(), state_dict)
    assert list(matched) == list(state_dict)
    assert "Converted" not in caplog.text


@pytest.mark.parametrize("ending", ["pkl", "pth"])
def test_a_model_of_the_authors_loads_its_files(tmp_path: Path, ending: str) -> None:
    """Its modules put every name below another where a file doesn't hold their versions."""
    theirs, other = _published(), _published()
    file = _write_published(theirs, tmp_path / f"published.{ending}")
    SafeCheckpointer(other, for_inference=True).load(file)
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
    torch.save({"model": dict(theirs.state_dict())}, tmp_path / "without.pth")
    nested = r"sem_seg_head\.pixel_decoder\.pixel_decoder\.\S+: not in the model"
    with pytest.raises(InputError, match=nested):
        SafeCheckpointer(other, for_inference=True).load(str(tmp_path / "without.pth"))


def test_a_training_of_the_authors_model_resumes(tmp_path: Path) -> None:
    theirs, other = _published(), _published()
    SafeCheckpointer(theirs, str(tmp_path)).save("model_0000001")
    SafeCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    for name, value in theirs.state_dict().items():
        assert torch.equal(other.state_dict()[name], value), name
