"""COCO's keypoint metrics, computed in another way than pycocotools does."""

import numpy as np

THRESHOLDS = np.linspace(0.5, 0.95, 10)


def compute_ap_and_ar(
    truth: list[dict], predictions: list[dict], sigmas: np.ndarray
) -> tuple[float, float]:
    """Return AP and AR in percent, over all sizes, of one category.

    Args:
        truth: "image", "points" (J, 3), "box", "area", "crowd" and "ignored".
        predictions: "image", "points" (J, 3) and "score".
    """
    images = {item["image"] for item in truth} | {item["image"] for item in predictions}
    per_image = [
        (
            [item for item in truth if item["image"] == image],
            sorted((p for p in predictions if p["image"] == image), key=lambda p: -p["score"])[:20],
        )
        for image in sorted(images)
    ]
    values = [_score(per_image, sigmas, threshold) for threshold in THRESHOLDS]
    precision, recall = np.mean(values, axis=0) * 100
    return float(precision), float(recall)


def _score(
    per_image: list[tuple[list[dict], list[dict]]], sigmas: np.ndarray, threshold: float
) -> tuple[float, float]:
    outcomes = []  # score, and whether it is right
    wanted = sum(not item["ignored"] for people, _ in per_image for item in people)
    for people, found in per_image:
        free = list(range(len(people)))
        for prediction in found:
            similar = {i: _oks(people[i], prediction["points"], sigmas) for i in free}
            close = [i for i in free if similar[i] >= threshold]
            regular = [i for i in close if not people[i]["ignored"]]
            if regular or not close:
                outcomes.append((prediction["score"], bool(regular)))
            best = max(regular or close, key=similar.__getitem__, default=None)
            if best is not None and not people[best]["crowd"]:
                free.remove(best)
    right = np.array([good for _, good in sorted(outcomes, key=lambda it: -it[0])], bool)
    hits = np.cumsum(right)
    precisions, recalls = hits / np.arange(1, len(right) + 1), hits / wanted
    # The best precision at this recall or above, at 101 recalls that are rounded like COCO's.
    reached = [precisions[recalls >= at] for at in np.linspace(0, 1, 101)]
    return float(np.mean([max(values, default=0) for values in reached])), hits[-1] / wanted


def _oks(person: dict, points: np.ndarray, sigmas: np.ndarray) -> float:
    """Compute the OKS over the labeled keypoints, or to twice the box without one."""
    labeled = person["points"][:, 2] > 0
    if labeled.any():
        distances = np.hypot(*(points - person["points"])[labeled, :2].T)
        scale = sigmas[labeled]
    else:
        left, top, width, height = person["box"]
        low, high = np.array([left - width, top - height]), np.array([left, top])
        inside = np.clip(points[:, :2], low, high + 2 * np.array([width, height]))
        distances, scale = np.hypot(*(points[:, :2] - inside).T), sigmas
    return float(np.exp(-(distances**2) / (8 * scale**2 * person["area"])).mean())
