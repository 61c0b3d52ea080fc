"""Stable Diffusion in plain Detectron2's trainings, YAML and LazyConfig, and in our own tools."""

import itertools
from pathlib import Path

import convert_checkpoint
import pytest
import torch
from command_lines import run_main
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode, instantiate
from detectron2.engine import DefaultTrainer, SimpleTrainer
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager
from helpers import registered_cityscapes, train_inputs, write_cityscapes
from safetensors.torch import load_file
from torch import nn

from metaprompt_d2.engine import SafeCheckpointer, load_lazy_config
from metaprompt_d2.model_zoo import get_config

SOURCE = "metaprompt_d2://mini/diffusion"
VAE_WEIGHT = "encoder.mid_block.attentions.0.to_q.weight"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("weights") / "sd.pkl"
    result = run_main(convert_checkpoint.main, SOURCE, file, "--to", "detectron2")
    assert result.returncode == 0, result.stderr
    return str(file)


def has_weights(model: nn.Module) -> bool:
    """Whether the VAE, which no training changes, has the weights of Stable Diffusion's file."""
    path = f"{SOURCE}/vae/diffusion_pytorch_model.safetensors"
    expected = load_file(PathManager.get_local_path(path))[VAE_WEIGHT].float()
    return torch.equal(model.backbone.latent_encoder.get_parameter(VAE_WEIGHT), expected)


def says_random(caplog: pytest.LogCaptureFixture) -> bool:
    return "have not been loaded" in caplog.text


def config(data: str, folder: Path, weights: str) -> CfgNode:
    overrides = {
        "MODEL.DEVICE": "cpu",
        "MODEL.WEIGHTS": weights,
        "MODEL.SEM_SEG_HEAD.CONVS_DIM": 16,
        "DATASETS.TRAIN": (data,),
        "DATASETS.TEST": (),
        "INPUT.MIN_SIZE_TRAIN": (64,),
        "INPUT.CROP.SIZE": [64, 64],
        "SOLVER.LR_SCHEDULER_NAME": "WarmupMultiStepLR",
        "SOLVER.IMS_PER_BATCH": 2,
        "SOLVER.MAX_ITER": 1,
        "SOLVER.STEPS": (),
        "OUTPUT_DIR": str(folder),
    }
    pairs = [part for pair in overrides.items() for part in pair]
    return get_config("mini/cityscapes_seg.yaml", pairs)


@pytest.mark.parametrize("loads", [True, False])
def test_detectron2s_default_trainer(
    loads: bool, file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    write_cityscapes(tmp_path / "data", num_images=2, height=64, width=128)
    with registered_cityscapes(tmp_path / "data") as data:
        trainer = DefaultTrainer(config(data, tmp_path, file if loads else ""))
        trainer.resume_or_load(resume=False)
        trainer.train()
    assert has_weights(trainer.model) == loads
    assert says_random(caplog) == (not loads)


@pytest.mark.parametrize("loads", [True, False])
def test_the_steps_of_detectron2s_lazyconfig_train_net(
    loads: bool, file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    overrides = ["model.sem_seg_head.conv_dim=16", "train.device=cpu"]
    cfg = load_lazy_config("metaprompt_d2://lazy/mini/cityscapes_seg.py", overrides)
    model = instantiate(cfg.model)
    cfg.optimizer.params.model = model
    inputs = train_inputs([(64, 64)] * 2, num_classes=19)
    trainer = SimpleTrainer(model, itertools.repeat(inputs), instantiate(cfg.optimizer))
    checkpointer = DetectionCheckpointer(model, str(tmp_path), trainer=trainer)
    checkpointer.resume_or_load(file if loads else "", resume=False)
    trainer.train(0, 1)
    assert has_weights(model) == loads
    assert says_random(caplog) == (not loads)


def test_our_own_tools_start_a_training_from_it_but_do_not_evaluate_it(
    file: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cfg = config("none", tmp_path, file)
    model = build_model(cfg)
    SafeCheckpointer.of_config(cfg, model).resume_or_load(file, resume=False)
    model(train_inputs([(64, 64)] * 2, num_classes=19))
    assert has_weights(model)
    assert not says_random(caplog)
    checkpointer = SafeCheckpointer.of_config(cfg, model, for_inference=True)
    with pytest.raises(ValueError, match=r"meta_prompts\.embeddings\.0: missing in the file"):
        checkpointer.load(file)
