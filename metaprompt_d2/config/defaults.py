"""Every config key of this package, each with its meaning; values default to Cityscapes' recipe."""

from detectron2.config import CfgNode
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config

__all__ = ["add_metaprompt_config"]


def add_metaprompt_config(cfg: CfgNode) -> None:
    """Add the keys of `metaprompt_d2` to a Detectron2 config, in place.

    Those of Detectron2's DeepLab and PointRend, whose heads run on this backbone and whose
    schedule and augmentations are used here, come with them.
    """
    add_deeplab_config(cfg)
    add_pointrend_config(cfg)
    _add_diffusion(cfg)
    _add_lora(cfg)
    _add_sem_seg_head(cfg)
    _add_depth_head(cfg)
    _add_input(cfg)
    _add_depth_input(cfg)
    _add_mapper(cfg)
    _add_heatmap_head(cfg)
    _add_pose_input(cfg)
    _add_pose_test(cfg)
    _add_solver(cfg)
    _add_ema(cfg)
    _add_test(cfg)
    _add_speed(cfg)


def _add_diffusion(cfg: CfgNode) -> None:
    # Sizes default to Stable Diffusion 1.5.
    cfg.MODEL.DIFFUSION = CfgNode()
    # Stable Diffusion to start from: folder in diffusers' layout (`unet/`, `vae/`), owner/name of
    # one on the Hugging Face hub, or one .safetensors/.ckpt file in CompVis' layout; "" = random.
    # Not opened when MODEL.WEIGHTS or --resume gives a whole checkpoint. "metaprompt_d2://" is
    # the configs folder.
    cfg.MODEL.DIFFUSION.WEIGHTS = ""
    # Take UNET.* and VAE.* from WEIGHTS: the folder's own config, or the shapes of its tensors.
    cfg.MODEL.DIFFUSION.SIZES_FROM_WEIGHTS = False
    # A tensor that WEIGHTS lacks is an error; False: a warning, and it starts at random.
    cfg.MODEL.DIFFUSION.STRICT = True
    # Train the prompts, step embeddings and heads only.
    cfg.MODEL.DIFFUSION.FREEZE_UNET = False
    # Recompute the UNet's activations in the backward pass: less memory, about a third more time.
    cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING = False
    # Levels of the UNet that do so, 0 the finest and largest; () = all.
    cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS = ()

    cfg.MODEL.DIFFUSION.UNET = CfgNode()
    # Channels of the levels, fine to coarse.
    cfg.MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS = (320, 640, 1280, 1280)
    # Residual blocks a level of the encoder; the decoder has one more.
    cfg.MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK = 2
    # Width of the prompts. 1024 in Stable Diffusion 2.
    cfg.MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM = 768
    # Attention heads of every level, or level by level, which wins: (5, 10, 20, 20) in
    # Stable Diffusion 2.
    cfg.MODEL.DIFFUSION.UNET.NUM_HEADS = 8
    cfg.MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL = ()
    # Groups of every group norm; divides all widths.
    cfg.MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS = 32
    # Linear layers around the transformers (Stable Diffusion 2) instead of 1x1 convolutions.
    cfg.MODEL.DIFFUSION.UNET.LINEAR_PROJECTION = False

    cfg.MODEL.DIFFUSION.VAE = CfgNode()
    # Channels of the levels, fine to coarse; all but the last halve the size.
    cfg.MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS = (128, 256, 512, 512)
    cfg.MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK = 2
    cfg.MODEL.DIFFUSION.VAE.LATENT_CHANNELS = 4
    cfg.MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS = 32

    cfg.MODEL.META_PROMPT = CfgNode()
    # Prompts a set, and channels of the features.
    cfg.MODEL.META_PROMPT.NUM_PROMPTS = 150
    # One set of prompts (and adapter) for every refinement step instead of one for all.
    cfg.MODEL.META_PROMPT.PER_STEP = False
    # Pass the prompts through a two-layer MLP.
    cfg.MODEL.META_PROMPT.ADAPTER = False
    # Passes through the UNet.
    cfg.MODEL.META_PROMPT.REFINE_STEPS = 3
    # Features: "pyramid" (p2..p5), "fused" (p3), or "none", the raw decoder maps (up3..up6).
    cfg.MODEL.META_PROMPT.REARRANGE = "pyramid"
    # Names of the features that are given, () = all: DDP refuses projections that no head reads.
    cfg.MODEL.META_PROMPT.OUT_FEATURES = ()
    # Groups of the re-arrangement's group norms.
    cfg.MODEL.META_PROMPT.NORM_NUM_GROUPS = 16
    # Channels within the transposed convolutions of "fused".
    cfg.MODEL.META_PROMPT.DECONV_CHANNELS = 32


