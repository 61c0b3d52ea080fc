"""`tools/convert_checkpoint.py`: official files in, a config that runs them, and the way back."""

import math
import os
import pickle
import re
import subprocess
from pathlib import Path

import convert_checkpoint
import pytest
import torch
import yaml
from command_lines import run_main
from depth_files import write_pair
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from helpers import smallest_cfg, write_cityscapes
from scripts import run_script
from torch import nn

import metaprompt_d2
from metaprompt_d2.diffusion import is_adapter
from metaprompt_d2.engine import SafeCheckpointer, convert_frozen_weights

FIXTURES = {"sem_seg": "seg_ade_r3_c1222.pt", "depth": "depth_nyu_r3_c1222.pt"}
# Keys of the state dict in the files of the official codes.
WRAPPERS = {"sem_seg": "state_dict", "depth": "model"}
TASKS = list(FIXTURES)


def convert(*arguments: object) -> subprocess.CompletedProcess:
    return run_main(convert_checkpoint.main, *arguments)


@pytest.fixture(params=TASKS)
def official(
    request: pytest.FixtureRequest, golden: Path, tmp_path: Path
) -> tuple[str, dict, Path]:
    """(task, state dict, file as the official code writes it)."""
    task = request.param
    state_dict = torch.load(golden / FIXTURES[task], weights_only=True)["state_dict"]
    content = {WRAPPERS[task]: state_dict, "optimizer": {"state": {}, "param_groups": []}}
    if task == "sem_seg":
        content["meta"] = {"CLASSES": ("road", "car"), "iter": 80000}
    file = tmp_path / "official.pth"
    torch.save(content, file)
    return task, state_dict, file


def test_adapters_are_merged_in_float32_whatever_training_and_inference_compute_in(
    tmp_path: Path,
) -> None:
    keys = {"MODEL.DIFFUSION.LORA.RANK": 2, "MODEL.DIFFUSION.LORA.ALPHA": 2}
    cfg = smallest_cfg(keys | {"TEST.AMP.ENABLED": True})
    (tmp_path / "config.yaml").write_text(cfg.dump())
    model = build_model(cfg)
    for name, parameter in model.named_parameters():
        if is_adapter(name):
            nn.init.normal_(parameter)
    convert_frozen_weights(model, torch.bfloat16)
    SafeCheckpointer(model, str(tmp_path)).save("trained")
    plain = tmp_path / "plain.pth"
    arguments = ["--to", "plain", "--config-file", tmp_path / "config.yaml"]
    result = convert(tmp_path / "trained.pth", plain, *arguments)
    assert result.returncode == 0, result.stderr
    merged = torch.load(plain, weights_only=True)["model"]
    assert all(v.dtype == torch.float32 for v in merged.values() if v.is_floating_point())
    weights = model.state_dict()
    name = next(name for name in weights if name.endswith("to_q.base_layer.weight"))
    first, second = (name.replace("base_layer", f"lora_{k}.default") for k in "AB")
    expected = weights[name].float() + weights[second] @ weights[first]
    torch.testing.assert_close(merged[name.replace(".base_layer", "")], expected)


def test_the_config_it_writes_builds_the_model_that_the_checkpoint_fits(
    official: tuple, tmp_path: Path
) -> None:
    task, state_dict, file = official
    ours, config = tmp_path / "ours.pth", tmp_path / "ours.yaml"
    result = convert(file, ours, "--config-out", config)
    assert result.returncode == 0, result.stderr
    assert "tensors used" in result.stdout
    assert "0 missing" in result.stdout
    assert "NUM_HEADS 8  (as published; no tensor tells)" in result.stdout
    cfg = get_cfg()
    metaprompt_d2.add_metaprompt_config(cfg)
    cfg.merge_from_file(str(config))
    cfg.MODEL.DEVICE = "cpu"
    model = build_model(cfg)
    assert str(ours.resolve()) == cfg.MODEL.WEIGHTS
    incompatible = model.load_state_dict(torch.load(ours, weights_only=True)["model"])
    assert not incompatible.missing_keys
    assert not incompatible.unexpected_keys
    t3 = "t3" if task == "sem_seg" else "encoder.t3"
    assert torch.equal(model.backbone.refinement.step_embeddings[2], state_dict[t3])


