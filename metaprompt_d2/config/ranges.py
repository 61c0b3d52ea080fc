"""The values that each config key may have: a range or choices, and pairs of them."""

import math
from typing import NamedTuple


class Range(NamedTuple):
    """Numbers from `low` to `high`, without the ends that are open."""

    low: float
    high: float = math.inf
    open_low: bool = False
    open_high: bool = False

    def expected(self, value: float) -> str | None:
        """Say what was expected instead of a value; None if the value is in the range."""
        if value < self.low or (self.open_low and value == self.low):
            return f"{'more than' if self.open_low else 'at least'} {self.low}"
        if value > self.high or (self.open_high and value == self.high):
            return f"{'less than' if self.open_high else 'at most'} {self.high}"
        return None


_LARGEST = 2**20  # pixels, channels or images; larger sizes only exhaust the memory

_KEYS_OF_RANGES = {
    Range(0): """
        DATALOADER.NUM_WORKERS INPUT.DEPTH_AUG.CUT_DEPTH_EVERY INPUT.MAX_IMAGE_PIXELS
        INPUT.SCALE_RANGE MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS MODEL.MASK2FORMER.CLASS_WEIGHT
        MODEL.MASK2FORMER.DICE_WEIGHT MODEL.MASK2FORMER.MASK_WEIGHT SOLVER.BASE_LR
        SOLVER.MAX_ITER SOLVER.WARMUP_ITERS
        SOLVER.BIAS_LR_FACTOR SOLVER.WEIGHT_DECAY SOLVER.WEIGHT_DECAY_BIAS
        SOLVER.WEIGHT_DECAY_NORM TEST.EVAL_PERIOD TEST.NUM_PICTURES
    """,
    Range(1): """
        MODEL.MASK2FORMER.OVERSAMPLE_RATIO SOLVER.CHECKPOINT_PERIOD SOLVER.LOG_PERIOD
    """,
    Range(0, open_low=True): """
        INPUT.DEPTH_AUG.CUT_DEPTH_MAX_DEPTH INPUT.DEPTH_AUG.GAMMA_RANGE
        INPUT.PERSON_CROP.PADDING INPUT.POSE_AUG.HALF_BODY_PADDING
        MODEL.DEPTH_HEAD.MAX_DEPTH MODEL.HEATMAP_HEAD.SIGMA MODEL.PIXEL_STD
    """,
    Range(0, 1): """
        INPUT.DEPTH_AUG.BRIGHTNESS_CONTRAST_PROB INPUT.DEPTH_AUG.CUT_DEPTH_PROB
        INPUT.DEPTH_AUG.GAMMA_PROB INPUT.DEPTH_AUG.HSV_PROB
        INPUT.POSE_AUG.CENTER_JITTER_PROB INPUT.POSE_AUG.HALF_BODY_PROB
        INPUT.POSE_AUG.HALF_BODY_UPPER_PROB INPUT.POSE_AUG.ROTATION_PROB
        MODEL.MASK2FORMER.IMPORTANCE_SAMPLE_RATIO MODEL.MASK2FORMER.TEST.OBJECT_MASK_THRESHOLD
        MODEL.MASK2FORMER.TEST.OVERLAP_THRESHOLD MODEL.SEM_SEG_HEAD.DROPOUT
        SOLVER.POLY_LR_CONSTANT_ENDING
    """,
    Range(1, _LARGEST): """
        INPUT.PERSON_CROP.SIZE MODEL.DEPTH_HEAD.CONVS_DIM MODEL.DEPTH_HEAD.DECONV_DIMS
        MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM
        MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS
        MODEL.DIFFUSION.UNET.NUM_HEADS MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL
        MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS MODEL.DIFFUSION.VAE.LATENT_CHANNELS
        MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS
        MODEL.HEATMAP_HEAD.DECONV_DIMS MODEL.HEATMAP_HEAD.STRIDE
        MODEL.MASK2FORMER.CONVS_DIM MODEL.MASK2FORMER.DEC_LAYERS
        MODEL.MASK2FORMER.DIM_FEEDFORWARD MODEL.MASK2FORMER.ENC_DIM_FEEDFORWARD
        MODEL.MASK2FORMER.ENC_LAYERS MODEL.MASK2FORMER.HIDDEN_DIM MODEL.MASK2FORMER.MASK_DIM
        MODEL.MASK2FORMER.NHEADS MODEL.MASK2FORMER.NUM_OBJECT_QUERIES
        MODEL.MASK2FORMER.TRAIN_NUM_POINTS
        MODEL.META_PROMPT.DECONV_CHANNELS MODEL.META_PROMPT.NORM_NUM_GROUPS
        MODEL.META_PROMPT.NUM_PROMPTS MODEL.META_PROMPT.REFINE_STEPS
        MODEL.SEM_SEG_HEAD.CONVS_DIM MODEL.SEM_SEG_HEAD.NUM_CLASSES
        MODEL.SEM_SEG_HEAD.POOL_SCALES SOLVER.ACCUMULATION_STEPS SOLVER.IMS_PER_BATCH
        TEST.POSE.BATCH_SIZE TEST.POSE.PEOPLE_PER_BATCH TEST.SLIDING_WINDOW.BATCH_SIZE
        TEST.SLIDING_WINDOW.SIZE TEST.SLIDING_WINDOW.STRIDE
    """,
    Range(0, _LARGEST): """
        INPUT.CROP.SIZE INPUT.MAX_SIZE_TEST INPUT.MAX_SIZE_TRAIN INPUT.MIN_SIZE_TEST
        INPUT.MIN_SIZE_TRAIN MODEL.DEPTH_HEAD.RESIZE_SCALE MODEL.DIFFUSION.LORA.RANK
        MODEL.HEATMAP_HEAD.BLUR_KERNEL MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY
        TEST.SHIFTED_WINDOWS.COUNT
    """,
    Range(0, 1, open_low=True): """
        MODEL.MASK2FORMER.NO_OBJECT_WEIGHT SOLVER.LR_PEAK_AT SOLVER.UNET_LAYER_DECAY
    """,
    Range(0, 1, open_high=True): "INPUT.POSE_AUG.SCALE SOLVER.EMA.DECAY",
    Range(-math.inf, 2**31 - 1): "SEED",
}

# Where a key holds several numbers, each must be in the range.
RANGES = {key: range_ for range_, keys in _KEYS_OF_RANGES.items() for key in keys.split()}

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


def ignore_value_expected(value: int, num_classes: int) -> str | None:
    """Say which label of ignored pixels was expected; None if a value is neither a class nor wraps.

    Label maps of up to 255 classes have 8 bits, others 16.
    """
    highest = 255 if num_classes <= 255 else 65535
    if num_classes <= value <= highest:
        return None
    return f"{num_classes}..{highest}, because the classes are 0..{num_classes - 1}"


# Keys that may be None: the value is then another key's.
OPTIONAL = ("SOLVER.WEIGHT_DECAY_BIAS", "SOLVER.WEIGHT_DECAY_NORM")

# Keys that hold two numbers of different meanings.
PAIRS = """
    INPUT.CROP.SIZE INPUT.DEPTH_AUG.GAMMA_RANGE INPUT.PERSON_CROP.SIZE INPUT.SCALE_RANGE
    TEST.SLIDING_WINDOW.SIZE TEST.SLIDING_WINDOW.STRIDE
""".split()