def _add_lora(cfg: CfgNode) -> None:
    # Train low-rank adapters, W + ALPHA / RANK * B A, instead of the UNet's weights, through peft.
    # RANK 0 = none.
    cfg.MODEL.DIFFUSION.LORA = CfgNode()
    cfg.MODEL.DIFFUSION.LORA.RANK = 0
    cfg.MODEL.DIFFUSION.LORA.ALPHA = 16
    # Ends of the names of the layers that get one: the attentions' projections.
    cfg.MODEL.DIFFUSION.LORA.TARGETS = ("to_q", "to_k", "to_v", "to_out.0")


def _add_sem_seg_head(cfg: CfgNode) -> None:
    head = cfg.MODEL.SEM_SEG_HEAD
    # Grid sizes of the pyramid pooling module.
    head.POOL_SCALES = (1, 2, 3, 6)
    # Probability of dropping a channel before the classifier.
    head.DROPOUT = 0.1
    # Weight of the Lovasz-Softmax loss beside the cross-entropy's LOSS_WEIGHT.
    head.LOVASZ_LOSS_WEIGHT = 1.0
    # Auxiliary FCN head: the feature it reads and the weight of its cross-entropy (0: no head).
    head.AUX_IN_FEATURE = "p4"
    head.AUX_LOSS_WEIGHT = 0.4


def _add_depth_head(cfg: CfgNode) -> None:
    # Values default to NYU Depth v2's recipe.
    cfg.MODEL.DEPTH_HEAD = CfgNode()
    cfg.MODEL.DEPTH_HEAD.NAME = "DeconvDepthHead"
    # Feature that the head reads.
    cfg.MODEL.DEPTH_HEAD.IN_FEATURE = "p3"
    # Metres that the head's sigmoid spans.
    cfg.MODEL.DEPTH_HEAD.MAX_DEPTH = 10.0
    # r: before the backbone, images of h x w are resized to (h // 64 + r) * 64 by
    # (w // 64 + r) * 64. 0: not resized, but padded as the backbone asks for.
    cfg.MODEL.DEPTH_HEAD.RESIZE_SCALE = 1
    # Channels and kernel sizes (2, 3 or 4) of the transposed convolutions, each doubling the size.
    cfg.MODEL.DEPTH_HEAD.DECONV_DIMS = (32, 32, 32)
    cfg.MODEL.DEPTH_HEAD.DECONV_KERNELS = (2, 2, 2)
    # Channels of the convolutions behind them.
    cfg.MODEL.DEPTH_HEAD.CONVS_DIM = 192
    # Weight of the SILog loss.
    cfg.MODEL.DEPTH_HEAD.LOSS_WEIGHT = 1.0


def _add_input(cfg: CfgNode) -> None:
    # Training images fit the box (MAX_SIZE_TRAIN, MIN_SIZE_TRAIN[0]) times a factor drawn from
    # this range, aspect kept.
    cfg.INPUT.SCALE_RANGE = (0.5, 2.0)
    # A crop is drawn again (10 times) while one class covers a larger share than this.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.75
    # Brightness, contrast, saturation and hue distortion as in SSD.
    cfg.INPUT.COLOR_AUG_SSD = True


