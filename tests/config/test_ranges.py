"""A value out of its range is refused by its key, before anything is built from it."""

import math

import pytest
from detectron2.config import CfgNode, get_cfg

from metaprompt_d2.config import add_metaprompt_config, check_config
from metaprompt_d2.config.ranges import CHOICES, PAIRS, RANGES, Range
from metaprompt_d2.engine import load_config
from metaprompt_d2.utils.errors import InputError


def value_of(cfg: CfgNode, key: str) -> object:
    for name in key.split("."):
        cfg = cfg[name]
    return cfg


def test_ranges_and_choices_are_of_keys_that_exist() -> None:
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    for key in [*RANGES, *CHOICES, *PAIRS]:
        value_of(cfg, key)
    check_config(cfg)  # accepts the defaults


@pytest.mark.parametrize(
    ("bounds", "value", "expected"),
    [
        (Range(1), 0, "at least 1"),
        (Range(1), 1, None),
        (Range(0, open_low=True), 0, "more than 0"),
        (Range(0, open_low=True), 1e-9, None),
        (Range(0, 1), 1.5, "at most 1"),
        (Range(0, 1), 1, None),
        (Range(0, 1, open_high=True), 1, "less than 1"),
        (Range(-math.inf, 5), -(10**15), None),
    ],
)
def test_a_range_says_what_it_expects(bounds: Range, value: float, expected: str | None) -> None:
    assert bounds.expected(value) == expected


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("MODEL.META_PROMPT.NUM_PROMPTS", 0, "is 0, expected at least 1"),
        ("MODEL.META_PROMPT.REFINE_STEPS", -1, "is -1, expected at least 1"),
        ("MODEL.META_PROMPT.REARRANGE", "flat", "is 'flat', expected one of ('pyramid', 'fused'"),
        ("MODEL.SPEED.COMPILE", "fast", "is 'fast', expected one of ('', 'default'"),
        ("MODEL.DIFFUSION.LORA.RANK", -2, "is -2, expected at least 0"),
        ("MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL", ("x",), "is ('x',), expected numbers"),
        ("MODEL.DEPTH_HEAD.MAX_DEPTH", 0.0, "is 0.0, expected more than 0"),
        ("MODEL.PIXEL_STD", [1.0, 0.0, 1.0], "is [1.0, 0.0, 1.0], expected more than 0"),
        ("MODEL.DEPTH_HEAD.DECONV_KERNELS", (2, 5, 2), "is (2, 5, 2), expected one of (2, 3, 4)"),
        (
            "MODEL.HEATMAP_HEAD.LOSS",
            "other",
            "is 'other', expected one of ('cross_entropy', 'mse')",
        ),
        ("MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS", (1, -2), "is (1, -2), expected at least 0"),
        ("MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS", (math.inf,), "is (inf,), expected finite numbers"),
        (
            "MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS",
            (1.0, 2.0),
            "holds 2 numbers, expected 17 (MODEL.R",
        ),
        ("MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY", -1, "is -1, expected at least 0"),
        ("MODEL.HEATMAP_HEAD.WIRING", "other", "is 'other', expected one of ('deconv', 'prompts')"),
        ("MODEL.SEM_SEG_HEAD.NORM", "batch", "is 'batch', expected one of ('', 'BN', 'SyncBN'"),
        ("INPUT.POSE_AUG.SCALE", 1.0, "is 1.0, expected less than 1"),
        ("INPUT.DEPTH_AUG.CUT_DEPTH_PROB", 1.5, "is 1.5, expected at most 1"),
        ("INPUT.SCALE_RANGE", (1.0,), "is (1.0,), expected 2 numbers"),
        ("SEED", 10**15, "is 1000000000000000, expected at most"),
        ("SOLVER.EMA.DECAY", 1.0, "is 1.0, expected less than 1"),
        ("SOLVER.AMP.DTYPE", "half", "is 'half', expected one of"),
        ("SOLVER.UNET_LAYER_DECAY", 0.0, "is 0.0, expected more than 0"),
        ("SOLVER.LR_PEAK_AT", 0.0, "is 0.0, expected more than 0"),
        ("SOLVER.IMS_PER_BATCH", 10**15, "is 1000000000000000, expected at most 1048576"),
        ("SOLVER.WARMUP_METHOD", "slow", "is 'slow', expected one of"),
        ("TEST.POSE.BATCH_SIZE", -1, "is -1, expected at least 1"),
        ("TEST.SLIDING_WINDOW.SIZE", (0, 64), "is (0, 64), expected at least 1"),
        ("TEST.SLIDING_WINDOW.SIZE", (64,), "is (64,), expected 2 numbers"),
        ("TEST.SLIDING_WINDOW.STRIDE", (32, 0), "is (32, 0), expected at least 1"),
        ("TEST.SLIDING_WINDOW.STRIDE", (64, 32, 1), "is (64, 32, 1), expected 2 numbers"),
    ],
)
def test_a_value_out_of_its_range_names_its_key(key: str, value: object, message: str) -> None:
    with pytest.raises(InputError) as error:
        load_config("", [key, value])
    assert str(error.value).startswith(f"{key} {message}")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            {"UNET.BLOCK_OUT_CHANNELS": (30, 64, 64, 64)},
            r"UNET\.BLOCK_OUT_CHANNELS \(30, 64, 64, 64\): \[30\] are no multiples of .*GROUPS 32",
        ),
        ({"VAE.NORM_NUM_GROUPS": 7}, r"VAE\.BLOCK_OUT_CHANNELS .* multiples of .*GROUPS 7"),
        ({"UNET.NUM_HEADS": 7}, r"multiples of the attention heads \(7, 7, 7, 7\)"),
        ({"UNET.NUM_HEADS_PER_LEVEL": (5, 10)}, r"NUM_HEADS_PER_LEVEL \(5, 10\) has 2 levels"),
        ({"GRADIENT_CHECKPOINTING_LEVELS": (0, 4)}, r"LEVELS names \[4\], expected of \[0, 1, 2"),
        ({"UNET.CROSS_ATTENTION_DIM": 100}, r"100 channels of the UNet .*NORM_NUM_GROUPS 16"),
    ],
)
def test_sizes_that_do_not_fit_each_other_are_named(overrides: dict, message: str) -> None:
    options = [part for key, value in overrides.items() for part in (key, value)]
    options[::2] = [f"MODEL.DIFFUSION.{key}" for key in options[::2]]
    with pytest.raises(InputError, match=message):
        load_config("", options)


def test_any_number_of_detections_is_left_to_detectron2() -> None:
    """Detectron2's detectors keep all for a negative number."""
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    cfg.TEST.DETECTIONS_PER_IMAGE = -1
    check_config(cfg)


def test_means_and_deviations_of_pixels_are_pairs() -> None:
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    cfg.MODEL.PIXEL_STD = [127.5]
    with pytest.raises(InputError, match="PIXEL_MEAN holds 3 numbers, MODEL.PIXEL_STD 1"):
        check_config(cfg)
