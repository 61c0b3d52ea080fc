"""Responses of the prompts and predictions at every refinement step."""

import copy
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import Metadata
from torch import Tensor, nn
from torch.nn import functional as F

from ..modeling import MetaPromptBackbone
from ..utils.errors import InputError
from .predictor import AnyBoxes, AnyImage, Predictor

# Config overrides with which a model predicts an image in one piece.
WHOLE_IMAGES = """
    TEST.SLIDING_WINDOW.ENABLED False TEST.SHIFTED_WINDOWS.COUNT 0 TEST.AUG.ENABLED False
    TEST.POSE.HEATMAPS True
""".split()

_LEAST_SHARE = 0.005  # of the image; smaller classes correlate by chance

Features = dict[str, Tensor]


class TracedStep(NamedTuple):
    """One refinement step."""

    responses: Features  # by feature, (num_prompts, h, w) float32 on the CPU
    output: dict[str, Any]  # the model's output if it stopped after this step


class RefinementTrace(NamedTuple):
    """The refinement steps of one image."""

    image: np.ndarray  # (H, W, 3) uint8 RGB, as the backbone sees it; responses lie over it
    steps: list[TracedStep]


class Association(NamedTuple):
    """The predicted class, keypoint or depth that a prompt's response correlates with best."""

    name: str  # of a class or keypoint, or "far"
    correlation: float  # -1..1, over the positions of the map


class _BackboneStandIn(nn.Module):
    """Takes the place of a backbone in a model and calls a function instead."""

    def __init__(self, backbone: MetaPromptBackbone, function: Callable[[Tensor], Features]):
        super().__init__()
        self.function = function
        self.size_divisibility = backbone.size_divisibility
        self.padding_constraints = backbone.padding_constraints

    def forward(self, images: Tensor) -> Features:
        return self.function(images)


@torch.no_grad()
def look_inside(
    predictor: Predictor, image: AnyImage, *, boxes: AnyBoxes | None = None, view: int = 0
) -> RefinementTrace:
    """Record the responses and the prediction of every refinement step.

    The UNet runs once, and the head reads the features of each step in turn. The head was trained
    on those of the last step only.

    Args:
        predictor: Predictor whose config has the overrides `WHOLE_IMAGES`.
        image: Image as `Predictor` takes it.
        boxes: People's boxes as `Predictor` takes them.
        view: Index of the person, among several, whose responses are returned.

    Raises:
        InputError: If the model has no prompt responses or predicts the image in several windows,
            or if the image has no people.
    """
    model = predictor.model
    backbone = next(
        (part for part in model.modules() if isinstance(part, MetaPromptBackbone)), None
    )
    if backbone is None or backbone.rearrangement is None:
        raise InputError(
            "the model has no prompts' responses: its backbone isn't a MetaPromptBackbone that "
            "re-arranges features (MODEL.META_PROMPT.REARRANGE)"
        )
    inputs = predictor.inputs(image, boxes=boxes)
    seen: list[Tensor] = []
    steps: list[Features] = []

    def record(images: Tensor) -> Features:
        seen.append(images)
        steps[:] = backbone.steps(images)
        return steps[-1]

    def predict(function: Callable[[Tensor], Features]) -> dict[str, Any]:
        stand_in = _BackboneStandIn(backbone, function)
        (output,) = _replace_part(model, backbone, stand_in)([inputs])
        return output

    last = predict(record)
    if len(seen) != 1:
        raise InputError(
            f"the model looked at the image {len(seen)} times, expected once: give "
            "metaprompt_d2.inference.prompt_responses.WHOLE_IMAGES as overrides, and an image "
            "with people to pose"
        )
    outputs = [predict(partial(_replay, features)) for features in steps[:-1]] + [last]
    traced = [
        TracedStep({name: maps[view].float().cpu() for name, maps in features.items()}, output)
        for features, output in zip(steps, outputs, strict=True)
    ]
    return RefinementTrace(_undo_normalization(predictor, seen[0][view]), traced)


def _replay(features: Features, images: Tensor) -> Features:
    return features


def associate_prompts(
    step: TracedStep, metadata: Metadata, *, feature: str, view: int = 0
) -> list[Association]:
    """Find what each prompt's response correlates with best in the prediction.

    Args:
        step: Step of a `RefinementTrace`.
        metadata: The predictor's metadata.
        feature: Name of the feature whose responses are compared.
        view: The argument that `look_inside` was called with.

    Returns:
        For each prompt the class (among those that fill half a percent of the image), the keypoint
        or, for the logarithm of depth, "far", whose correlation has the largest absolute value.
    """
    responses = step.responses[feature]
    names, targets = _list_targets(step.output, metadata, view)
    targets = F.interpolate(targets[None], size=responses.shape[-2:], mode="area")[0]
    correlation = _standardize(responses) @ _standardize(targets).T / responses[0].numel()
    best = correlation.abs().argmax(dim=1)
    return [
        Association(names[index], float(row[index]))
        for row, index in zip(correlation, best.tolist(), strict=True)
    ]


def select_prompts(associations: Sequence[Association], number: int) -> list[int]:
    """Pick the most selective prompts, at most one per class until every class has one.

    Args:
        associations: Result of `associate_prompts`.
        number: Maximum number of prompts.
    """
    strengths = [abs(association.correlation) for association in associations]
    ranked = sorted(range(len(strengths)), key=strengths.__getitem__, reverse=True)
    seen: Counter[str] = Counter()
    rounds: dict[int, int] = {}
    for index in ranked:
        rounds[index] = seen[associations[index].name]
        seen[associations[index].name] += 1
    return sorted(ranked, key=rounds.__getitem__)[:number]


def _list_targets(
    output: dict[str, Any], metadata: Metadata, view: int
) -> tuple[list[str], Tensor]:
    """List what was predicted, as names and maps (T, H, W) float32."""
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


def _standardize(maps: Tensor) -> Tensor:
    """Flatten (K, h, w) to (K, h * w) of mean 0 and variance 1; constant maps become 0."""
    flat = maps.flatten(1).double()
    flat = flat - flat.mean(dim=1, keepdim=True)
    return flat / flat.std(dim=1, correction=0, keepdim=True).clamp(min=1e-12)


def _undo_normalization(predictor: Predictor, image: Tensor) -> np.ndarray:
    """Turn the backbone's input (3, H, W) into (H, W, 3) uint8 RGB."""
    mean, std = (
        torch.tensor(channels).view(-1, 1, 1)
        for channels in (predictor.cfg.MODEL.PIXEL_MEAN, predictor.cfg.MODEL.PIXEL_STD)
    )
    values = (image.float().cpu() * std + mean).round().clamp(0, 255).byte()
    pixels = values.permute(1, 2, 0).numpy()
    return pixels[..., ::-1].copy() if predictor.cfg.INPUT.FORMAT == "BGR" else pixels


def _replace_part(module: nn.Module, old: nn.Module, new: nn.Module) -> nn.Module:
    """Copy a model with one part replaced; the copy shares everything else."""
    if module is old:
        return new
    view = copy.copy(module)
    # Setting an attribute would change the original, too: both would share this dict.
    view._modules = {
        name: _replace_part(child, old, new) if child and old in set(child.modules()) else child
        for name, child in module._modules.items()
    }
    return view
