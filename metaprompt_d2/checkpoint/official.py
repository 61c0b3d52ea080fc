"""The official MetaPrompts checkpoints, segmentation and depth, under our names and back."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..utils.errors import InputError
from .compvis import from_compvis_unet, from_compvis_vae, to_compvis_unet, to_compvis_vae
from .official_names import DIFFUSION_PREFIXES, official_rules, rename
from .official_unused import unused_tensors
from .report import LoadReport

__all__ = ["OfficialWeights", "from_official", "is_official", "task_of", "to_official"]

_UNET, _VAE = (official for official, _ in DIFFUSION_PREFIXES.values())
_OUR_UNET, _OUR_VAE = (ours for _, ours in DIFFUSION_PREFIXES.values())
_HEAD = "out."  # the UNet's output head

# Dead in the official code, and absent here (method section 4.4).
_UNUSED = [
    ("sd_model.", "noise schedule: no noise is added"),
    (f"{_UNET}time_embed.", "time MLP: learned step embeddings take its place"),
    (f"{_VAE}post_quant_conv.", "VAE decoder: images are only encoded"),
    (f"{_UNET}{_HEAD}", "output head: one refinement step does not read it"),
]


@dataclass(frozen=True)
class OfficialWeights:
    """A checkpoint of the official code, taken apart."""

    task: str  # "sem_seg" or "depth"
    model: dict[str, Tensor]  # under our names
    # What our model has no place for, under the official names, to write the file back whole.
    unused: dict[str, Tensor] = field(default_factory=dict)
    num_aliases: int = 0  # further names of the output head's tensors

    def report(self, source: str) -> LoadReport:
        """What of the official file is used."""
        prefix = "encoder." if self.task == "depth" else ""
        report = LoadReport(source, used=len(self.model))
        report.ignore(self.unused, [(prefix + start, why) for start, why in _UNUSED])
        if self.num_aliases:
            report.ignored["further names of the output head's tensors"] = self.num_aliases
        return report


def is_official(state_dict: Mapping[str, Any]) -> bool:
    """Whether the names are those of an official checkpoint."""
    names = [_canonical(name) for name in state_dict]
    return any(name.removeprefix("encoder.").startswith(_UNET) for name in names)


def from_official(state_dict: Mapping[str, Tensor]) -> OfficialWeights:
    """
    Args:
        state_dict: of the official segmentation or depth model (method section 4), also with a
            `module.` prefix or with the older names `class_embeddings` of the prompts.

    Returns:
        its tensors under our names, without copies.

    Raises:
        InputError: names that the official models don't have, or aliases of the output head with
            other values; all are listed.
    """
    named = {_canonical(name): value for name, value in state_dict.items()}
    task = task_of(named)
    prefix = "encoder." if task == "depth" else ""
    aliases = {name for name in named if re.match(rf"{prefix}cross_unet_conv\d+\.", name)}
    problems = [
        f"{name}: differs from the UNet's output head, whose alias it is"
        for name in sorted(aliases)
        if not _is_alias(named[name], named.get(_aliased(name, prefix)))
    ]
    steps = sum(re.fullmatch(rf"{prefix}t\d+", name) is not None for name in named)
    dead = [prefix + start for start, _ in _UNUSED if steps == 1 or not start.endswith(_HEAD)]
    unused = {name: value for name, value in named.items() if name.startswith(tuple(dead))}
    kept = {k: v for k, v in named.items() if k not in aliases and k not in unused}
    unet, vae = (_take(kept, prefix + start) for start in (_UNET, _VAE))
    rules = _rules(task, kept, official=True)
    ours = {name: rename(name, rules, to_official=False) for name in kept}
    problems += [f"{name}: no name of the official model" for name, our in ours.items() if not our]
    if problems:
        raise InputError(
            f"{len(problems)} tensors do not fit the official {task} model:\n  "
            + "\n  ".join(problems)
        )
    model = {_OUR_UNET + name: value for name, value in from_compvis_unet(unet).items()}
    model |= {_OUR_VAE + name: value for name, value in from_compvis_vae(vae).items()}
    model |= {ours[name]: value for name, value in kept.items()}
    return OfficialWeights(task, model, unused, len(aliases))


def to_official(weights: OfficialWeights) -> dict[str, Tensor]:
    """The way back of `from_official`, key for key.

    Tensors that the official code has and never uses are taken from `weights.unused`; where it
    lacks them (a model trained here), the noise schedule is computed and weights are zero.

    Raises:
        InputError: names that the official model has no place for; all are listed.
    """
    task = weights.task
    prefix = "encoder." if task == "depth" else ""
    kept = dict(weights.model)
    unet, vae = (_take(kept, start) for start in (_OUR_UNET, _OUR_VAE))
    rules = _rules(task, kept, official=False)
    theirs = {name: rename(name, rules, to_official=True) for name in kept}
    unknown = [name for name, official in theirs.items() if official is None]
    if unknown or not unet or not vae:
        raise InputError(
            f"no {task} model with UPerHead or DeconvDepthHead on MetaPromptBackbone; the "
            f"official model has no place for {len(unknown)} tensors:\n  " + "\n  ".join(unknown)
        )
    state_dict = {theirs[name]: value for name, value in kept.items()}
    converted = {f"{_UNET}{name}": value for name, value in to_compvis_unet(unet).items()}
    converted |= {f"{_VAE}{name}": value for name, value in to_compvis_vae(vae).items()}
    state_dict |= {prefix + name: value for name, value in converted.items()}
    state_dict |= {
        prefix + name: value for name, value in unused_tensors(task, converted).items()
    } | weights.unused
    steps = sum(re.fullmatch(rf"{prefix}t\d+", name) is not None for name in state_dict)
    for step in range(2, steps + 1):
        for kind in ("0.weight", "0.bias", "2.weight", "2.bias"):
            head = state_dict[f"{prefix}{_UNET}{_HEAD}{kind}"]
            state_dict[f"{prefix}cross_unet_conv{step}.{kind}"] = head
    return state_dict


def task_of(names: Iterable[str]) -> str:
    """ "depth" or "sem_seg", by the official names or ours."""
    names = list(names)
    is_depth = any(name.startswith(("encoder.unet.", "depth_head.")) for name in names)
    return "depth" if is_depth else "sem_seg"


def _canonical(name: str) -> str:
    """Without DataParallel's prefix, and today's name of the prompts."""
    name = name.removeprefix("module.")
    return re.sub(r"^(encoder\.)?class_embeddings(\d*)$", r"\1meta_prompts\2", name)


def _is_alias(value: Tensor, original: Tensor | None) -> bool:
    return original is not None and torch.equal(value, original)


def _aliased(name: str, prefix: str) -> str:
    return f"{prefix}{_UNET}{_HEAD}{name.removeprefix(prefix).split('.', 1)[1]}"


def _take(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Remove the tensors below a prefix and return them without it."""
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): tensors.pop(name) for name in names}


def _rules(task: str, names: Iterable[str], *, official: bool) -> list[tuple[str, str]]:
    if official:
        prompts, deconvolution = (
            r"(encoder\.)?meta_prompts\d*",
            r"decoder\.deconv_layers\.(\d+)\..*",
        )
    else:
        prompts, deconvolution = (
            r".*\.meta_prompts\.embeddings\.\d+",
            r"depth_head\.decoder\.(\d+)\..*",
        )
    places = [int(m[1]) for name in names if (m := re.fullmatch(deconvolution, name))]
    # Each has a norm and an activation behind it; our list ends with a convolution and its norm.
    last_norm = max(places, default=1) - (0 if official else 3)
    return official_rules(
        task,
        prompt_sets=sum(re.fullmatch(prompts, name) is not None for name in names),
        deconvolutions=last_norm // 3 + 1,
    )