def test_converting_there_and_back_is_bit_identical(official: tuple, tmp_path: Path) -> None:
    task, state_dict, file = official
    ours, back = tmp_path / "ours.pth", tmp_path / "back.pth"
    assert convert(file, ours, "--task", task).returncode == 0
    result = convert(ours, back, "--to", "official", "--task", task)
    assert result.returncode == 0, result.stderr
    content = torch.load(back, weights_only=True)
    written = content[WRAPPERS[task]]
    assert written.keys() == state_dict.keys()
    for name, value in state_dict.items():
        assert torch.equal(written[name], value), name
    if task == "sem_seg":
        assert content["meta"] == {"CLASSES": ("road", "car"), "iter": 80000}


def test_train_net_evaluates_what_was_converted(golden: Path, tmp_path: Path) -> None:
    """A Cityscapes checkpoint (19 classes) gets the Cityscapes recipe with its datasets."""
    state_dict = torch.load(golden / FIXTURES["sem_seg"], weights_only=True)["state_dict"]
    for name in ("decode_head.conv_seg", "auxiliary_head.conv_seg"):
        state_dict[f"{name}.weight"] = torch.randn(19, 32, 1, 1)
        state_dict[f"{name}.bias"] = torch.randn(19)
    file, ours, config = (tmp_path / name for name in ("theirs.pth", "ours.pth", "ours.yaml"))
    torch.save({"state_dict": state_dict}, file)
    assert convert(file, ours, "--config-out", config).returncode == 0
    assert yaml.safe_load(config.read_text())["DATASETS"]["TEST"] == ["cityscapes_fine_sem_seg_val"]
    data = tmp_path / "data/cityscapes"
    write_cityscapes(tmp_path / "val", num_images=1)
    for kind in ("leftImg8bit", "gtFine"):
        (data / kind).mkdir(parents=True)
        (tmp_path / "val" / kind).rename(data / kind / "val")
    options = ["INPUT.MIN_SIZE_TEST", "64", "INPUT.MAX_SIZE_TEST", "128"]
    options += ["TEST.SLIDING_WINDOW.SIZE", "(64,64)", "TEST.SLIDING_WINDOW.STRIDE", "(64,64)"]
    assert evaluated(config, ours, tmp_path, *options) == evaluated(
        config, file, tmp_path, *options
    )


def test_train_net_evaluates_a_converted_depth_checkpoint(golden: Path, tmp_path: Path) -> None:
    """It gets NYU Depth v2's recipe with its datasets."""
    state_dict = torch.load(golden / FIXTURES["depth"], weights_only=True)["state_dict"]
    file, ours, config = (tmp_path / name for name in ("theirs.pth", "ours.pth", "ours.yaml"))
    torch.save({"model": state_dict}, file)
    assert convert(file, ours, "--config-out", config).returncode == 0
    assert yaml.safe_load(config.read_text())["DATASETS"]["TEST"] == ["nyu_depth_v2_test"]
    folder = tmp_path / "data/nyu_depth_v2/official_splits/test/kitchen"
    for number in range(2):
        stem = f"{number:05d}"
        files = folder / f"rgb_{stem}.jpg", folder / f"sync_depth_{stem}.png"
        write_pair(*files, height=96, width=128)
    metrics = evaluated(config, ours, tmp_path)
    assert metrics == evaluated(config, file, tmp_path)
    *values, images, without_truth, not_finite = map(float, metrics.split(","))
    assert all(math.isfinite(value) for value in values)
    assert (images, without_truth, not_finite) == (2, 0, 0)
    assert (tmp_path / "theirs/inference/nyu_depth_v2_test/pictures.png").is_file()


