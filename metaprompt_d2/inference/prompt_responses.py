"""Responses of the prompts and predictions at every refinement step."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import numpy as np
import torch
from detectron2.data import Metadata
from torch import Tensor
from torch.nn import functional as F

from ..modeling import MetaPromptBackbone
from ..utils.errors import InputError
from .given_boxes import AnyBoxes
from .predictor import AnyImage, Predictor

# Config overrides with which a model predicts an image in one piece.
WHOLE_IMAGES = """
    TEST.SLIDING_WINDOW.ENABLED False TEST.SHIFTED_WINDOWS.COUNT 0 TEST.AUG.ENABLED False
    TEST.POSE.HEATMAPS True
""".split()

_LEAST_SHARE = 0.005  # of the image; smaller classes correlate by chance

Features = dict[str, Tensor]
_Forward = Callable[[Tensor], Features]


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


@torch.no_grad()
def look_inside(
    predictor: Predictor, image: AnyImage, *, boxes: AnyBoxes | None = None, view: int = 0
) -> RefinementTrace:
    """Record the responses and the prediction of every refinement step.

    The UNet runs once, and the head reads the features of each step in turn. The head was trained
    on those of the last step only. No other thread may use the model meanwhile.

    Args:
        predictor: Predictor whose config has the overrides `WHOLE_IMAGES`.
        image, boxes: As `Predictor` takes them.
        view: Index of the person, among several, whose responses are returned.

    Raises:
        InputError: The model has no prompt responses or predicts the image in several windows, or
            the image has no people.
    """
    model = predictor.model
    backbones = (part for part in model.modules() if isinstance(part, MetaPromptBackbone))
    backbone = next(backbones, None)
    if backbone is None or backbone.rearrangement is None:
        raise InputError(
            "the model has no prompts' responses: its backbone isn't a MetaPromptBackbone that "
            "rearranges features (MODEL.META_PROMPT.REARRANGE)"
        )
    inputs = predictor.inputs(image, boxes=boxes)
    seen: list[Tensor] = []
    steps: list[Features] = []

    def record(images: Tensor) -> Features:
        seen.append(images)
        steps[:] = backbone.steps(images)
        return steps[-1]

    def predict(forward: _Forward) -> dict[str, Any]:
        with _replaced_forward(backbone, forward):
            (output,) = model([inputs])
        return output

    def replay(features: Features) -> dict[str, Any]:
        return predict(lambda _: features)

    last = predict(record)
    if len(seen) != 1:
        raise InputError(
            f"the model looked at the image {len(seen)} times, expected once: give "
            "metaprompt_d2.inference.prompt_responses.WHOLE_IMAGES as overrides, and an image "
            "with people to pose"
        )
    outputs = [*map(replay, steps[:-1]), last]
    traced = [
        TracedStep({name: maps[view].float().cpu() for name, maps in features.items()}, output)
        for features, output in zip(steps, outputs, strict=True)
    ]
    return RefinementTrace(_undo_normalization(predictor, seen[0][view]), traced)


@contextmanager
def _replaced_forward(backbone: MetaPromptBackbone, forward: _Forward) -> Iterator[None]:
    """Let a function compute the features in place of the backbone's own method."""
    backbone.__dict__["forward"] = forward  # hides the class's method
    try:
        yield
    finally:
        del backbone.__dict__["forward"]


def associate_prompts(
    step: TracedStep, metadata: Metadata, *, feature: str, view: int = 0
) -> list[Association]:
    """Find what each prompt's response correlates with best in the prediction.

    Args:
        step, metadata: Step of a `RefinementTrace`, metadata of its `Predictor`.
        feature: Name of the feature whose responses are compared.
        view: As in `look_inside`.

    Returns:
        For each prompt the class (among those that fill half a percent of the image), the keypoint
        or, for the logarithm of depth, "far", whose correlation has the largest absolute value.
    """
    responses = step.responses[feature]
    names, targets = _list_targets(step.output, metadata, view)
    targets = F.interpolate(targets[None], size=responses.shape[-2:], mode="area")[0]
    maps, number = torch.cat([responses, targets]).flatten(1).double(), len(responses)
    correlation = torch.corrcoef(maps).nan_to_num(0)[:number, number:]  # NaN: a constant map
    best = correlation.abs().argmax(dim=1)
    return [
        Association(names[index], float(row[index]))
        for row, index in zip(correlation, best.tolist(), strict=True)
    ]


def select_prompts(associations: Sequence[Association], number: int) -> list[int]:
    """Pick up to `number` of the most selective prompts, one per class before a class has two."""
    indices = range(len(associations))
    ranked = sorted(indices, key=lambda index: -abs(associations[index].correlation))
    names = [associations[index].name for index in ranked]
    rounds = [names[:place].count(name) for place, name in enumerate(names)]
    return [ranked[place] for place in np.argsort(rounds, kind="stable")[:number]]


def _list_targets(output: dict, metadata: Metadata, view: int) -> tuple[list[str], Tensor]:
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


def _undo_normalization(predictor: Predictor, image: Tensor) -> np.ndarray:
    """Turn the backbone's input (3, H, W) into (H, W, 3) uint8 RGB."""
    config = predictor.cfg.MODEL
    values = image.float().cpu().permute(1, 2, 0) * torch.tensor(config.PIXEL_STD)
    pixels = (values + torch.tensor(config.PIXEL_MEAN)).round().clamp(0, 255).byte().numpy()
    return pixels[..., ::-1].copy() if predictor.cfg.INPUT.FORMAT == "BGR" else pixels