def _add_depth_input(cfg: CfgNode) -> None:
    # What `DepthMapper` does to training images besides INPUT.RANDOM_FLIP and INPUT.CROP.
    aug = cfg.INPUT.DEPTH_AUG = CfgNode()
    # Probability of CutDepth: a vertical strip of the image is overwritten with its depth.
    aug.CUT_DEPTH_PROB = 0.25
    # Metres that CutDepth pastes as 255, as is all that is farther.
    aug.CUT_DEPTH_MAX_DEPTH = 10.0
    # Paste the depth file's values modulo 256 instead, as the official code does.
    aug.CUT_DEPTH_WRAP_AROUND = False
    # n > 0: CutDepth for each n-th sample of a worker instead of CUT_DEPTH_PROB; the official code
    # has 4. The worker's count starts anew where a run is resumed.
    aug.CUT_DEPTH_EVERY = 0
    # Probability of v * (1 + c) + 255 * b, with b from +-BRIGHTNESS and c from +-CONTRAST.
    aug.BRIGHTNESS_CONTRAST_PROB = 0.5
    aug.BRIGHTNESS = 0.2
    aug.CONTRAST = 0.2
    # Probability of 255 * (v / 255) ** gamma, with gamma from GAMMA_RANGE.
    aug.GAMMA_PROB = 0.5
    aug.GAMMA_RANGE = (0.8, 1.2)
    # Probability of shifts by up to +-HUE (of 180), +-SATURATION and +-VALUE (of 255).
    aug.HSV_PROB = 0.5
    aug.HUE = 20.0
    aug.SATURATION = 30.0
    aug.VALUE = 20.0


def _add_heatmap_head(cfg: CfgNode) -> None:
    # Values default to ViTPose's recipe.
    head = cfg.MODEL.HEATMAP_HEAD = CfgNode()
    head.NAME = "DeconvHeatmapHead"
    # "deconv": transposed convolutions on IN_FEATURE, then one channel a joint. "prompts": every
    # joint reads prompts of its own of IN_FEATURE, a re-arranged map.
    head.WIRING = "deconv"
    # Feature that the head reads.
    head.IN_FEATURE = "p4"
    # Channels and kernel sizes (2, 3 or 4) of the transposed convolutions, each doubling the size.
    head.DECONV_DIMS = (256, 256)
    head.DECONV_KERNELS = (4, 4)
    # Pixels of the crop for one of the heatmaps.
    head.STRIDE = 4
    # Of the target's Gaussians, in pixels of the heatmaps.
    head.SIGMA = 2.0
    # Of the heatmaps: "mse", their mean squared error, or "cross_entropy" over a joint's places,
    # with which the heatmaps are a softmax; and its weight.
    head.LOSS = "mse"
    head.LOSS_WEIGHT = 1.0
    # Crops are padded to multiples of this, so that features have their true strides, and heatmaps
    # cut back; 0: of what the backbone asks for.
    head.SIZE_DIVISIBILITY = 64
    # Smoothing (odd, pixels) before heatmaps are decoded with sub-pixel accuracy, 11 for a SIGMA of
    # 2, 17 for 3; 0 takes the maximum as it is.
    head.BLUR_KERNEL = 11

    # Detector whose people are posed where images come without boxes: a Detectron2 config (a file,
    # or a name of its model zoo) and weights; "" = the whole image is one person.
    cfg.MODEL.PERSON_DETECTOR = CfgNode()
    cfg.MODEL.PERSON_DETECTOR.CONFIG_FILE = ""
    cfg.MODEL.PERSON_DETECTOR.WEIGHTS = ""
    # Number of the class "person", and the score from which detections are posed.
    cfg.MODEL.PERSON_DETECTOR.PERSON_CLASS = 0
    cfg.MODEL.PERSON_DETECTOR.SCORE_THRESH = 0.5


def _add_mapper(cfg: CfgNode) -> None:
    # Of DATASET_MAPPERS; "" = that of the meta-architecture.
    cfg.INPUT.DATASET_MAPPER_NAME = ""


def _add_pose_input(cfg: CfgNode) -> None:
    # Height and width of a person's crop in pixels, and the factor on the box that it shows.
    cfg.INPUT.PERSON_CROP = CfgNode()
    cfg.INPUT.PERSON_CROP.SIZE = (256, 192)
    cfg.INPUT.PERSON_CROP.PADDING = 1.25
    # What `PoseMapper` does to training crops besides INPUT.RANDOM_FLIP.
    aug = cfg.INPUT.POSE_AUG = CfgNode()
    # Probability of a shift by up to half of CENTER_JITTER times the box's sides.
    aug.CENTER_JITTER_PROB = 0.3
    aug.CENTER_JITTER = 0.4
    # Probability of a crop around the upper or the lower body, where more joints than these are
    # labelled; that of the upper one; and the factor on the box of its joints.
    aug.HALF_BODY_PROB = 0.3
    aug.HALF_BODY_MIN_JOINTS = 8
    aug.HALF_BODY_UPPER_PROB = 0.69
    aug.HALF_BODY_PADDING = 1.5
    # The extent is multiplied by 1 + SCALE * N(0, 1), within 1 +- SCALE.
    aug.SCALE = 0.5
    # Probability of a rotation by ROTATION * N(0, 1) degrees, within +- 2 ROTATION.
    aug.ROTATION_PROB = 0.6
    aug.ROTATION = 40.0


