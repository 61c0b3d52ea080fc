"""`tools/lazyconfig_train_net.py` end to end: trains as `tools/train_net.py` does, and resumes."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_model
from mini_training import DEPTH_CONFIG, PRETRAINED_DEPTH_SMALL, losses, metrics_of

from metaprompt_d2.engine import load_config

YAML = [
    *PRETRAINED_DEPTH_SMALL,
    *"SOLVER.MAX_ITER 4 TEST.EVAL_PERIOD 0 TEST.NUM_PICTURES 1".split(),
]
CONFIG = "configs/lazy/mini/kitti_depth.py"
LAZY = """
    dataloader.train.mapper.augmentations.0.long_side=128
    dataloader.train.mapper.augmentations.0.short_side=64
    dataloader.train.mapper.augmentations.2.size=[64,64] dataloader.train.total_batch_size=2
    tta.model.boxes=[[128,64]]
    dataloader.evaluator.evaluators.1.num_pictures=1 train.log_period=1
    model.depth_head.conv_dim=8 model.depth_head.deconv_dims=[8,8,8]
    model.backbone.refinement.num_steps=2 lr_multiplier.warmup_iters=2
    lr_multiplier.warmup_factor=0.5 train.max_iter=4 train.checkpointer.period=2
""".split()


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model, with which both tools start."""
    file = tmp_path_factory.mktemp("weights") / "model.pth"
    torch.manual_seed(0)
    torch.save({"model": build_model(load_config(DEPTH_CONFIG, YAML)).state_dict()}, file)
    return file


@pytest.fixture(scope="module")
def trained(
    run_tool: Callable[..., str], weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, str]:
    """Output folder of a training, and what it printed."""
    folder = tmp_path_factory.mktemp("lazy")
    options = [f"train.init_checkpoint={weights}", f"train.output_dir={folder}"]
    command = ["lazyconfig_train_net.py", "--config-file", CONFIG, *LAZY, *options]
    return folder, run_tool(*command)


def test_losses_and_metrics_are_those_of_the_yaml_recipe(
    run_tool: Callable[..., str], trained: tuple[Path, str], weights: Path, tmp_path: Path
) -> None:
    options = [*YAML, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", tmp_path]
    output = run_tool("train_net.py", "--config-file", DEPTH_CONFIG, *options)
    assert losses(trained[0]) == losses(tmp_path)
    assert metrics_of(trained[1]) == metrics_of(output)
    assert (trained[0] / "config.yaml").is_file()
    assert (trained[0] / "inference/mini_kitti_eigen_test/pictures.png").is_file()


def test_a_stopped_training_resumes_as_if_it_had_not_stopped(
    run_tool: Callable[..., str], trained: tuple[Path, str], tmp_path: Path
) -> None:
    shutil.copy(trained[0] / "model_0000001.pth", tmp_path)
    (tmp_path / "last_checkpoint").write_text("model_0000001.pth")
    options = [*LAZY, f"train.output_dir={tmp_path}"]
    command = ["lazyconfig_train_net.py", "--config-file", CONFIG, "--resume", *options]
    output = run_tool(*command)
    expected = losses(trained[0])
    assert losses(tmp_path) == {update: expected[update] for update in (2, 3)}
    assert metrics_of(output) == metrics_of(trained[1])


def test_a_checkpoint_is_evaluated_and_averages_take_its_place(
    run_tool: Callable[..., str], trained: tuple[Path, str], tmp_path: Path
) -> None:
    options = [f"train.init_checkpoint={trained[0]}/model_final.pth"]
    options += [f"train.output_dir={tmp_path}", "train.ema.enabled=true"]
    command = ["lazyconfig_train_net.py", "--config-file", CONFIG, "--eval-only", *LAZY, *options]
    output = run_tool(*command)
    assert metrics_of(output) == metrics_of(trained[1])
    assert "There are no averages to load" in output


def test_an_evaluation_without_a_checkpoint_is_refused(
    run_tool: Callable[..., str], tmp_path: Path
) -> None:
    options = [*LAZY, f"train.output_dir={tmp_path}"]
    output = run_tool(
        *("lazyconfig_train_net.py", "--config-file", CONFIG, "--eval-only", *options), fails=True
    )
    assert "error: train.init_checkpoint is empty, so the heads would be random" in output


def test_a_misspelled_key_ends_in_one_line(run_tool: Callable[..., str]) -> None:
    output = run_tool(
        "lazyconfig_train_net.py", "--config-file", CONFIG, "train.max_iters=1", fails=True
    )
    assert "error: configs/lazy/mini/kitti_depth.py has no key 'train.max_iters'" in output
    assert "Traceback" not in output
