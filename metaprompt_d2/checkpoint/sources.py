"""Find and open Stable Diffusion's files: a folder, a model on the hub, or one file."""

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from huggingface_hub import constants, hf_hub_download
from huggingface_hub.errors import (
    EntryNotFoundError,
    HfHubHTTPError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)
from torch import Tensor

from ..utils.errors import InputError, MissingFileError
from ..utils.files import read_json
from .compvis import UNET_PREFIX, VAE_PREFIX, from_compvis_unet, from_compvis_vae
from .names import below
from .tensor_files import open_tensors

logger = logging.getLogger(__name__)

_PARTS = ("unet", "vae")
_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w.-]+")
# Endings of a file: not of a model on the hub.
_FILE_ENDING = re.compile(r".*\.(safetensors|ckpt|pth?|bin|pkl)", re.I)
_FILES = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")
# The first one that a folder has is used: float32 before half precision, and the weights themselves
# before their averages.
_VARIANTS = ("", "non_ema", "ema", "fp16", "bf16")

# diffusers' former names in the VAE's attention, which the published folders still have.
_FORMER_NAMES = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


class Source(NamedTuple):
    """Stable Diffusion's tensors, mapped from their files."""

    # Under diffusers' names after "unet." or "vae."; others under their names in the file.
    tensors: dict[str, Tensor]
    configs: dict[str, dict[str, Any]]  # config.json of the parts, empty for CompVis' layout


def open_source(source: str) -> Source:
    """Open a source of `load_diffusion_weights`.

    Raises:
        MissingFileError: It exists neither here nor on the hub.
        InputError: Its files have another layout.
    """
    path = Path(source)
    if path.is_file():
        return _open_compvis(path)
    if path.is_dir():
        return _open_diffusers(source, lambda name: _existing(path / name))
    if _HUB_ID.fullmatch(source) and not _FILE_ENDING.fullmatch(source):
        if not path.parent.is_dir():
            return _open_diffusers(source, lambda name: _from_hub(source, name))
        inside = ", ".join(sorted(entry.name for entry in path.parent.iterdir())[:10])
        raise MissingFileError(
            f"MODEL.DIFFUSION.WEIGHTS: {source} doesn't exist. The hub isn't asked, because the "
            f"folder {path.parent} is here; it holds {inside or 'nothing'}"
        )
    raise MissingFileError(
        f"MODEL.DIFFUSION.WEIGHTS: {source} is neither a folder in diffusers' layout, nor a file "
        "in CompVis' layout, nor the hub's owner/name of a model"
    )


def _open_compvis(path: Path) -> Source:
    rest = open_tensors(path)
    tensors: dict[str, Tensor] = {}
    for part, prefix, convert in (
        ("unet", UNET_PREFIX, from_compvis_unet),
        ("vae", VAE_PREFIX, from_compvis_vae),
    ):
        found = below(prefix, rest)
        if not found:
            raise InputError(
                f"{path} has no tensor {prefix}*: it isn't a Stable Diffusion file in CompVis' "
                "layout"
            )
        tensors |= {f"{part}.{name}": tensor for name, tensor in convert(found).items()}
        rest = {name: tensor for name, tensor in rest.items() if not name.startswith(prefix)}
    return Source(tensors | rest, {})


def _open_diffusers(source: str, find: Callable[[str], Path | None]) -> Source:
    """Open a model in diffusers' layout.

    Args:
        source: Folder or id of the model.
        find: Returns the local path of a file of the model, or None if the model lacks it.
    """
    tensors, configs = {}, {}
    for part in _PARTS:
        if config := find(f"{part}/config.json"):
            configs[part] = read_json(config)
        for file in _find_files(source, part, find):
            for name, tensor in open_tensors(file).items():
                tensors[_current_name(f"{part}.{name}")] = tensor
    return Source(tensors, configs)


def _find_files(source: str, part: str, find: Callable[[str], Path | None]) -> Iterator[Path]:
    """Find a part's file, or all files that it is split into."""
    for variant in _VARIANTS:
        for name in _FILES:
            if file := find(f"{part}/{_with_variant(name, variant)}"):
                if variant:
                    logger.info("%s/%s: taking the variant %s", source, part, variant)
                yield file
                return
            if index := find(f"{part}/{_with_variant(f'{name}.index.json', variant)}"):
                yield from _find_shards(source, part, index, find)
                return
    raise MissingFileError(
        f"MODEL.DIFFUSION.WEIGHTS: {source}/{part} holds none of {', '.join(_FILES)}, nor one of "
        f"their variants {', '.join(filter(None, _VARIANTS))}; expected a folder in diffusers' "
        "layout with unet/ and vae/, here or on the hub (offline: in its cache)"
    )


def _with_variant(name: str, variant: str) -> str:
    """Put a variant before the last ending of a name, as diffusers does."""
    start, _, end = name.rpartition(".")
    return f"{start}.{variant}.{end}" if variant else name


def _find_shards(
    source: str, part: str, index: Path, find: Callable[[str], Path | None]
) -> Iterator[Path]:
    """Find the files that an index names, and nothing outside of the part's folder."""
    for shard in _shard_names(index):
        if Path(shard).name != shard:
            raise InputError(f"{index} names {shard!r}, expected the name of a file next to it")
        file = find(f"{part}/{shard}")
        if file is None:
            raise MissingFileError(f"{source}/{part} lacks {shard}, which {index.name} names")
        yield file


def _shard_names(index: Path) -> list[str]:
    content = read_json(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise InputError(f"{index} has no weight_map from names of tensors to names of files")
    return sorted(set(names.values()))


def _existing(path: Path) -> Path | None:
    return path if path.is_file() else None


def _from_hub(repository: str, name: str) -> Path | None:
    try:
        return Path(hf_hub_download(repository, name))
    except LocalEntryNotFoundError as error:  # not in the cache, and the hub doesn't answer
        if constants.HF_HUB_OFFLINE:
            return None
        raise MissingFileError(
            f"MODEL.DIFFUSION.WEIGHTS: {repository} is neither a folder here nor in the hub's "
            "cache, and the hub can't be reached"
        ) from error
    except RepositoryNotFoundError as error:
        raise MissingFileError(
            f"MODEL.DIFFUSION.WEIGHTS: {repository} is neither a folder here nor a model on the hub"
        ) from error
    except (EntryNotFoundError, OfflineModeIsEnabled):  # not in the model, or not in the cache
        return None
    except HfHubHTTPError as error:
        raise MissingFileError(
            f"MODEL.DIFFUSION.WEIGHTS: {repository} cannot be read from the hub: {error}"
        ) from error


def _current_name(name: str) -> str:
    """Return a tensor's name in today's diffusers."""
    if ".attentions." not in name:
        return name
    start, layer, kind = name.rsplit(".", 2)
    return f"{start}.{_FORMER_NAMES.get(layer, layer)}.{kind}"
