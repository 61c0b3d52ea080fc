"""`load_config`: files, overrides, the device, and a config nobody can change."""

import argparse
from pathlib import Path

import detectron2
import pytest
import torch
import yaml
from detectron2.config import CfgNode
from PIL import Image

from metaprompt_d2.engine import load_config, load_lazy_config, training_argument_parser
from metaprompt_d2.engine.setup import setup_process
from metaprompt_d2.utils.errors import InputError, UnknownKeyError


def test_overrides_win_over_the_file() -> None:
    cfg = load_config("metaprompt_d2://cityscapes_seg.yaml", ["SOLVER.BASE_LR", "0.5"])
    assert cfg.SOLVER.BASE_LR == 0.5
    assert cfg.SOLVER.WEIGHT_DECAY == 0.001


def test_a_file_of_ones_own_can_build_on_a_recipe(tmp_path: Path) -> None:
    recipe = Path(__file__).resolve().parents[2] / "configs/cityscapes_seg.yaml"
    (tmp_path / "own.yaml").write_text(f"_BASE_: '{recipe}'\nSOLVER: {{MAX_ITER: 7}}\n")
    cfg = load_config(str(tmp_path / "own.yaml"), [])
    assert (cfg.SOLVER.MAX_ITER, cfg.SOLVER.BASE_LR) == (7, 8e-5)


def test_an_unknown_key_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(UnknownKeyError, match=r"MODEL\.META_PROMPT\.STEPS"):
        load_config("", ["MODEL.META_PROMPT.STEPS", "3"])
    (tmp_path / "own.yaml").write_text("MODEL: {META_PROMPT: {STEPS: 3}}\n")
    with pytest.raises(UnknownKeyError, match=r"MODEL\.META_PROMPT\.STEPS"):
        load_config(str(tmp_path / "own.yaml"), [])


def test_without_a_gpu_the_device_is_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_config("", ["MODEL.DEVICE", "cuda"]).MODEL.DEVICE == "cpu"
    assert load_config("", ["MODEL.DEVICE", "meta"]).MODEL.DEVICE == "meta"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert load_config("", []).MODEL.DEVICE == "cuda"


def test_the_result_is_frozen() -> None:
    with pytest.raises(AttributeError, match="SOLVER"):
        load_config("", []).SOLVER = None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("MODEL: [", "cannot be read as YAML"),
        ("", "expected keys and values, found NoneType"),
        ("just words", "expected keys and values, found str"),
        ("5: 6", "key 5 isn't a string"),
        ("_BASE_: 5", "_BASE_ is 5, expected the name of a file"),
        ("_BASE_: own.yaml", "_BASE_ leads back to itself"),
        ("VERSION: 1", "VERSION is 1, expected 2"),
        ("MODEL: 3", "MODEL"),
        ("SOLVER: {MAX_ITER: many}", "Type mismatch .*MAX_ITER"),
        ("SOLVER: {MAX_ITER: null}", "SOLVER.MAX_ITER is null"),
        ("SOLVER: {BASE_LR: .nan}", "SOLVER.BASE_LR is nan, expected a finite number"),
        ("SOLVER: {IMS_PER_BATCH: 0}", "SOLVER.IMS_PER_BATCH is 0, expected at least 1"),
        ("INPUT: {CROP: {SIZE: [a, b]}}", "INPUT.CROP.SIZE is .*, expected numbers"),
        ("INPUT: {CROP: {SIZE: [64, .inf]}}", "INPUT.CROP.SIZE is .*, expected finite numbers"),
        ("MODEL: {DEVICE: abacus}", "MODEL.DEVICE is 'abacus'"),
    ],
)
def test_a_file_that_means_nothing_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "own.yaml").write_text(text)
    with pytest.raises(InputError, match=message):
        load_config(str(tmp_path / "own.yaml"), [])


def test_a_file_in_another_encoding_is_named(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_bytes(b"MODEL: \xff\xfe")
    with pytest.raises(ValueError, match=r"own\.yaml cannot be read as YAML"):
        load_config(str(tmp_path / "own.yaml"), [])


def test_yaml_runs_no_code_unless_it_is_detectron2s_own(tmp_path: Path) -> None:
    """Detectron2's `merge_from_file` runs such tags from any file, also from a `_BASE_`."""
    mark, base = tmp_path / "mark", tmp_path / "base.yaml"
    base.write_text(f"OUTPUT_DIR: !!python/object/apply:os.mkdir ['{mark}']\n")
    (tmp_path / "own.yaml").write_text("_BASE_: base.yaml\n")
    with pytest.raises(ValueError, match=r"base\.yaml.*python/object/apply:os\.mkdir"):
        load_config(str(tmp_path / "own.yaml"), [])
    assert not mark.exists()
    retina = Path(detectron2.__file__).parent / "model_zoo/configs/Base-RetinaNet.yaml"
    (tmp_path / "own.yaml").write_text(f"_BASE_: '{retina}'\n")
    assert len(load_config(str(tmp_path / "own.yaml"), []).MODEL.ANCHOR_GENERATOR.SIZES) == 5


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("TEST.EXPECTED_RESULTS", [1, 2], "EXPECTED_RESULTS holds 1, not .task, metric"),
        ("INPUT.CROP.TYPE", "two words", "INPUT.CROP.TYPE is 'two words', expected one of"),
    ],
)
def test_values_that_detectron2_would_stumble_over_later(
    key: str, value: object, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        load_config("", [key, value])


def test_the_limit_of_image_sizes_holds_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)  # and is restored afterwards
    load_config("", [])
    assert Image.MAX_IMAGE_PIXELS == 50
    load_config("", ["INPUT.MAX_IMAGE_PIXELS", 400_000_000])
    assert Image.MAX_IMAGE_PIXELS == 200_000_000  # PIL refuses twice as many
    name = "metaprompt_d2://lazy/coco_pose.py"
    load_lazy_config(name, ["train.max_image_pixels=1000"])
    assert Image.MAX_IMAGE_PIXELS == 500


@pytest.mark.parametrize("device", ["cuda", "cuda:0", "cuda:3"])
def test_without_gpus_every_gpu_becomes_the_cpu(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert load_config("", ["MODEL.DEVICE", device]).MODEL.DEVICE == "cpu"
    lazy = load_lazy_config("metaprompt_d2://lazy/nyu_depth.py", [f"train.device={device}"])
    assert lazy.train.device == "cpu"


@pytest.mark.parametrize("device", ["mps", "xpu", "hpu:1", "cuda:99"])
def test_a_device_that_this_machine_lacks_is_named(
    device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    with pytest.raises(InputError, match=f"MODEL.DEVICE is '{device}': "):
        load_config("", ["MODEL.DEVICE", device])


def arguments(*flags: str) -> argparse.Namespace:
    return training_argument_parser().parse_args([*flags])


def test_an_evaluation_leaves_the_config_of_a_training(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    for done in (False, True):
        for seed, trains, expected in ((1, True, 1), (2, False, 1 if done else 2)):
            cfg = load_config("", ["OUTPUT_DIR", str(tmp_path), "SEED", seed])
            setup_process(cfg, arguments(), str(tmp_path), trains=trains)
            assert expected == CfgNode(yaml.safe_load(file.read_text())).SEED
        (tmp_path / "last_checkpoint").write_text("model_final.pth")