def evaluated(config: Path, weights: Path, folder: Path, *options: str) -> str:
    """Return the metrics that `train_net.py --eval-only` prints for the data in `folder`/data."""
    done = run_script(
        *("tools/train_net.py", "--config-file", config, "--eval-only", "MODEL.WEIGHTS", weights),
        *("OUTPUT_DIR", folder / weights.stem, "DATALOADER.NUM_WORKERS", 0, *options),
        DETECTRON2_DATASETS=str(folder / "data"),
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return re.findall(r"copypaste: (-?[\d.,naninf-]+)$", done.stdout, re.MULTILINE)[-1]


def test_a_misfitting_checkpoint_is_refused_with_a_list(golden: Path, tmp_path: Path) -> None:
    state_dict = torch.load(golden / FIXTURES["sem_seg"], weights_only=True)["state_dict"]
    del state_dict["upconv2.0.bias"]
    state_dict["decode_head.bottleneck.bn.weight"] = torch.zeros(5)
    state_dict["neck.weight"] = torch.zeros(1)
    file, output = tmp_path / "theirs.pth", tmp_path / "ours.pth"
    torch.save({"state_dict": state_dict}, file)
    result = convert(file, output)
    assert result.returncode == 1
    assert "neck.weight: no name of the official model" in result.stderr
    del state_dict["neck.weight"]
    torch.save({"state_dict": state_dict}, file)
    result = convert(file, output, "--config-out", tmp_path / "ours.yaml")
    assert result.returncode == 1
    assert "does not fit the model, 2 tensors" in result.stderr
    assert "rearrangement.projections.1.0.bias: missing" in result.stderr
    assert "bottleneck.norm.weight: (5,) in the file, (32,) in the model" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["theirs.pth"]


class Payload:
    """A pickle that would make a folder if it were run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"<html>not found</html>", "is a web page"),
        (b"PK\x03\x04 cut", "is unreadable"),
    ],
)
def test_a_wrong_file_is_refused_in_one_line(tmp_path: Path, content: bytes, reason: str) -> None:
    file = tmp_path / "theirs.pth"
    file.write_bytes(content)
    result = convert(file, tmp_path / "ours.pth")
    assert result.returncode == 1
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1
    assert reason in lines[0]


@pytest.mark.parametrize("ending", ["pth", "pkl"])
def test_code_is_refused_and_does_not_run(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"theirs.{ending}"
    content = {"state_dict": Payload(tmp_path / "was_run")}
    if ending == "pth":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps(content))
    result = convert(file, tmp_path / "ours.pth")
    assert result.returncode == 1
    assert "mkdir, which isn't a tensor and could run code" in result.stderr
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


def test_nan_is_refused(official: tuple, tmp_path: Path) -> None:
    task, state_dict, file = official
    name = "t1" if task == "sem_seg" else "encoder.t1"
    broken = state_dict | {name: torch.full_like(state_dict[name], float("nan"))}
    torch.save({WRAPPERS[task]: broken}, file)
    result = convert(file, tmp_path / "ours.pth")
    assert result.returncode == 1
    assert f"1 tensors hold NaN or infinity: ['{name}']" in result.stderr


def test_the_wrong_task_our_own_file_and_the_same_file_are_refused(
    golden: Path, tmp_path: Path
) -> None:
    theirs = golden / FIXTURES["sem_seg"]
    result = convert(theirs, tmp_path / "x.pth", "--task", "depth")
    assert result.returncode == 1
    assert "is a sem_seg checkpoint, but --task is depth" in result.stderr
    SafeCheckpointer(torch.nn.Linear(2, 2), str(tmp_path)).save("own")
    result = convert(tmp_path / "own.pth", tmp_path / "x.pth")
    assert result.returncode == 1
    assert "has not the names of an official checkpoint" in result.stderr
    result = convert(tmp_path / "own.pth", tmp_path / "own.pth")
    assert result.returncode == 2
    assert "input and output are both" in result.stderr
    result = convert(tmp_path / "own.pth", tmp_path / "none" / "x.pth")
    assert "does not exist" in result.stderr
    result = convert(theirs, tmp_path / "x.pth", "--to", "official", "--config-out", "c.yaml")
    assert "--config-out goes with --to ours and --to plain only" in result.stderr
    result = convert(tmp_path / "own.pth", tmp_path / "x.pth", "--to", "plain")
    assert "--to plain and --config-file go together" in result.stderr
