"""Convert official MetaPrompts checkpoints (segmentation and depth) to our names and back."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from ..utils.errors import InputError
from .compvis import squeeze_attention, unsqueeze_attention
from .names import below, count, rename, unwrap, unwrapped
from .official_names import OUR_UNET, OUR_VAE, PREFIXES, UNET, VAE, official_layers
from .official_unused import unused_tensors
from .report import LoadReport

_OUTPUT_HEAD = f"{UNET}out."

# Prefix of tensors that the official code never reads -> why.
_UNUSED = {
    "sd_model.": "noise schedule: no noise is added",
    f"{UNET}time_embed.": "time MLP: learned step embeddings take its place",
    f"{VAE}post_quant_conv.": "VAE decoder: images are only encoded",
    _OUTPUT_HEAD: "output head: one refinement step does not read it",
}


@dataclass(frozen=True)
class OfficialWeights:
    """The tensors of an official checkpoint."""

    task: str  # "sem_seg" or "depth"
    model: dict[str, Tensor]  # under our names
    # Tensors that our model doesn't have, under the official names. `to_official` writes them.
    unused: dict[str, Tensor] = field(default_factory=dict)
    num_aliases: int = 0  # further names of the output head's tensors

    def report(self, source: str) -> LoadReport:
        """Report which tensors of the official file `source` are used."""
        prefix = PREFIXES[self.task]
        report = LoadReport(source, used=len(self.model))
        report.ignore(self.unused, {prefix + start: why for start, why in _UNUSED.items()})
        if self.num_aliases:
            report.ignored["further names of the output head's tensors"] = self.num_aliases
        return report


def is_official(state_dict: Mapping[str, Any]) -> bool:
    """Return whether the names are those of an official checkpoint."""
    names = map(unwrapped, state_dict)
    return any(name.removeprefix("encoder.").startswith(UNET) for name in names)


def from_official(state_dict: Mapping[str, Tensor]) -> OfficialWeights:
    """Convert an official state dict to our names, without copies.

    Args:
        state_dict: Tensors of the official segmentation or depth model. Names may have what DDP
            and torch.compile add, such as `module.`, and the prompts their older name
            `class_embeddings`.

    Raises:
        InputError: Names are unknown or double, or aliases of the output head have other values
            (all are listed).
    """
    named = {_current_name(name): value for name, value in unwrap(state_dict).items()}
    task = task_of(named)
    prefix = PREFIXES[task]
    layers = official_layers(task, named)
    has_one_step = f"{prefix}t2" not in named
    unread = tuple(prefix + s for s in _UNUSED if has_one_step or s != _OUTPUT_HEAD)
    alias_name = re.compile(rf"{prefix}cross_unet_conv\d+\.(.+)")
    model, unused, aliases = {}, {}, 0
    problems = []
    for name, value in named.items():
        if alias := alias_name.fullmatch(name):
            aliases += 1
            original = named.get(f"{prefix}{_OUTPUT_HEAD}{alias[1]}")
            if original is None or not torch.equal(value, original):
                problems.append(f"{name}: differs from the UNet's output head, whose alias it is")
        elif name.startswith(unread):
            unused[name] = value
        elif ours := rename(name, layers):
            model[ours] = squeeze_attention(ours, value)
        else:
            problems.append(f"{name}: no name of the official model")
    if problems:
        raise InputError(
            f"{len(problems)} tensors do not fit the official {task} model:\n  "
            + "\n  ".join(problems)
        )
    return OfficialWeights(task, model, unused, aliases)


def to_official(weights: OfficialWeights) -> dict[str, Tensor]:
    """Convert weights to the state dict of the official code, the inverse of `from_official`.

    Tensors that the official code never reads come from `weights.unused`. Where it lacks them, as
    for a model trained here, the noise schedule is computed and weights are zero.

    Raises:
        InputError: The official model doesn't have some of the tensors (all are listed).
    """
    task, prefix = weights.task, PREFIXES[weights.task]
    layers = {ours: theirs for theirs, ours in official_layers(task, weights.model).items()}
    renamed = {name: rename(name, layers) or "" for name in weights.model}
    unknown = [name for name, theirs in renamed.items() if not theirs]
    if unknown or not all(below(part, weights.model) for part in (OUR_UNET, OUR_VAE)):
        raise InputError(
            f"no {task} model with UPerHead or DeconvDepthHead on MetaPromptBackbone; the "
            f"official model has no place for {len(unknown)} tensors:\n  " + "\n  ".join(unknown)
        )
    state_dict = {
        theirs: unsqueeze_attention(name, weights.model[name]) for name, theirs in renamed.items()
    }
    state_dict |= unused_tensors(task, state_dict) | weights.unused
    for step in range(2, count(rf"^{prefix}t\d+$", state_dict) + 1):
        for parameter in ("0.weight", "0.bias", "2.weight", "2.bias"):
            head = state_dict[f"{prefix}{_OUTPUT_HEAD}{parameter}"]
            state_dict[f"{prefix}cross_unet_conv{step}.{parameter}"] = head
    return state_dict


def task_of(names: Iterable[str]) -> str:
    """Return "depth" or "sem_seg", told by the official names or ours."""
    is_depth = any(name.startswith(("encoder.unet.", "depth_head.")) for name in names)
    return "depth" if is_depth else "sem_seg"


def _current_name(name: str) -> str:
    """Replace the older name of the prompts."""
    return re.sub(r"^(encoder\.)?class_embeddings(\d*)$", r"\1meta_prompts\2", name)
