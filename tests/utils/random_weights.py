"""Checkpoints of untrained models, for tests of tools that ask for one."""

import shutil
import tempfile
from functools import cache, partial
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from exits import register_at_exit

from metaprompt_d2 import Predictor
from metaprompt_d2 import build_model as build_for_inference
from metaprompt_d2.model_zoo import get_config

_FOLDER = Path(tempfile.mkdtemp())
register_at_exit(partial(shutil.rmtree, _FOLDER))


@cache
def random_weights(config: str, *overrides: object) -> tuple[str, str]:
    """MODEL.WEIGHTS and a file with the weights of a config's model, made once."""
    torch.manual_seed(0)
    cfg = get_config(config, ["MODEL.DEVICE", "cpu", *overrides])
    file = _FOLDER / f"{len(list(_FOLDER.iterdir()))}.pth"
    torch.save({"model": build_model(cfg).state_dict()}, file)
    return "MODEL.WEIGHTS", str(file)


def untrained_predictor(cfg: CfgNode) -> Predictor:
    """A predictor with a model of random heads."""
    return Predictor(cfg, model=build_for_inference(cfg, require_weights=False))
