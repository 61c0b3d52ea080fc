"""`look_inside` records every step without changing the model; what prompts follow."""

from typing import Any

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import build_model
from detectron2.structures import Instances
from helpers import SMALLEST_DEPTH, smallest_cfg
from pose_files import SMALLEST_POSE
from random_weights import untrained_predictor

from metaprompt_d2 import Predictor
from metaprompt_d2.inference.prompt_responses import (
    WHOLE_IMAGES,
    Association,
    TracedStep,
    associate_prompts,
    look_inside,
    select_prompts,
)

RGB = {"MODEL.PIXEL_MEAN": [127.5] * 3, "MODEL.PIXEL_STD": [127.5] * 3}
WHOLE_DEPTH = SMALLEST_DEPTH | {"MODEL.DEPTH_HEAD.RESIZE_SCALE": 0}
TASKS = {"sem_seg": {"INPUT.MIN_SIZE_TEST": 0}, "depth": WHOLE_DEPTH, "pose": SMALLEST_POSE}
STEPS = 3


def cfg_of(task: str, **overrides: Any) -> CfgNode:
    cfg = smallest_cfg(TASKS[task] | RGB | {"MODEL.META_PROMPT.REFINE_STEPS": STEPS} | overrides)
    cfg.defrost()
    cfg.merge_from_list(WHOLE_IMAGES)
    return cfg


def picture() -> np.ndarray:
    """Random, BGR."""
    return np.random.randint(0, 256, (64, 128, 3), np.uint8)


def result(output: dict[str, Any]) -> torch.Tensor:
    value = next(iter(output.values()))
    return value.pred_keypoints if isinstance(value, Instances) else value


@pytest.mark.parametrize("task", TASKS)
def test_every_step_is_recorded_and_the_last_is_the_prediction(task: str) -> None:
    predictor = untrained_predictor(cfg_of(task))
    refinement = predictor.model.backbone.refinement
    passes: list[int] = []
    refinement.unet.register_forward_hook(lambda *_: passes.append(1))
    image = picture()
    trace = look_inside(predictor, image)
    assert len(trace.steps) == len(passes) == STEPS
    assert torch.equal(result(trace.steps[-1].output), result(predictor(image)))
    first, second, third = (next(iter(step.responses.values())) for step in trace.steps)
    assert not torch.equal(first, second) and not torch.equal(second, third)
    assert result(trace.steps[0].output).shape == result(trace.steps[-1].output).shape
    if task == "pose":  # the whole image in a crop
        assert trace.image.shape == (64, 64, 3)
    else:
        assert np.array_equal(trace.image, image[..., ::-1])
    seen = torch.from_numpy(trace.image / 127.5 - 1).float().permute(2, 0, 1)
    if task == "sem_seg":
        with torch.no_grad():
            features = predictor.model.backbone(seen[None])
        for name, feature in features.items():
            torch.testing.assert_close(trace.steps[-1].responses[name], feature[0])


def test_a_step_predicts_what_a_model_with_that_many_steps_does() -> None:
    predictor = untrained_predictor(cfg_of("sem_seg"))
    shorter = build_model(cfg_of("sem_seg", **{"MODEL.META_PROMPT.REFINE_STEPS": 2})).eval()
    shorter.load_state_dict(predictor.model.state_dict(), strict=False)
    image = picture()
    expected = Predictor(predictor.cfg, model=shorter)(image)["sem_seg"]
    torch.testing.assert_close(look_inside(predictor, image).steps[1].output["sem_seg"], expected)


def test_people_are_looked_at_separately() -> None:
    predictor = untrained_predictor(cfg_of("pose"))
    image, boxes = picture(), [[0, 0, 40, 60], [60, 0, 100, 60]]
    first, second = (look_inside(predictor, image, boxes=boxes, view=view) for view in (0, 1))
    assert not np.array_equal(first.image, second.image)
    assert len(first.steps[0].output["instances"]) == 2
    with pytest.raises(ValueError, match="looked at the image 0 times"):
        look_inside(predictor, image, boxes=[])


def test_an_image_in_windows_is_refused() -> None:
    cfg = cfg_of("sem_seg")
    windows = {"ENABLED": True, "SIZE": (64, 64), "STRIDE": (64, 64), "BATCH_SIZE": 1}
    for key, value in windows.items():
        cfg.TEST.SLIDING_WINDOW[key] = value
    with pytest.raises(ValueError, match="looked at the image 2 times, .*WHOLE_IMAGES"):
        look_inside(untrained_predictor(cfg), picture())


def test_a_model_without_responses_is_refused() -> None:
    predictor = untrained_predictor(cfg_of("sem_seg"))
    predictor.model.backbone.rearrangement = None
    with pytest.raises(ValueError, match=r"no prompts' responses.*REARRANGE"):
        look_inside(predictor, picture())


def half(value: float) -> torch.Tensor:
    """(4, 6), the left half of a value, the rest 0."""
    return torch.cat([torch.full((4, 3), value), torch.zeros(4, 3)], dim=1)


def test_prompts_follow_classes() -> None:
    metadata = untrained_predictor(cfg_of("sem_seg")).metadata
    logits = torch.zeros(11, 8, 12)
    logits[3, :, :6], logits[5, :, 6:] = 1, 1
    responses = torch.stack([half(2), -half(1) + 7, torch.full((4, 6), 3.0)])
    step = TracedStep({"p2": responses}, {"sem_seg": logits})
    sure, other, flat = associate_prompts(step, metadata, feature="p2")
    assert {sure.name, other.name} <= {"3", "5"}  # each other's complement
    assert sure.correlation == pytest.approx(1 if sure.name == "3" else -1)
    assert other.correlation == pytest.approx(-1 if other.name == "3" else 1)
    assert flat.correlation == 0


def test_prompts_follow_depth_and_keypoints() -> None:
    metadata = untrained_predictor(cfg_of("pose")).metadata
    responses = {"p3": torch.stack([half(1), -half(1)])}
    step = TracedStep(responses, {"depth": torch.exp(half(3))})
    assert [item.name for item in associate_prompts(step, metadata, feature="p3")] == ["far", "far"]
    assert associate_prompts(step, metadata, feature="p3")[1].correlation == pytest.approx(-1)
    heatmaps = torch.zeros(1, 17, 4, 6)
    heatmaps[0, 9] = half(1)
    people = Instances((8, 12), pred_keypoint_heatmaps=heatmaps)
    found = associate_prompts(TracedStep(responses, {"instances": people}), metadata, feature="p3")
    assert found[0] == ("left_wrist", pytest.approx(1))


def test_selected_prompts_cover_every_class_first() -> None:
    found = [Association("car", value) for value in (0.9, -0.95, 0.2)] + [Association("sky", 0.5)]
    assert select_prompts(found, 3) == [1, 3, 0]
    assert select_prompts(found, 9) == [1, 3, 0, 2]
