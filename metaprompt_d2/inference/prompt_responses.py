"""Looking inside a model: each prompt's response and the prediction after each refinement step."""

import copy
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import Metadata
from torch import Tensor, nn
from torch.nn import functional as F

from ..modeling import MetaPromptBackbone
from ..utils.errors import InputError
from .predictor import AnyBoxes, AnyImage, Predictor

__all__ = [
    "WHOLE_IMAGES",
    "Association",
    "Inside",
    "InsideStep",
    "associations",
    "look_inside",
    "telling_prompts",
]

# Overrides with which a model sees an image in one piece.
WHOLE_IMAGES = """
    TEST.SLIDING_WINDOW.ENABLED False TEST.SHIFTED_WINDOWS.COUNT 0 TEST.AUG.ENABLED False
    TEST.POSE.HEATMAPS True
""".split()

_LEAST_SHARE = 0.005  # of the image; smaller classes correlate by chance


class InsideStep(NamedTuple):
    """One refinement step."""

    responses: dict[str, Tensor]  # by feature, (num_prompts, h, w) float32 on the CPU
    output: dict[str, Any]  # of the model, had it stopped here


class Inside(NamedTuple):
    """What went on in a model."""

    image: np.ndarray  # (H, W, 3) uint8 RGB, what the backbone saw; responses lie over it
    steps: list[InsideStep]


class Association(NamedTuple):
    """What a prompt follows."""

    name: str  # of a class or joint, or "far"
    correlation: float  # -1..1, over the positions of the map


class _Recorder(nn.Module):
    """Stands in for a backbone and keeps what it saw and gave at every step."""

    def __init__(self, backbone: MetaPromptBackbone):
        super().__init__()
        self.backbone = backbone
        self.images: list[Tensor] = []
        self.steps: list[dict[str, Tensor]] = []

    @property
    def size_divisibility(self) -> int:
        return self.backbone.size_divisibility

    @property
    def padding_constraints(self) -> dict[str, int]:
        return self.backbone.padding_constraints

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        self.images.append(images)
        self.steps = list(self.backbone.steps(images))
        return self.steps[-1]


class _Player(_Recorder):
    """Gives the features of one recorded step."""

    def __init__(self, recorder: _Recorder, step: int):
        super().__init__(recorder.backbone)
        self.features = recorder.steps[step]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return self.features


@torch.no_grad()
def look_inside(
    predictor: Predictor, image: AnyImage, *, boxes: AnyBoxes | None = None, view: int = 0
) -> Inside:
    """
    The UNet runs once; the head reads each step's features in turn. It was trained on the last
    step's only.

    Args:
        predictor: of a config with `WHOLE_IMAGES` among its overrides.
        image, boxes: as the predictor takes them.
        view: which of several people the responses are for.

    Raises:
        InputError: a model without prompts' responses, one that sees an image in several windows,
            or an image without people.
    """
    backbone = next(
        (part for part in predictor.model.modules() if isinstance(part, MetaPromptBackbone)), None
    )
    if backbone is None or backbone.rearrangement is None:
        raise InputError(
            "the model has no prompts' responses: its backbone is no MetaPromptBackbone that "
            "re-arranges features (MODEL.META_PROMPT.REARRANGE)"
        )
    inputs = predictor.inputs(image, boxes=boxes)
    recorder = _Recorder(backbone)
    (last,) = _replaced(predictor.model, backbone, recorder)([inputs])
    if len(recorder.images) != 1:
        raise InputError(
            f"the model looked at the image {len(recorder.images)} times, expected once: give "
            "metaprompt_d2.inference.prompt_responses.WHOLE_IMAGES as overrides, and an image "
            "with people to pose"
        )
    steps = []
    for number, features in enumerate(recorder.steps):
        output = last
        if number + 1 < len(recorder.steps):
            player = _Player(recorder, number)
            (output,) = _replaced(predictor.model, backbone, player)([inputs])
        responses = {name: feature[view].float().cpu() for name, feature in features.items()}
        steps.append(InsideStep(responses, output))
    return Inside(_picture(predictor, recorder.images[0][view]), steps)


def associations(
    step: InsideStep, metadata: Metadata, *, feature: str, view: int = 0
) -> list[Association]:
    """What each prompt's response follows most: the prediction that it correlates with best.

    Args:
        step: of `look_inside`.
        metadata: of the predictor.
        feature: name of the responses' map.
        view: as given to `look_inside`.

    Returns:
        one a prompt: the class (of those that fill half a percent of the image), the joint or,
        with the logarithm of depth, "far", of the largest correlation, whatever its sign.
    """
    responses = step.responses[feature]
    names, targets = _targets(step.output, metadata, view)
    targets = F.interpolate(targets[None], size=responses.shape[-2:], mode="area")[0]
    correlation = _standardized(responses) @ _standardized(targets).T / responses[0].numel()
    best = correlation.abs().argmax(dim=1)
    return [
        Association(names[index], float(row[index]))
        for row, index in zip(correlation, best.tolist(), strict=True)
    ]


def telling_prompts(found: Sequence[Association], number: int) -> list[int]:
    """The prompts that follow something best, one for each thing before a second for any.

    Args:
        found: of `associations`.
        number: of prompts, at most.
    """
    ranked = sorted(range(len(found)), key=lambda index: -abs(found[index].correlation))
    seen: Counter[str] = Counter()
    places = {}
    for index in ranked:
        places[index] = seen[found[index].name]
        seen[found[index].name] += 1
    return sorted(ranked, key=places.get)[:number]


def _targets(output: dict[str, Any], metadata: Metadata, view: int) -> tuple[list[str], Tensor]:
    """Names and maps (T, H, W) float32 of what was predicted."""
    if "depth" in output:
        return ["far"], output["depth"].float().cpu().clamp(min=1e-3).log()[None]
    if "sem_seg" in output:
        masks = F.one_hot(output["sem_seg"].argmax(dim=0).cpu(), len(output["sem_seg"]))
        shares = masks.float().mean(dim=(0, 1))
        large = (shares >= min(_LEAST_SHARE, float(shares.max()))).nonzero()[:, 0].tolist()
        names = [metadata.stuff_classes[index] for index in large]
        return names, masks[..., large].permute(2, 0, 1).float()
    heatmaps = output["instances"].pred_keypoint_heatmaps[view].float().cpu()
    return list(metadata.keypoint_names), heatmaps


def _standardized(maps: Tensor) -> Tensor:
    """(K, h, w) to (K, h * w) of mean 0 and variance 1; constant maps to 0."""
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    return flat / flat.std(dim=1, correction=0, keepdim=True).clamp(min=1e-12)


def _picture(predictor: Predictor, image: Tensor) -> np.ndarray:
    """(3, H, W) as the backbone sees it, to (H, W, 3) uint8 RGB."""
    mean, std = (
        torch.tensor(values).view(-1, 1, 1)
        for values in (predictor.cfg.MODEL.PIXEL_MEAN, predictor.cfg.MODEL.PIXEL_STD)
    )
    pixels = (image.float().cpu() * std + mean).round().clamp(0, 255).byte()
    pixels = pixels.permute(1, 2, 0).numpy()
    return pixels[..., ::-1].copy() if predictor.cfg.INPUT.FORMAT == "BGR" else pixels


def _replaced(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """A copy of a model that shares everything but has one part replaced."""
    if module is old:
        return new
    view = copy.copy(module)
    view._modules = {
        name: _replaced(child, old, new) if any(part is old for part in child.modules()) else child
        for name, child in module._modules.items()
        if child is not None
    }
    return view
