"""Post-processing of queries against transformers' own and against loops over pixels."""

import pytest
import torch
from transformers import Mask2FormerImageProcessor
from transformers.models.mask2former.modeling_mask2former import (
    Mask2FormerForUniversalSegmentationOutput,
)

from metaprompt_d2.modeling.mask_classification import (
    best_instances,
    panoptic_segments,
    semantic_scores,
)

QUERIES, CLASSES = 12, 5
SIDE = 384  # transformers resizes all masks to this size
THINGS = (0, 2, 4)


@pytest.fixture(params=range(4))
def logits(request: pytest.FixtureRequest) -> tuple[torch.Tensor, torch.Tensor]:
    """Confident classes, of which some are "no object", and smooth masks that overlap."""
    torch.manual_seed(request.param)
    classes = 6 * torch.randn(QUERIES, CLASSES + 1)
    masks = torch.nn.functional.interpolate(
        8 * torch.randn(1, QUERIES, 6, 6) - 6, size=(SIDE, SIDE), mode="bicubic"
    )
    return classes, masks[0]


def _outputs(logits: tuple[torch.Tensor, torch.Tensor]) -> object:
    classes, masks = logits
    return Mask2FormerForUniversalSegmentationOutput(
        class_queries_logits=classes[None], masks_queries_logits=masks[None]
    )


def test_semantic_scores_equal_those_of_transformers(
    logits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    classes, masks = logits
    (expected,) = Mask2FormerImageProcessor().post_process_semantic_segmentation(
        _outputs(logits), return_segmentation_scores=True
    )
    found = semantic_scores(classes[None], masks[None])[0]
    torch.testing.assert_close(found, expected.segmentation_scores)


def _segments_by_pixels(
    classes: torch.Tensor, masks: torch.Tensor, score_threshold: float, overlap_threshold: float
) -> dict[int, tuple[int, set[tuple[int, int]]]]:
    """Mask2Former's published rule, pixel by pixel: segment -> (class, pixels)."""
    probabilities = classes.double().softmax(-1)
    queries = [
        (query, int(row.argmax()), float(row.max()))
        for query, row in enumerate(probabilities)
        if int(row.argmax()) < CLASSES and float(row.max()) > score_threshold
    ]
    inside = {query: set() for query, *_ in queries}
    owned = {query: set() for query, *_ in queries}
    values = masks.double().sigmoid()
    for y in range(masks.shape[1]):
        for x in range(masks.shape[2]):
            best = max(queries, key=lambda entry: entry[2] * float(values[entry[0], y, x]))
            owned[best[0]].add((y, x))
            for query, *_ in queries:
                if values[query, y, x] >= 0.5:
                    inside[query].add((y, x))
    segments: dict[int, tuple[int, set]] = {}
    for query, label, _ in queries:
        visible = owned[query] & inside[query]
        if not visible or len(owned[query]) / len(inside[query]) < overlap_threshold:
            continue
        same = [number for number, (other, _) in segments.items() if other == label]
        if same and label not in THINGS:
            segments[same[0]][1].update(visible)
        else:
            segments[len(segments) + 1] = label, visible
    return segments


def test_panoptic_segments_follow_the_published_rule(
    logits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    classes, masks = logits[0], logits[1][:, ::16, ::16]
    thresholds = {"score_threshold": 0.6, "overlap_threshold": 0.6}
    expected = _segments_by_pixels(classes, masks, **thresholds)
    segments, infos = panoptic_segments(classes, masks, THINGS, **thresholds)
    assert segments.dtype == torch.int32
    found = {
        info["id"]: (
            info["category_id"],
            {tuple(place) for place in (segments == info["id"]).nonzero().tolist()},
        )
        for info in infos
    }
    assert found == expected
    assert len(found) > 1
    assert all(info["isthing"] == (info["category_id"] in THINGS) for info in infos)


def test_panoptic_segments_equal_those_of_transformers_where_a_mask_covers_every_pixel(
    logits: tuple[torch.Tensor, torch.Tensor],
) -> None:
    """Elsewhere transformers departs from the published rule.

    It gives pixels to the best query even outside its mask, multiplies masks with scores before
    they are compared with 0.5, and counts on from the id of stuff that it joined.
    """
    labels = torch.tensor([query % CLASSES for query in range(QUERIES)])
    classes = 40 * torch.nn.functional.one_hot(labels, CLASSES + 1).float()
    masks = logits[1].clone()
    masks[-1] = 0.5
    (expected,) = Mask2FormerImageProcessor().post_process_panoptic_segmentation(
        _outputs((classes, masks)),
        threshold=0.6,
        overlap_mask_area_threshold=0.1,
        label_ids_to_fuse=set(),
    )
    segments, infos = panoptic_segments(
        classes, masks, range(CLASSES), score_threshold=0.6, overlap_threshold=0.1
    )
    assert torch.equal(segments, expected["segmentation"].int())
    assert [(info["id"], info["category_id"]) for info in infos] == [
        (info["id"], info["label_id"]) for info in expected["segments_info"]
    ]
    assert len(infos) > 3


def test_instances_equal_those_of_transformers(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    (expected,) = Mask2FormerImageProcessor().post_process_instance_segmentation(
        _outputs(logits), threshold=0.2, return_binary_maps=True
    )
    found = best_instances(*logits, None, max_instances=QUERIES)
    kept = found[(found.scores >= 0.2) & found.pred_masks.flatten(1).any(1)]
    theirs = {
        (info["label_id"], round(info["score"], 4), int(mask.sum()))
        for info, mask in zip(expected["segments_info"], expected["segmentation"], strict=True)
    }
    ours = {
        (int(label), round(float(score), 4), int(mask.sum()))
        for label, score, mask in zip(kept.pred_classes, kept.scores, kept.pred_masks, strict=True)
    }
    assert ours == theirs


def test_boxes_enclose_the_masks(logits: tuple[torch.Tensor, torch.Tensor]) -> None:
    found = best_instances(*logits, THINGS, max_instances=QUERIES)
    assert set(found.pred_classes.tolist()) <= set(THINGS)
    for box, mask in zip(found.pred_boxes.tensor, found.pred_masks, strict=True):
        if rows := mask.any(1).nonzero().flatten().tolist():
            columns = mask.any(0).nonzero().flatten().tolist()
            assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]


def test_an_image_without_a_sure_query_has_no_segment() -> None:
    classes = torch.zeros(QUERIES, CLASSES + 1)
    segments, infos = panoptic_segments(
        classes, torch.ones(QUERIES, 8, 9), THINGS, score_threshold=0.8, overlap_threshold=0.8
    )
    assert segments.shape == (8, 9)
    assert not segments.any()
    assert infos == []


def test_hidden_masks_are_left_out_and_stuff_is_joined() -> None:
    """Two halves of stuff are one segment; of two equal masks of a thing the surer one remains."""
    classes = torch.full((4, CLASSES + 1), -20.0)
    for query, (label, logit) in enumerate([(1, 9.0), (1, 9.0), (0, 9.0), (2, 7.0)]):
        classes[query, label] = logit
    masks = torch.full((4, 6, 8), -9.0)
    masks[0, :3, :4] = masks[1, :3, 4:] = masks[2, 3:] = masks[3, 3:] = 9.0
    segments, infos = panoptic_segments(
        classes, masks, (0, 2), score_threshold=0.5, overlap_threshold=0.8
    )
    assert [(info["category_id"], info["isthing"]) for info in infos] == [(1, False), (0, True)]
    assert (segments[:3] == infos[0]["id"]).all()
    assert (segments[3:] == infos[1]["id"]).all()
