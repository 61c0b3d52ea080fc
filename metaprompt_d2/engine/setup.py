"""Set up a process: from a command line to a frozen config, loggers and seeds."""

import argparse
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from detectron2.utils.logger import setup_logger
from omegaconf import DictConfig

from ..checkpoint import diffusion_sizes
from ..config import check_config, default_config, read_config_file
from ..data.image_files import limit_pixels
from ..utils.errors import InputError, UnknownKeyError, hide_tracebacks, input_errors


def load_config(config_file: str, overrides: Sequence[Any]) -> CfgNode:
    """Load a config: the defaults, then a YAML file with its `_BASE_`, then overrides.

    INPUT.MAX_IMAGE_PIXELS becomes this process's limit of image sizes.
    Without a GPU, MODEL.DEVICE becomes "cpu". If MODEL.DIFFUSION.SIZES_FROM_WEIGHTS is True,
    UNET.* and VAE.* are taken from the weights, and the key becomes False.

    Args:
        config_file: Path, also "metaprompt_d2://cityscapes_seg.yaml"; "" for the defaults.
        overrides: Alternating keys and values.

    Returns:
        The config, frozen.

    Raises:
        MissingFileError: The config file doesn't exist.
        UnknownKeyError: Neither Detectron2 nor this package nor a registered project
            (`CONFIG_KEYS_REGISTRY`) has a key.
        InputError: The file isn't YAML or runs code, a value is out of its range, or the sizes of
            WEIGHTS can't be told.
    """
    cfg = default_config()
    if config_file:
        loaded = read_config_file(config_file)
        source, version = f"config file {config_file}", loaded.get("VERSION", cfg.VERSION)
        if version != cfg.VERSION:
            raise InputError(f"{source}: VERSION is {version}, expected {cfg.VERSION}")
        with _yacs_errors(source, KeyError):
            cfg.merge_from_other_cfg(loaded)
    if len(overrides) % 2:
        raise InputError(f"overrides {list(overrides)} are not pairs of keys and values")
    with _yacs_errors("overrides", AssertionError):
        cfg.merge_from_list(list(overrides))
    if cfg.MODEL.DIFFUSION.SIZES_FROM_WEIGHTS:
        _take_sizes_from_weights(cfg)
    check_config(cfg)
    cfg.MODEL.DEVICE = available_device(cfg.MODEL.DEVICE, "MODEL.DEVICE")
    limit_pixels(cfg.INPUT.MAX_IMAGE_PIXELS)
    cfg.freeze()
    return cfg


def available_device(device: str, key: str) -> str:
    """Replace a GPU by the CPU on a machine without GPUs, with a warning.

    Args:
        device: Name of a torch device, such as "cuda" or "cuda:0".
        key: Config key that holds it.

    Returns:
        The name of the device to use.

    Raises:
        InputError: Torch doesn't know the device, or this machine lacks it.
    """
    unknown = (AssertionError, ImportError, NotImplementedError, RuntimeError)
    with input_errors(f"{key} is {device!r}", *unknown):
        wanted = torch.device(device)
        if wanted.type != "cuda":
            torch.empty(0, device=device)
            return device
    if not torch.cuda.is_available():
        logging.getLogger(__name__).warning("No GPU: %s is set to cpu", key)
        return "cpu"
    count = torch.cuda.device_count()
    if wanted.index is not None and wanted.index >= count:
        raise InputError(f"{key} is {device!r}: this machine has {count} GPUs")
    return device


@contextmanager
def _yacs_errors(source: str, unknown_key: type[Exception]) -> Iterator[None]:
    """Name the source of the values in the errors of yacs, which raises various types."""
    try:
        yield
    except unknown_key as error:
        raise UnknownKeyError(
            f"{source}: {error.args[0]}. Keys of other projects are known once "
            "DETECTRON2_ENV_MODULE names a file that registers them (docs/compose.md)"
        ) from error
    except Exception as error:
        raise InputError(f"{source}: {error}") from error


def _take_sizes_from_weights(cfg: CfgNode) -> None:
    node = cfg.MODEL.DIFFUSION
    if not node.WEIGHTS:
        raise InputError("MODEL.DIFFUSION.SIZES_FROM_WEIGHTS needs MODEL.DIFFUSION.WEIGHTS")
    sizes = diffusion_sizes(PathManager.get_local_path(node.WEIGHTS))
    with _yacs_errors(f"sizes of {node.WEIGHTS}", KeyError):
        node.merge_from_list([part for pair in sizes.items() for part in pair])
    node.SIZES_FROM_WEIGHTS = False


def parse_arguments(
    parser: argparse.ArgumentParser, argv: Sequence[str] | None = None
) -> argparse.Namespace:
    """Parse a command line with Detectron2's standard arguments; it must name a config file."""
    args = parser.parse_args(argv)
    if not args.config_file:
        parser.error(
            "--config-file is missing. Give a recipe of configs/, for example "
            "configs/mini/cityscapes_seg.yaml, or the config.yaml of a training"
        )
    return args


def setup(args: argparse.Namespace) -> CfgNode:
    """Load the config of Detectron2's standard arguments; set up logging, output folder and seeds.

    Raises:
        InputError: As for `load_config`, or OUTPUT_DIR cannot be written.
    """
    cfg = load_config(args.config_file, args.opts)
    setup_process(cfg, args, cfg.OUTPUT_DIR)
    return cfg


def setup_process(
    cfg: CfgNode | DictConfig, args: argparse.Namespace, output_dir: str, *, trains: bool = False
) -> None:
    """Set up logging, output folder and seeds, and hide tracebacks of wrong input.

    Args:
        cfg: Config of either kind.
        args: Detectron2's standard arguments.
        output_dir: Output folder of the config.
        trains: Whether this process trains. Others leave the `config.yaml` of a training.

    Raises:
        InputError: The output folder cannot be written.
    """
    with input_errors(f"OUTPUT_DIR {output_dir}", OSError):
        file = Path(output_dir, "config.yaml")
        of_training = not trains and file.with_name("last_checkpoint").is_file()
        kept = file.read_bytes() if of_training and file.is_file() else None
        default_setup(cfg, args)  # writes config.yaml
        if kept is not None and comm.is_main_process():
            file.write_bytes(kept)
        setup_logger(output_dir, comm.get_rank(), name="metaprompt_d2", abbrev_name="mp")
    for name in ("detectron2", "metaprompt_d2"):
        hide_tracebacks(logging.getLogger(name))
