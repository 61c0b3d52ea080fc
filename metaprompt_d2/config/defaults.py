"""Config keys of this package, with their defaults.

The comment above each key is its documentation. `python docs/make_config.py` makes docs/config.md
from the comments; "# ##" starts a section.
"""

from detectron2.config import CfgNode, get_cfg
from detectron2.projects.deeplab import add_deeplab_config
from detectron2.projects.point_rend import add_pointrend_config


def add_metaprompt_config(cfg: CfgNode) -> None:
    """Add this package's keys to a Detectron2 config, in place; keys that it has stay as they are.

    The keys of Detectron2's DeepLab and PointRend are added as well: their heads run on this
    backbone, and their schedule and augmentations are used here. Functions of other projects may
    be called before or after this one.
    """
    _add_absent(_defaults(), cfg)


def _add_absent(source: CfgNode, target: CfgNode) -> None:
    for key, value in source.items():
        if key not in target:
            setattr(target, key, value)
        elif isinstance(value, CfgNode) and isinstance(target[key], CfgNode):
            _add_absent(value, target[key])


def _defaults() -> CfgNode:
    cfg = get_cfg()
    add_deeplab_config(cfg)
    add_pointrend_config(cfg)

    # ## Stable Diffusion: which weights to start from, and what is trained
    cfg.MODEL.DIFFUSION = CfgNode()
    # Stable Diffusion weights to start from: a folder in diffusers' layout (`unet/`, `vae/`), the
    # owner/name of such a folder on the Hugging Face hub, or one .safetensors or .ckpt file in
    # CompVis' layout. "" starts from random weights. The weights are not opened if MODEL.WEIGHTS
    # or --resume gives a whole checkpoint. "metaprompt_d2://" is the folder `configs`.
    cfg.MODEL.DIFFUSION.WEIGHTS = ""
    # True takes UNET.* and VAE.* from WEIGHTS: from the folder's config or the tensors' shapes.
    cfg.MODEL.DIFFUSION.SIZES_FROM_WEIGHTS = False
    # True refuses WEIGHTS that lack a tensor. False warns, and the tensor starts at random.
    cfg.MODEL.DIFFUSION.STRICT = True
    # Beginnings of names of tensors that MODEL.WEIGHTS may have in another shape, for a training
    # on other classes: ("sem_seg_head.predictor", "sem_seg_head.aux_head.2"). They start at
    # random, and the log lists them. () refuses other shapes. Inference and --resume always do.
    cfg.MODEL.SKIP_MISMATCHES = ()
    # True trains only the prompts, the step embeddings and the heads.
    cfg.MODEL.DIFFUSION.FREEZE_UNET = False
    # True recomputes the UNet's activations in the backward pass: less memory, a third more time.
    cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING = False
    # Levels of the UNet whose activations are recomputed; 0 is the finest and takes the most
    # memory. () recomputes all levels.
    cfg.MODEL.DIFFUSION.GRADIENT_CHECKPOINTING_LEVELS = ()

    # ## Sizes of the diffusion networks; the defaults are those of Stable Diffusion 1.5
    cfg.MODEL.DIFFUSION.UNET = CfgNode()
    # Channels of the UNet's levels, from fine to coarse.
    cfg.MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS = (320, 640, 1280, 1280)
    # Residual blocks per level of the UNet's encoder. The decoder has one more per level.
    cfg.MODEL.DIFFUSION.UNET.LAYERS_PER_BLOCK = 2
    # Width of the prompts. Stable Diffusion 2 has 1024.
    cfg.MODEL.DIFFUSION.UNET.CROSS_ATTENTION_DIM = 768
    # Attention heads of every level.
    cfg.MODEL.DIFFUSION.UNET.NUM_HEADS = 8
    # Attention heads level by level; () uses NUM_HEADS. Stable Diffusion 2 has (5, 10, 20, 20).
    cfg.MODEL.DIFFUSION.UNET.NUM_HEADS_PER_LEVEL = ()
    # Groups of every group norm in the UNet. All widths must be multiples of it.
    cfg.MODEL.DIFFUSION.UNET.NORM_NUM_GROUPS = 32
    # True puts linear layers around the transformers (Stable Diffusion 2), False 1x1 convolutions.
    cfg.MODEL.DIFFUSION.UNET.LINEAR_PROJECTION = False
    cfg.MODEL.DIFFUSION.VAE = CfgNode()
    # Channels of the VAE's levels, from fine to coarse. Every level but the last halves the size.
    cfg.MODEL.DIFFUSION.VAE.BLOCK_OUT_CHANNELS = (128, 256, 512, 512)
    # Residual blocks per level of the VAE.
    cfg.MODEL.DIFFUSION.VAE.LAYERS_PER_BLOCK = 2
    # Channels of the latent.
    cfg.MODEL.DIFFUSION.VAE.LATENT_CHANNELS = 4
    # Groups of every group norm in the VAE. All widths must be multiples of it.
    cfg.MODEL.DIFFUSION.VAE.NORM_NUM_GROUPS = 32

    # ## Meta prompts, refinement and the features of the backbone
    cfg.MODEL.META_PROMPT = CfgNode()
    # Meta prompts per set, and channels of every rearranged feature.
    cfg.MODEL.META_PROMPT.NUM_PROMPTS = 150
    # True gives every refinement step its own prompts and adapter; False shares one set.
    cfg.MODEL.META_PROMPT.PER_STEP = False
    # True passes the prompts through a two-layer MLP.
    cfg.MODEL.META_PROMPT.ADAPTER = False
    # Recurrent refinement steps: passes through the UNet.
    cfg.MODEL.META_PROMPT.REFINE_STEPS = 3
    # Features: "pyramid" (p2 to p5), "fused" (p3) or "none" (the raw decoder maps, up3 to up6).
    cfg.MODEL.META_PROMPT.REARRANGE = "pyramid"
    # Output features; () for all. List only what the head reads: DDP rejects unused parameters, and
    # the last step stops at the finest of these features.
    cfg.MODEL.META_PROMPT.OUT_FEATURES = ()
    # Groups of the group norms in the rearrangement.
    cfg.MODEL.META_PROMPT.NORM_NUM_GROUPS = 16
    # Channels inside the transposed convolutions of "fused".
    cfg.MODEL.META_PROMPT.DECONV_CHANNELS = 32

    # ## LoRA: low-rank adapters, W + ALPHA / RANK * B A, trained instead of the UNet's weights
    cfg.MODEL.DIFFUSION.LORA = CfgNode()
    # Rank of the adapters; 0 for no adapters. Others need the package peft.
    cfg.MODEL.DIFFUSION.LORA.RANK = 0
    # Scale of the adapters, divided by RANK.
    cfg.MODEL.DIFFUSION.LORA.ALPHA = 16
    # Suffixes of the layer names to adapt (default: attention projections).
    cfg.MODEL.DIFFUSION.LORA.TARGETS = ("to_q", "to_k", "to_v", "to_out.0")

    # ## Speed
    cfg.MODEL.SPEED = CfgNode()
    # True stores images, feature maps and weights with channels last, which is faster in half
    # precision. Round-off errors grow: on CPUs, torch's GroupNorm is less exact in this layout.
    cfg.MODEL.SPEED.CHANNELS_LAST = False
    # Mode of torch.compile for the VAE encoder, the UNet and the rearrangement: "default",
    # "reduce-overhead" (with CUDA graphs), "max-autotune" or "max-autotune-no-cudagraphs". ""
    # doesn't compile.
    cfg.MODEL.SPEED.COMPILE = ""
    # True reorders the half-precision convolution weights of VAE and UNet for oneDNN: for inference
    # on a CPU, if the model is not compiled. It happens when the first image arrives, for images of
    # its size.
    cfg.MODEL.SPEED.PACK_KERNELS = True
    # True also reorders float32 weights. Round-off errors grow on some CPUs (docs/performance.md).
    cfg.MODEL.SPEED.PACK_FLOAT32_KERNELS = False

    # ## Segmentation: `UPerHead`
    # Grid sizes of the pyramid pooling module.
    cfg.MODEL.SEM_SEG_HEAD.POOL_SCALES = (1, 2, 3, 6)
    # Probability of dropping a channel before the classifier.
    cfg.MODEL.SEM_SEG_HEAD.DROPOUT = 0.1
    # Weight of the Lovasz-Softmax loss. LOSS_WEIGHT is the weight of the cross-entropy.
    cfg.MODEL.SEM_SEG_HEAD.LOVASZ_LOSS_WEIGHT = 1.0
    # Feature that the auxiliary FCN head reads.
    cfg.MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE = "p4"
    # Weight of the auxiliary head's cross-entropy; 0 for no auxiliary head.
    cfg.MODEL.SEM_SEG_HEAD.AUX_LOSS_WEIGHT = 0.4

    # ## Universal segmentation: `UniversalSegmentor` and `Mask2FormerHead`
    #
    # The defaults are the published ones (Mask2Former, arXiv 2112.01527). Classes, ignored labels
    # and input features stand under MODEL.SEM_SEG_HEAD.
    cfg.MODEL.MASK2FORMER = CfgNode()
    # Number of queries: the most segments that an image can have.
    cfg.MODEL.MASK2FORMER.NUM_OBJECT_QUERIES = 100
    # Channels of the pixel decoder.
    cfg.MODEL.MASK2FORMER.CONVS_DIM = 256
    # Channels of the maps that are multiplied with the queries to masks.
    cfg.MODEL.MASK2FORMER.MASK_DIM = 256
    # Channels of the queries.
    cfg.MODEL.MASK2FORMER.HIDDEN_DIM = 256
    # Heads of every attention.
    cfg.MODEL.MASK2FORMER.NHEADS = 8
    # Layers of deformable attention in the pixel decoder.
    cfg.MODEL.MASK2FORMER.ENC_LAYERS = 6
    # Hidden channels of their feed-forward networks.
    cfg.MODEL.MASK2FORMER.ENC_DIM_FEEDFORWARD = 1024
    # Predictions of the transformer decoder: one before its first layer, one after each.
    cfg.MODEL.MASK2FORMER.DEC_LAYERS = 10
    # Hidden channels of the feed-forward networks of the transformer decoder.
    cfg.MODEL.MASK2FORMER.DIM_FEEDFORWARD = 2048
    # True computes the losses of all predictions of the decoder, False those of the last one.
    cfg.MODEL.MASK2FORMER.DEEP_SUPERVISION = True
    # Weight of the classes' cross-entropy, in the loss and in the matching of queries.
    cfg.MODEL.MASK2FORMER.CLASS_WEIGHT = 2.0
    # Weight of the masks' cross-entropy, likewise.
    cfg.MODEL.MASK2FORMER.MASK_WEIGHT = 5.0
    # Weight of the masks' Dice loss, likewise.
    cfg.MODEL.MASK2FORMER.DICE_WEIGHT = 5.0
    # Weight of "no object" among the classes.
    cfg.MODEL.MASK2FORMER.NO_OBJECT_WEIGHT = 0.1
    # Points of a mask at which its losses are computed.
    cfg.MODEL.MASK2FORMER.TRAIN_NUM_POINTS = 12544
    # Random points from which the uncertain ones are chosen, as a multiple of TRAIN_NUM_POINTS.
    cfg.MODEL.MASK2FORMER.OVERSAMPLE_RATIO = 3.0
    # Share of the points that are uncertain; the rest is random.
    cfg.MODEL.MASK2FORMER.IMPORTANCE_SAMPLE_RATIO = 0.75
    cfg.MODEL.MASK2FORMER.TEST = CfgNode()
    # True predicts "sem_seg": a score for each class and pixel.
    cfg.MODEL.MASK2FORMER.TEST.SEMANTIC_ON = True
    # True predicts "panoptic_seg": one segment for each pixel.
    cfg.MODEL.MASK2FORMER.TEST.PANOPTIC_ON = False
    # True predicts "instances": the TEST.DETECTIONS_PER_IMAGE best masks.
    cfg.MODEL.MASK2FORMER.TEST.INSTANCE_ON = False
    # Least score of the queries that take part in "panoptic_seg".
    cfg.MODEL.MASK2FORMER.TEST.OBJECT_MASK_THRESHOLD = 0.8
    # Least share of a mask that must remain visible in "panoptic_seg".
    cfg.MODEL.MASK2FORMER.TEST.OVERLAP_THRESHOLD = 0.8

    # ## Depth: `DepthEstimator` and its head; the defaults are those of the NYU Depth v2 recipe
    cfg.MODEL.DEPTH_HEAD = CfgNode()
    # Registered name of the depth head.
    cfg.MODEL.DEPTH_HEAD.NAME = "DeconvDepthHead"
    # Feature that the head reads.
    cfg.MODEL.DEPTH_HEAD.IN_FEATURE = "p3"
    # Largest depth in meters: the head's sigmoid is multiplied by it.
    cfg.MODEL.DEPTH_HEAD.MAX_DEPTH = 10.0
    # Enlargement r of the images: h x w pixels become (h // 64 + r) * 64 by (w // 64 + r) * 64. 0
    # doesn't resize the images, but pads them as the backbone requires.
    cfg.MODEL.DEPTH_HEAD.RESIZE_SCALE = 1
    # Channels of the transposed convolutions. Each of them doubles the size.
    cfg.MODEL.DEPTH_HEAD.DECONV_DIMS = (32, 32, 32)
    # Kernel sizes of the transposed convolutions: 2, 3 or 4 for each.
    cfg.MODEL.DEPTH_HEAD.DECONV_KERNELS = (2, 2, 2)
    # Channels of the convolutions after them.
    cfg.MODEL.DEPTH_HEAD.CONVS_DIM = 192
    # Weight of the SILog loss.
    cfg.MODEL.DEPTH_HEAD.LOSS_WEIGHT = 1.0

    # ## Pose: the heatmap head; the defaults are those of ViTPose's recipe
    cfg.MODEL.HEATMAP_HEAD = CfgNode()
    # Registered name of the heatmap head.
    cfg.MODEL.HEATMAP_HEAD.NAME = "DeconvHeatmapHead"
    # How heatmaps are made from IN_FEATURE: "deconv" by transposed convolutions and one output
    # channel per keypoint; "prompts" from the responses to prompts that belong to one keypoint.
    # "prompts" needs a rearranged feature. Of P prompts, each of J keypoints then has P // J, in
    # order; the last P % J belong to no keypoint and take part in the attention alone.
    cfg.MODEL.HEATMAP_HEAD.WIRING = "deconv"
    # Feature that the head reads.
    cfg.MODEL.HEATMAP_HEAD.IN_FEATURE = "p4"
    # Channels of the transposed convolutions. Each of them doubles the size.
    cfg.MODEL.HEATMAP_HEAD.DECONV_DIMS = (256, 256)
    # Kernel sizes of the transposed convolutions: 2, 3 or 4 for each.
    cfg.MODEL.HEATMAP_HEAD.DECONV_KERNELS = (4, 4)
    # Stride of the heatmaps: pixels of the crop per pixel of a heatmap.
    cfg.MODEL.HEATMAP_HEAD.STRIDE = 4
    # Standard deviation of the target Gaussians, in pixels of the heatmaps.
    cfg.MODEL.HEATMAP_HEAD.SIGMA = 2.0
    # Loss: "mse", or "cross_entropy" over the positions, which predicts heatmaps by a softmax.
    cfg.MODEL.HEATMAP_HEAD.LOSS = "mse"
    # Weight of the loss.
    cfg.MODEL.HEATMAP_HEAD.LOSS_WEIGHT = 1.0
    # Weight of each keypoint in the loss; () weighs all the same. The loss "mse" grows with the
    # weights; for "cross_entropy" only their ratios matter.
    cfg.MODEL.HEATMAP_HEAD.KEYPOINT_WEIGHTS = ()
    # Crops are padded to multiples of this many pixels, so that features have their nominal
    # strides, and the heatmaps are cropped back. 0 pads only as the backbone requires.
    cfg.MODEL.HEATMAP_HEAD.SIZE_DIVISIBILITY = 64
    # Odd size of the Gaussian filter for sub-pixel decoding: 11 pixels for a SIGMA of 2, 17 for 3,
    # 37 for 6. 0 takes the position of the maximum.
    cfg.MODEL.HEATMAP_HEAD.BLUR_KERNEL = 11

    # ## Pose: the detector used when no boxes are given
    cfg.MODEL.PERSON_DETECTOR = CfgNode()
    # Detectron2 config of the detector: a file, or a name in Detectron2's model zoo. "" takes the
    # whole image as one person.
    cfg.MODEL.PERSON_DETECTOR.CONFIG_FILE = ""
    # Weights of the detector: a file, or a URL. "" downloads those of the model zoo at first use.
    cfg.MODEL.PERSON_DETECTOR.WEIGHTS = ""
    # Class of the detector, as its name or index, for each of the dataset's "thing_classes". ()
    # takes the classes of the same names; others aren't found.
    cfg.MODEL.PERSON_DETECTOR.CLASSES = ()
    # Index of the detector's class for a dataset of one category, if CLASSES is (). 0 counts only
    # where the names of the detector's classes aren't known.
    cfg.MODEL.PERSON_DETECTOR.PERSON_CLASS = 0
    # Least score of the detections that are used.
    cfg.MODEL.PERSON_DETECTOR.SCORE_THRESH = 0.5

    # ## Input: mappers, and augmentation for segmentation
    # Registered name of the dataset mapper; "" for the default of the meta-architecture.
    cfg.INPUT.DATASET_MAPPER_NAME = ""
    # Largest number of pixels of an image or label map; larger ones are refused, because a small
    # file can claim a huge size. 0 keeps Pillow's limit of 178956970.
    cfg.INPUT.MAX_IMAGE_PIXELS = 0
    # Range of a random scale. Training images are resized, keeping their aspect ratio, to fit the
    # box (MAX_SIZE_TRAIN, MIN_SIZE_TRAIN[0]) times the scale.
    cfg.INPUT.SCALE_RANGE = (0.5, 2.0)
    # Largest share of one class in a crop. Crops with more are drawn again, up to 10 times.
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 1.0
    # True changes brightness, contrast, saturation and hue as in SSD.
    cfg.INPUT.COLOR_AUG_SSD = False

    # ## Input: augmentation for depth, besides INPUT.RANDOM_FLIP and INPUT.CROP
    cfg.INPUT.DEPTH_AUG = CfgNode()
    # Probability of CutDepth, which overwrites a vertical strip of the image with its depth.
    cfg.INPUT.DEPTH_AUG.CUT_DEPTH_PROB = 0.25
    # Depth in meters that CutDepth pastes as 255; larger depths are pasted as 255 too.
    cfg.INPUT.DEPTH_AUG.CUT_DEPTH_MAX_DEPTH = 10.0
    # True pastes the depth file's values modulo 256, as the official code does.
    cfg.INPUT.DEPTH_AUG.CUT_DEPTH_WRAP_AROUND = False
    # n > 0 applies CutDepth to every n-th sample of a worker, instead of using CUT_DEPTH_PROB. The
    # official code uses 4. The count starts again when a run is resumed.
    cfg.INPUT.DEPTH_AUG.CUT_DEPTH_EVERY = 0
    # Probability of changing a value v to v * (1 + c) + 255 * b.
    cfg.INPUT.DEPTH_AUG.BRIGHTNESS_CONTRAST_PROB = 0.5
    # b is drawn from -BRIGHTNESS to BRIGHTNESS.
    cfg.INPUT.DEPTH_AUG.BRIGHTNESS = 0.2
    # c is drawn from -CONTRAST to CONTRAST.
    cfg.INPUT.DEPTH_AUG.CONTRAST = 0.2
    # Probability of changing a value v to 255 * (v / 255) ** gamma.
    cfg.INPUT.DEPTH_AUG.GAMMA_PROB = 0.5
    # gamma is drawn from this range.
    cfg.INPUT.DEPTH_AUG.GAMMA_RANGE = (0.8, 1.2)
    # Probability of shifting hue, saturation and value.
    cfg.INPUT.DEPTH_AUG.HSV_PROB = 0.5
    # Largest shift of the hue, of 180.
    cfg.INPUT.DEPTH_AUG.HUE = 20.0
    # Largest shift of the saturation, of 255.
    cfg.INPUT.DEPTH_AUG.SATURATION = 30.0
    # Largest shift of the value, of 255.
    cfg.INPUT.DEPTH_AUG.VALUE = 20.0

    # ## Input: crops and augmentation for pose, besides INPUT.RANDOM_FLIP
    cfg.INPUT.PERSON_CROP = CfgNode()
    # Size of a person's crop as (height, width) in pixels: multiples of MODEL.HEATMAP_HEAD.STRIDE.
    cfg.INPUT.PERSON_CROP.SIZE = (256, 192)
    # Factor by which the crop is larger than the person's box.
    cfg.INPUT.PERSON_CROP.PADDING = 1.25
    cfg.INPUT.POSE_AUG = CfgNode()
    # Probability of shifting the crop.
    cfg.INPUT.POSE_AUG.CENTER_JITTER_PROB = 0.3
    # The shift is at most half of this times the sides of the box.
    cfg.INPUT.POSE_AUG.CENTER_JITTER = 0.4
    # Probability of cropping to the upper or the lower body, for datasets with
    # keypoint_upper_body in their metadata.
    cfg.INPUT.POSE_AUG.HALF_BODY_PROB = 0.3
    # Only people with more labeled keypoints than this are cropped to half of the body.
    cfg.INPUT.POSE_AUG.HALF_BODY_MIN_JOINTS = 8
    # Probability that the half is the upper one.
    cfg.INPUT.POSE_AUG.HALF_BODY_UPPER_PROB = 0.69
    # Factor by which the crop is larger than the box around the keypoints of the half.
    cfg.INPUT.POSE_AUG.HALF_BODY_PADDING = 1.5
    # The size of the crop is multiplied by 1 + SCALE * N(0, 1), limited to 1 - SCALE to 1 + SCALE.
    cfg.INPUT.POSE_AUG.SCALE = 0.5
    # Probability of rotating the crop.
    cfg.INPUT.POSE_AUG.ROTATION_PROB = 0.6
    # The crop is rotated by ROTATION * N(0, 1) degrees, limited to twice ROTATION either way.
    cfg.INPUT.POSE_AUG.ROTATION = 40.0

    # ## Training
    # Rules (regular expression, learning rate multiplier, weight decay multiplier). A parameter
    # follows the first rule whose expression is found in its name; without a rule both are 1. They
    # multiply BASE_LR and WEIGHT_DECAY, or what Detectron2's keys put in their place for norms and
    # biases: WEIGHT_DECAY_NORM (None, as in the recipes, for WEIGHT_DECAY), WEIGHT_DECAY_BIAS and
    # BIAS_LR_FACTOR.
    cfg.SOLVER.PARAM_RULES = [
        [r"\.lora_", 1.0, 1.0],
        [r"\.unet\..*attentions\..*norm", 1.0, 0.0],
        [r"\.unet\.", 0.1, 1.0],
    ]
    # False applies no weight decay to parameters of one dimension (biases and norms), whatever
    # their rule; WEIGHT_DECAY_NORM and WEIGHT_DECAY_BIAS must then be 0 or None.
    cfg.SOLVER.DECAY_VECTORS = True
    # Layer-wise decay of the UNet's learning rates: each block's rate is this times the next one's,
    # on top of PARAM_RULES. 1 for no decay.
    cfg.SOLVER.UNET_LAYER_DECAY = 1.0
    # Parts of a batch of IMS_PER_BATCH images, whose gradients are accumulated before an update.
    cfg.SOLVER.ACCUMULATION_STEPS = 1
    # Type of mixed precision if SOLVER.AMP.ENABLED: "float16" (with loss scaling) or "bfloat16".
    cfg.SOLVER.AMP.DTYPE = "float16"
    # True stores frozen weights in SOLVER.AMP.DTYPE: those of the VAE, and those of the UNet if it
    # is frozen or has adapters. Needs SOLVER.AMP.ENABLED.
    cfg.SOLVER.AMP.CONVERT_FROZEN = False
    # Power of polynomial schedules; "WarmupPolyLR": BASE_LR * (1 - iteration / MAX_ITER) ** power.
    cfg.SOLVER.POLY_LR_POWER = 0.9
    # Smallest learning rate as a share of BASE_LR. "RiseAndFallPolyLR" also starts from it.
    cfg.SOLVER.POLY_LR_CONSTANT_ENDING = 0.0
    # Share of MAX_ITER after which "RiseAndFallPolyLR" reaches BASE_LR.
    cfg.SOLVER.LR_PEAK_AT = 0.5
    # True lets several processes train a model that reads only some of the backbone's features. It
    # costs a search for parameters without a gradient in every iteration.
    cfg.SOLVER.FIND_UNUSED_PARAMETERS = False
    # Iterations between two entries in the log, in metrics.json and in TensorBoard.
    cfg.SOLVER.LOG_PERIOD = 20
    # Metric whose best checkpoint is kept as model_best.pth; "" keeps none. With several test sets
    # "<dataset>/<task>/<metric>" names one of them, and "<task>/<metric>" means the first.
    cfg.SOLVER.BEST_METRIC = "sem_seg/mIoU"
    # "max" if a larger BEST_METRIC is better, "min" if a smaller one is.
    cfg.SOLVER.BEST_METRIC_MODE = "max"
    cfg.SOLVER.EMA = CfgNode()
    # True keeps exponential moving averages (EMA) of the trained weights, evaluates with them and
    # saves them in checkpoints next to the weights.
    cfg.SOLVER.EMA.ENABLED = False
    # Decay of the averages in [0, 1); after n updates at most (1 + n) / (10 + n).
    cfg.SOLVER.EMA.DECAY = 0.999

    # ## Evaluation
    #
    # Detectron2's TEST.AUG (ENABLED, FLIP, MIN_SIZES, MAX_SIZE) averages dense predictions over
    # scales and mirrored images. A 0 in MIN_SIZES is the size of the image itself, and Detectron2's
    # default of MIN_SIZES stands for the one scale INPUT.MIN_SIZE_TEST.

    # Long side in pixels for each entry of MIN_SIZES; () uses MAX_SIZE for all.
    cfg.TEST.AUG.MAX_SIZES = ()
    cfg.TEST.AMP = CfgNode()
    # True predicts in half precision. After the training, VAE and UNet are converted once.
    cfg.TEST.AMP.ENABLED = False
    # Type of half precision: "bfloat16" or "float16".
    cfg.TEST.AMP.DTYPE = "bfloat16"
    # Images per test set to draw with ground truth and prediction to OUTPUT_DIR/inference.
    cfg.TEST.NUM_PICTURES = 8
    # GiB of an image's predictions (classes x height x width x 4 bytes) above which they are kept
    # in main memory instead of on the GPU.
    cfg.TEST.CANVAS_GIB = 4.0
    cfg.TEST.SEM_SEG_EVAL = CfgNode()
    # True draws the confusion matrix to OUTPUT_DIR/inference/<dataset>/confusion_matrix.png.
    cfg.TEST.SEM_SEG_EVAL.CONFUSION_MATRIX = False
    cfg.TEST.DEPTH_EVAL = CfgNode()
    # Part of the image that is scored: "nyu", "garg", "eigen" or "none"; "" for the dataset's own.
    cfg.TEST.DEPTH_EVAL.CROP = ""
    # True writes depth in the format of the KITTI benchmark: 16-bit PNGs of meters * 256.
    cfg.TEST.DEPTH_EVAL.SAVE_PNG = False

    # ## Evaluation in windows
    cfg.TEST.SLIDING_WINDOW = CfgNode()
    # True predicts segmentation in overlapping windows and averages their logits.
    cfg.TEST.SLIDING_WINDOW.ENABLED = True
    # Size of a window as (height, width) in pixels.
    cfg.TEST.SLIDING_WINDOW.SIZE = (1024, 1024)
    # Step between two windows as (height, width) in pixels; at most SIZE.
    cfg.TEST.SLIDING_WINDOW.STRIDE = (512, 512)
    # Windows per batch (sliding or shifted, flips included).
    cfg.TEST.SLIDING_WINDOW.BATCH_SIZE = 4
    # True encodes the whole image once and cuts the windows from its latent, which saves work where
    # they overlap. Predictions differ: the encoder's norms and attention see the whole image.
    cfg.TEST.SLIDING_WINDOW.SHARE_ENCODER = False
    cfg.TEST.SHIFTED_WINDOWS = CfgNode()
    # Depth is averaged over this many square windows, shifted evenly along the longer side. 0
    # predicts whole images. TEST.AUG.ENABLED with TEST.AUG.FLIP adds mirrored windows.
    cfg.TEST.SHIFTED_WINDOWS.COUNT = 0
    # True adds windows where the evenly shifted ones don't reach the border, as on KITTI. False, as
    # in the official code, predicts NaN there.
    cfg.TEST.SHIFTED_WINDOWS.COVER_ALL = True

    # ## Evaluation of pose
    cfg.TEST.POSE = CfgNode()
    # Least score of the detected people that are posed.
    cfg.TEST.POSE.BOX_SCORE_THRESH = 0.0
    # IoU of two boxes above which the one of lower score is dropped; 1 drops none.
    cfg.TEST.POSE.BOX_NMS_THRESH = 1.0
    # Crops per batch; mirrored crops are not counted.
    cfg.TEST.POSE.BATCH_SIZE = 64
    # Samples of a test set that each process loads per batch.
    cfg.TEST.POSE.PEOPLE_PER_BATCH = 32
    # True returns the averaged heatmaps as `pred_keypoint_heatmaps`.
    cfg.TEST.POSE.HEATMAPS = False
    # A person's score is the score of the box times the mean score of the keypoints above this.
    cfg.TEST.POSE.JOINT_SCORE_THRESH = 0.2
    # OKS of two people above which the one of lower score is dropped; 1 drops none.
    cfg.TEST.POSE.OKS_NMS_THRESH = 0.9

    return cfg