def _add_pose_test(cfg: CfgNode) -> None:
    # People of a file of detections: least score, and IoU above which the lower score is dropped
    # (1 drops nobody).
    cfg.TEST.POSE = CfgNode()
    cfg.TEST.POSE.BOX_SCORE_THRESH = 0.0
    cfg.TEST.POSE.BOX_NMS_THRESH = 1.0
    # Crops, mirrored ones not counted, that pass through the model at once.
    cfg.TEST.POSE.BATCH_SIZE = 64
    # Samples that a process takes from a test set at once.
    cfg.TEST.POSE.PEOPLE_PER_BATCH = 32
    # Return the averaged heatmaps as `pred_keypoint_heatmaps`.
    cfg.TEST.POSE.HEATMAPS = False
    # A person's score is the box's times the mean of its joints' scores above this.
    cfg.TEST.POSE.JOINT_SCORE_THRESH = 0.2
    # OKS above which the person of lower score is dropped (1 drops nobody).
    cfg.TEST.POSE.OKS_NMS_THRESH = 0.9


def _add_solver(cfg: CfgNode) -> None:
    # (regular expression, learning rate multiplier, weight decay multiplier): the first rule whose
    # expression is found in a parameter's name holds; 1, 1 where none is.
    cfg.SOLVER.PARAM_RULES = [
        [r"\.lora_", 1.0, 1.0],
        [r"\.unet\..*attentions\..*norm", 1.0, 0.0],
        [r"\.unet\.", 0.1, 1.0],
    ]
    # False gives no weight decay to parameters of one dimension (biases and norms).
    cfg.SOLVER.DECAY_VECTORS = True
    # Layer-wise decay of the UNet's learning rate: each block's is this times the next one's, on
    # top of PARAM_RULES; 1 = none.
    cfg.SOLVER.UNET_LAYER_DECAY = 1.0
    # Parts of IMS_PER_BATCH that are run one after the other before each update.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # "float16" (with loss scaling) or "bfloat16", where SOLVER.AMP.ENABLED.
    cfg.SOLVER.AMP.DTYPE = "float16"
    # Hold the weights of the VAE, and of a UNet that is frozen or has adapters, in DTYPE, too.
    cfg.SOLVER.AMP.CONVERT_FROZEN = False
    # Of the schedule "WarmupPolyLR": lr * (1 - iteration / MAX_ITER) ** power, and the share of
    # the base rate below which it doesn't fall.
    cfg.SOLVER.POLY_LR_POWER = 1.0
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # Of the schedule "RiseAndFallPolyLR", which has these two as well (the share of the base rate
    # is also where it begins): the share of MAX_ITER at which it reaches the base rate.
    cfg.SOLVER.LR_PEAK_AT = 0.5
    # For models that read only some of a backbone's features: several processes accept parameters
    # without a gradient, at the cost of looking for them in each iteration.
    cfg.SOLVER.FIND_UNUSED_PARAMETERS = False
    # Iterations between two lines of the log, of metrics.json and of TensorBoard.
    cfg.SOLVER.LOG_PERIOD = 20
    # Metric whose best checkpoint is kept as model_best.pth, "" = none; bigger is better for "max".
    cfg.SOLVER.BEST_METRIC = "sem_seg/mIoU"
    cfg.SOLVER.BEST_METRIC_MODE = "max"


def _add_ema(cfg: CfgNode) -> None:
    # Keep exponential moving averages of the trained weights, evaluate them, and save them beside
    # the weights. After n updates their decay is the least of DECAY and (1 + n) / (10 + n).
    cfg.SOLVER.EMA = CfgNode()
    cfg.SOLVER.EMA.ENABLED = False
    cfg.SOLVER.EMA.DECAY = 0.999


