"""LazyConfigs of other projects, whose `train` lacks this package's keys."""

import logging
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from metaprompt_d2.engine import load_lazy_config
from metaprompt_d2.utils.errors import InputError, UnknownKeyError

# `train` has the keys of configs/common/train.py in github.com/IDEA-Research/detrex.
DETREX = """
from detectron2.config import LazyCall as L
from torch import nn

model = L(nn.Conv2d)(in_channels=3, out_channels="${train.channels}", kernel_size=1)
train = dict(
    output_dir="./output",
    init_checkpoint="",
    max_iter=90000,
    amp=dict(enabled=True),
    ddp=dict(broadcast_buffers=False, find_unused_parameters=True, fp16_compression=False),
    clip_grad=dict(enabled=True, params=dict(max_norm=0.1, norm_type=2)),
    seed=7,
    fast_dev_run=dict(enabled=False),
    checkpointer=dict(period=500, max_to_keep=3),
    eval_period="${train.checkpointer.period}",
    log_period=20,
    wandb=dict(enabled=False, params=dict(project="detrex")),
    model_ema=dict(enabled=True, decay=0.999),
    device="cpu",
    channels=4,
)
"""


@pytest.fixture
def detrex(tmp_path: Path) -> str:
    file = tmp_path / "dino.py"
    file.write_text(DETREX)
    return str(file)


def test_train_gets_the_keys_that_it_lacks_and_keeps_its_own(detrex: str) -> None:
    cfg = load_lazy_config(detrex, [])
    train = cfg.train
    assert train.amp == {"enabled": True, "dtype": "float16", "convert_frozen": False}
    assert train.checkpointer == {"period": 500, "max_to_keep": 3}
    assert train.ddp.find_unused_parameters and not train.ddp.fp16_compression
    assert (train.seed, train.max_iter, train.eval_period) == (7, 90000, 500)
    assert train.best_metric.name == "" and train.ema.enabled is False
    assert (train.diffusion.weights, train.max_grad_norm) == ("", None)
    assert cfg.model.out_channels == 4


def test_keys_of_another_trainer_are_named(detrex: str, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "metaprompt_d2.engine.lazy"):
        load_lazy_config(detrex, [])
    (message,) = [record.getMessage() for record in caplog.records]
    # `fast_dev_run` and `wandb` are switched off.
    names = "train.clip_grad, train.model_ema, train.channels"
    assert message == f"{detrex}: the trainer doesn't read {names} (docs/lazy.md)"


def test_keys_that_were_added_can_be_overridden(detrex: str) -> None:
    overrides = ["train.max_grad_norm=0.1", "train.ema.enabled=true", "train.channels=8"]
    cfg = load_lazy_config(detrex, [*overrides, "train.checkpointer.period=50"])
    assert (cfg.train.max_grad_norm, cfg.train.ema.enabled) == (0.1, True)
    assert (cfg.model.out_channels, cfg.train.eval_period) == (8, 50)
    with pytest.raises(UnknownKeyError, match=r"no key 'train\.max_norm'"):
        load_lazy_config(detrex, ["train.max_norm=0.1"])


@pytest.mark.parametrize("value", [None, 7, "text", [1]])
def test_a_train_without_keys_is_refused(value: object, tmp_path: Path) -> None:
    file = tmp_path / "lazy.yaml"
    OmegaConf.save({"train": value}, file)
    with pytest.raises(InputError, match=r"lazy\.yaml: train is .*, expected keys and values"):
        load_lazy_config(str(file), [])


@pytest.mark.parametrize(
    "name", ["COCO-InstanceSegmentation/mask_rcnn_R_50_FPN_1x", "common/optim"]
)
def test_configs_of_detectron2_are_complete(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """The second one has no `train` at all."""
    cfg = load_lazy_config(f"model_zoo://{name}.py", [])
    ours = load_lazy_config("metaprompt_d2://lazy/mini/kitti_depth.py", [])
    assert cfg.train.keys() == ours.train.keys()
    assert OmegaConf.missing_keys(cfg.train) == set()
    assert "doesn't read" not in caplog.text
