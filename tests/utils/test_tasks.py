"""The task of a config's meta-architecture."""

import pytest
from helpers import smallest_cfg

from metaprompt_d2.utils.tasks import find_task


@pytest.mark.parametrize(
    ("architecture", "task"),
    [
        ("SlidingWindowSegmentor", "sem_seg"),
        ("DepthEstimator", "depth"),
        ("TopDownPoseEstimator", "pose"),
        ("SemanticSegmentor", ""),
        ("GeneralizedRCNN", ""),
    ],
)
def test_a_meta_architecture_names_its_task(architecture: str, task: str) -> None:
    assert find_task(smallest_cfg({"MODEL.META_ARCHITECTURE": architecture})) == task


def test_an_unknown_meta_architecture_is_refused() -> None:
    with pytest.raises(KeyError, match="'Other'"):
        find_task(smallest_cfg({"MODEL.META_ARCHITECTURE": "Other"}))