def _add_test(cfg: CfgNode) -> None:
    # Evaluate in overlapping windows whose logits are averaged.
    cfg.TEST.SLIDING_WINDOW = CfgNode()
    cfg.TEST.SLIDING_WINDOW.ENABLED = True
    cfg.TEST.SLIDING_WINDOW.SIZE = (1024, 1024)  # height, width
    cfg.TEST.SLIDING_WINDOW.STRIDE = (512, 512)  # height, width
    # Windows, of either kind and mirrored ones too, that pass through the model at once.
    cfg.TEST.SLIDING_WINDOW.BATCH_SIZE = 4
    # Depth: the average of this many square windows, shifted evenly along the longer side; 0 for
    # whole images. With Detectron2's TEST.AUG.ENABLED and TEST.AUG.FLIP, mirrored ones join in.
    cfg.TEST.SHIFTED_WINDOWS = CfgNode()
    cfg.TEST.SHIFTED_WINDOWS.COUNT = 0
    # Add windows where these end short of the border, as on KITTI; False predicts NaN there, as
    # the official code does.
    cfg.TEST.SHIFTED_WINDOWS.COVER_ALL = True
    # Draw which class is taken for which: OUTPUT_DIR/inference/<data set>/confusion_matrix.png.
    cfg.TEST.SEM_SEG_EVAL = CfgNode()
    cfg.TEST.SEM_SEG_EVAL.CONFUSION_MATRIX = False
    # Part of the frame on which depth is scored: "nyu", "garg", "eigen" or "none"; "" = the
    # dataset's own.
    cfg.TEST.DEPTH_EVAL = CfgNode()
    cfg.TEST.DEPTH_EVAL.CROP = ""
    # Write predictions as the KITTI benchmark takes them: 16-bit PNGs of metres * 256.
    cfg.TEST.DEPTH_EVAL.SAVE_PNG = False
    # Of Detectron2's TEST.AUG (ENABLED, FLIP, MIN_SIZES, MAX_SIZE), which averages dense
    # predictions over scales and mirror images: an entry 0 of MIN_SIZES is the image's own size,
    # and Detectron2's default there stands for the one scale of INPUT.MIN_SIZE_TEST.
    # Long sides that go with MIN_SIZES, one for each; () = MAX_SIZE for all.
    cfg.TEST.AUG.MAX_SIZES = ()
    # GiB of an image's predictions (classes x height x width x 4 bytes) above which they lie in the
    # main memory instead of on the GPU.
    cfg.TEST.CANVAS_GIB = 4.0
    # Images of each test set drawn with ground truth and prediction to OUTPUT_DIR/inference.
    cfg.TEST.NUM_PICTURES = 8


def _add_speed(cfg: CfgNode) -> None:
    cfg.MODEL.SPEED = CfgNode()
    # Keep images, maps and kernels with channels innermost: faster in half precision. Round-off
    # grows: on CPUs torch's GroupNorm is less exact in this layout.
    cfg.MODEL.SPEED.CHANNELS_LAST = False
    # Compile VAE encoder, UNet and re-arrangement: a mode of `torch.compile`, "default" or, with
    # CUDA graphs, "reduce-overhead"; "" = not compiled.
    cfg.MODEL.SPEED.COMPILE = ""
    # Inference on a CPU, where the model is not trained any more: kernels of VAE and UNet lie in
    # memory as oneDNN reads them, from the first image on and for images of its size.
    cfg.MODEL.SPEED.PACK_KERNELS = True
    # Inference in half precision: "bfloat16" or "float16", with the weights of VAE and UNet
    # converted once where the model is not trained any more.
    cfg.TEST.AMP = CfgNode()
    cfg.TEST.AMP.ENABLED = False
    cfg.TEST.AMP.DTYPE = "bfloat16"
    # Segmentation in windows: encode the whole image once and cut windows from its latent. Less
    # work where windows overlap, and other numbers: the encoder's norms and attention see more.
    cfg.TEST.SLIDING_WINDOW.SHARE_ENCODER = False
