"""From a command line to a frozen config and an initialised process."""

import argparse
import logging

import torch
from detectron2.config import CfgNode, get_cfg
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger

from ..checkpoint import diffusion_sizes
from ..config import add_metaprompt_config, check_config, read_config_file
from ..utils.errors import InputError, hide_tracebacks

__all__ = ["load_config", "setup", "setup_loggers"]


def load_config(config_file: str, overrides: list[str]) -> CfgNode:
    """Detectron2's defaults and ours, a YAML file (with its `_BASE_`), and overrides.

    `_BASE_` may be a "model_zoo://" path (Detectron2's own) or a "metaprompt_d2://" one.

    Where there is no GPU, MODEL.DEVICE "cuda" becomes "cpu". With
    MODEL.DIFFUSION.SIZES_FROM_WEIGHTS, the weights' own sizes replace UNET.* and VAE.*, and the key
    is False again: what is returned stands by itself.

    Args:
        config_file: path, also "metaprompt_d2://cityscapes_seg.yaml"; "" for the defaults.
        overrides: alternating keys and values.

    Raises:
        FileNotFoundError: there is no such config file.
        KeyError: a key that neither Detectron2 nor this package has.
        InputError: a file that is no YAML or runs code, a value that means nothing,
            SIZES_FROM_WEIGHTS without WEIGHTS, or with weights that tell no sizes.
    """
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    if config_file:
        cfg.merge_from_other_cfg(_of_our_version(read_config_file(config_file), cfg, config_file))
    cfg.merge_from_list(overrides)
    check_config(cfg)
    if cfg.MODEL.DIFFUSION.SIZES_FROM_WEIGHTS:
        _take_sizes_from_weights(cfg)
    if cfg.MODEL.DEVICE == "cuda" and not torch.cuda.is_available():
        logging.getLogger(__name__).warning("No GPU: MODEL.DEVICE is set to cpu")
        cfg.MODEL.DEVICE = "cpu"
    cfg.freeze()
    return cfg


def _of_our_version(loaded: CfgNode, cfg: CfgNode, config_file: str) -> CfgNode:
    version = loaded.get("VERSION", cfg.VERSION)
    if version != cfg.VERSION:
        raise InputError(f"config file {config_file}: VERSION is {version}, expected {cfg.VERSION}")
    return loaded


def _take_sizes_from_weights(cfg: CfgNode) -> None:
    node = cfg.MODEL.DIFFUSION
    if not node.WEIGHTS:
        raise InputError("MODEL.DIFFUSION.SIZES_FROM_WEIGHTS needs MODEL.DIFFUSION.WEIGHTS")
    sizes = diffusion_sizes(PathManager.get_local_path(node.WEIGHTS))
    node.merge_from_list([part for pair in sizes.items() for part in pair])
    node.SIZES_FROM_WEIGHTS = False


def setup(args: argparse.Namespace) -> CfgNode:
    """Config of Detectron2's standard arguments, logging, output folder and seeds."""
    cfg = load_config(args.config_file, args.opts)
    default_setup(cfg, args)
    setup_loggers(cfg.OUTPUT_DIR)
    return cfg


def setup_loggers(output_dir: str) -> None:
    """This package's log lines, which Detectron2's `default_setup` leaves out, and short errors."""
    # Abbreviated as Detectron2's own is to "d2".
    setup_logger(output_dir, comm.get_rank(), name="metaprompt_d2", abbrev_name="mp")
    for name in ("detectron2", "metaprompt_d2"):
        hide_tracebacks(logging.getLogger(name))
