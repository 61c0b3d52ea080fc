"""The values that each config key may have: a range or choices, and how many of them."""

import math
from typing import NamedTuple


class Range(NamedTuple):
    """Numbers from `low` to `high`, without an end that is open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def expected(self, value: float) -> str | None:
        """Say what was expected instead of a value; None where the value is in the range."""
        if value < self.low or (self.open_low and value == self.low):
            return f"{'more than' if self.open_low else 'at least'} {self.low}"
        if value > self.high or (self.open_high and value == self.high):
            return f"{'less than' if self.open_high else 'at most'} {self.high}"
        return None


_LARGEST = 2**20  # pixels, channels or images; larger sizes only exhaust the memory

AT_LEAST_0 = Range(0)
AT_LEAST_1 = Range(1)
POSITIVE = Range(0, open_low=True)
SHARE = Range(0, 1)
SIZE = Range(1, _LARGEST)
SIZE_OR_0 = Range(0, _LARGEST)

# Where a key holds several numbers, each must be in the range.
RANGES = {
    "DATALOADER.NUM_WORKERS": AT_LEAST_0,
    "INPUT.CROP.SIZE": SIZE_OR_0,
    "INPUT.DEPTH_AUG.BRIGHTNESS_CONTRAST_PROB": SHARE,
    "INPUT.DEPTH_AUG.CUT_DEPTH_EVERY": AT_LEAST_0,
    "INPUT.DEPTH_AUG.CUT_DEPTH_MAX_DEPTH": POSITIVE,
    "INPUT.DEPTH_AUG.CUT_DEPTH_PROB": SHARE,
    "INPUT.DEPTH_AUG.GAMMA_PROB": SHARE,
    "INPUT.DEPTH_AUG.GAMMA_RANGE": POSITIVE,
    "INPUT.DEPTH_AUG.HSV_PROB": SHARE,
    "INPUT.MAX_SIZE_TEST": SIZE_OR_0,
    "INPUT.MAX_SIZE_TRAIN": SIZE_OR_0,
    "INPUT.MIN_SIZE_TEST": SIZE_OR_0,
    "INPUT.MIN_SIZE_TRAIN": SIZE_OR_0,
    "INPUT.PERSON_CROP.PADDING": POSITIVE,
    "INPUT.PERSON_CROP.SIZE": SIZE,
    "INPUT.POSE_AUG.CENTER_JITTER_PROB": SHARE,
    "INPUT.POSE_AUG.HALF_BODY_PADDING": POSITIVE,
    "INPUT.POSE_AUG.HALF_BODY_PROB": SHARE,
    "INPUT.POSE_AUG.HALF_BODY_UPPER_PROB": SHARE,
    "INPUT.POSE_AUG.ROTATION_PROB": SHARE,
    "INPUT.POSE_AUG.SCALE": Range(0, 1, open_high=True),
    "INPUT.SCALE_RANGE": AT_LEAST_0,
    "MODEL.DEPTH_HEAD.CONVS_DIM": SIZE,
    "MODEL.DEPTH_HEAD.DECONV_DIMS": SIZE,
    "MODEL.DEPTH_HEAD.MAX_DEPTH": POSITIVE,
    "MODEL.DEPTH_HEAD.RESIZE_SCALE": SIZE_OR_0,
    "MODEL.DIFFUSION.LORA.RANK": SIZE_OR_0,
    "MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": SIZE,
    "MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM": SIZE,
    "MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK": SIZE,
    "MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS": SIZE,
    "MODEL.DIFFUSION.UNET.NUM_HEADS": SIZE,
    "MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL": SIZE,
    "MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS": SIZE,
    "MODEL.DIFFUSION.VAE.LATENT_CHANNELS": SIZE,
    "MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK": SIZE,
    "MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS": SIZE,
    "MODEL.HEATMAP_HEAD.BLUR_KERNEL": SIZE_OR_0,
    "MODEL.HEATMAP_HEAD.DECONV_DIMS": SIZE,
    "MODEL.HEATMAP_HEAD.SIGMA": POSITIVE,
    "MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY": SIZE_OR_0,
    "MODEL.HEATMAP_HEAD.STRIDE": SIZE,
    "MODEL.META_PROMPT.DECONV_CHANNELS": SIZE,
    "MODEL.META_PROMPT.NORM_NUM_GROUPS": SIZE,
    "MODEL.META_PROMPT.NUM_PROMPTS": SIZE,
    "MODEL.META_PROMPT.REFINE_STEPS": SIZE,
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": SIZE,
    "MODEL.SEM_SEG_HEAD.DROPOUT": SHARE,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": SIZE,
    "MODEL.SEM_SEG_HEAD.POOL_SCALES": SIZE,
    "SEED": Range(-math.inf, 2**31 - 1),
    "SOLVER.ACCUMULATION_STEPS": SIZE,
    "SOLVER.BASE_LR": AT_LEAST_0,
    "SOLVER.CHECKPOINT_PERIOD": AT_LEAST_1,
    "SOLVER.EMA.DECAY": Range(0, 1, open_high=True),
    "SOLVER.IMS_PER_BATCH": SIZE,
    "SOLVER.LOG_PERIOD": AT_LEAST_1,
    "SOLVER.LR_PEAK_AT": Range(0, 1, open_low=True),
    "SOLVER.MAX_ITER": AT_LEAST_0,
    "SOLVER.POLY_LR_CONSTANT_ENDING": SHARE,
    "SOLVER.UNET_LAYER_DECAY": POSITIVE,
    "SOLVER.WARMUP_ITERS": AT_LEAST_0,
    "SOLVER.WEIGHT_DECAY": AT_LEAST_0,
    "TEST.EVAL_PERIOD": AT_LEAST_0,
    "TEST.NUM_PICTURES": AT_LEAST_0,
    "TEST.POSE.BATCH_SIZE": SIZE,
    "TEST.POSE.PEOPLE_PER_BATCH": SIZE,
    "TEST.SHIFTED_WINDOWS.COUNT": SIZE_OR_0,
    "TEST.SLIDING_WINDOW.BATCH_SIZE": SIZE,
    "TEST.SLIDING_WINDOW.SIZE": SIZE,
    "TEST.SLIDING_WINDOW.STRIDE": SIZE,
}

CHOICES = {
    "INPUT.CROP.TYPE": ("relative_range", "relative", "absolute", "absolute_range"),
    "INPUT.FORMAT": ("BGR", "L", "RGB", "YUV-BT.601"),
    "INPUT.RANDOM_FLIP": ("none", "horizontal", "vertical"),
    "MODEL.DEPTH_HEAD.DECONV_KERNELS": (2, 3, 4),
    "MODEL.HEATMAP_HEAD.DECONV_KERNELS": (2, 3, 4),
    "MODEL.HEATMAP_HEAD.LOSS": ("cross_entropy", "mse"),
    "MODEL.HEATMAP_HEAD.WIRING": ("deconv", "prompts"),
    "MODEL.META_PROMPT.REARRANGE": ("pyramid", "fused", "none"),
    "MODEL.SEM_SEG_HEAD.NORM": (  # the names that Detectron2's get_norm knows
        *("", "BN", "SyncBN", "FrozenBN", "GN", "nnSyncBN", "naiveSyncBN", "naiveSyncBN_N", "LN"),
    ),
    "MODEL.SPEED.COMPILE": (
        *("", "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"),
    ),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": ("full_model", "norm", "value"),
    "SOLVER.WARMUP_METHOD": ("constant", "linear"),
    "SOLVER.AMP.DTYPE": ("bfloat16", "float16"),
    "SOLVER.BEST_METRIC_MODE": ("max", "min"),
    "TEST.AMP.DTYPE": ("bfloat16", "float16"),
    "TEST.DEPTH_EVAL.CROP": ("", "nyu", "garg", "eigen", "none"),
}

# How many numbers a key holds, where they have different meanings.
LENGTHS = {
    "INPUT.CROP.SIZE": 2,
    "INPUT.DEPTH_AUG.GAMMA_RANGE": 2,
    "INPUT.PERSON_CROP.SIZE": 2,
    "INPUT.SCALE_RANGE": 2,
    "TEST.SLIDING_WINDOW.SIZE": 2,
    "TEST.SLIDING_WINDOW.STRIDE": 2,
}
