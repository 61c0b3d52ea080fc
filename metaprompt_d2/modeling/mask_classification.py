"""From classes and masks of queries to semantic, panoptic and instance segmentation.

These are Mask2Former's rules (arXiv 2112.01527). Q queries have class logits (Q, K + 1), of which
the last is "no object", and mask logits (Q, H, W).
"""

from collections.abc import Collection

import torch
from detectron2.structures import BitMasks, Instances
from torch import Tensor


def semantic_scores(class_logits: Tensor, mask_logits: Tensor) -> Tensor:
    """Add up the queries' class probabilities, each times its mask's probability at a pixel.

    Args:
        class_logits, mask_logits: Logits (N, Q, K + 1) and (N, Q, H, W).

    Returns:
        Scores (N, K, H, W) from 0 to Q.
    """
    classes = class_logits.softmax(dim=-1)[..., :-1]
    with torch.autocast(mask_logits.device.type, enabled=False):
        return torch.einsum("nqk,nqhw->nkhw", classes, mask_logits.sigmoid())


def panoptic_segments(
    class_logits: Tensor,
    mask_logits: Tensor,
    thing_ids: Collection[int] | None,
    *,
    score_threshold: float,
    overlap_threshold: float,
) -> tuple[Tensor, list[dict]]:
    """Give each pixel to one query; masks that are mostly hidden by others are left out.

    Args:
        class_logits, mask_logits: Logits (Q, K + 1) and (Q, H, W).
        thing_ids: Classes whose segments stay apart; None for all. All segments of another class
            are one.
        score_threshold: Least class probability of a query.
        overlap_threshold: Least share of a mask that must be its own.

    Returns:
        Segment ids (H, W), int32, 0 for none, and Detectron2's "segments_info".
    """
    scores, classes = class_logits.softmax(dim=-1).max(dim=-1)
    keep = (classes != class_logits.shape[-1] - 1) & (scores > score_threshold)
    probabilities = mask_logits[keep].sigmoid()
    segments = torch.zeros(mask_logits.shape[-2:], dtype=torch.int32, device=mask_logits.device)
    infos: list[dict] = []
    if not len(probabilities):
        return segments, infos
    owners = (scores[keep, None, None] * probabilities).argmax(dim=0)
    stuff: dict[int, int] = {}
    for index, category in enumerate(classes[keep].tolist()):
        own, inside = owners == index, probabilities[index] >= 0.5
        visible = own & inside
        own_area, area, visible_area = (int(mask.sum()) for mask in (own, inside, visible))
        if min(own_area, area, visible_area) == 0 or own_area / area < overlap_threshold:
            continue
        is_thing = thing_ids is None or category in thing_ids
        segment = len(infos) + 1 if is_thing else stuff.setdefault(category, len(infos) + 1)
        segments[visible] = segment
        if segment > len(infos):
            infos.append({"id": segment, "isthing": is_thing, "category_id": category})
    return segments, infos


def best_instances(
    class_logits: Tensor,
    mask_logits: Tensor,
    thing_ids: Collection[int] | None,
    *,
    max_instances: int,
) -> Instances:
    """Take the best pairs of a query and a class as instances, which may overlap.

    Args:
        class_logits, mask_logits: Logits (Q, K + 1) and (Q, H, W).
        thing_ids: Classes that are kept, out of the best pairs; None for all.
        max_instances: Number of pairs.

    Returns:
        Instances with "pred_classes", "pred_masks" (n, H, W), "pred_boxes" around them, and
        "scores": the class probability times the mean of the mask's probabilities inside it.
    """
    probabilities = class_logits.softmax(dim=-1)[:, :-1]
    number = min(max_instances, probabilities.numel())
    scores, pairs = probabilities.flatten().topk(number, sorted=False)
    queries, classes = pairs // probabilities.shape[1], pairs % probabilities.shape[1]
    if thing_ids is not None:
        keep = torch.isin(classes, torch.tensor(sorted(thing_ids), device=classes.device))
        scores, queries, classes = scores[keep], queries[keep], classes[keep]
    logits = mask_logits[queries]
    masks = logits > 0
    inside = (logits.sigmoid() * masks).sum(dim=(1, 2)) / (masks.sum(dim=(1, 2)) + 1e-6)
    instances = Instances(tuple(mask_logits.shape[-2:]))
    instances.pred_masks = masks
    instances.pred_boxes = BitMasks(masks).get_bounding_boxes()
    instances.scores = scores * inside
    instances.pred_classes = classes
    return instances
