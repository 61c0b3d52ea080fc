"""The data of the three tasks: loaders, augmentations, evaluators."""

import detectron2.data.transforms as T
from detectron2.config import LazyCall as L
from omegaconf import OmegaConf

from metaprompt_d2.data import (
    BrightnessContrast,
    ColorAugSSD,
    CropOfSeveralClasses,
    CutDepth,
    DepthMapper,
    Gamma,
    HalfBody,
    HueSaturationValue,
    JitterCenter,
    MirrorPerson,
    PadToSize,
    PoseMapper,
    RandomWindow,
    ResizeToBox,
    ScaleAndRotate,
    SemSegMapper,
    build_test_loader,
    build_train_loader,
    load_dataset_dicts,
)
from metaprompt_d2.evaluation import (
    CheckedSemSegEvaluator,
    DepthEvaluator,
    MergedEvaluators,
    PictureWriter,
    TopDownKeypointEvaluator,
)
from metaprompt_d2.modeling import DenseModelWithTTA


def loaders(train_mapper, test_mapper, total_batch_size):
    """A `dataloader` for data sets still to be named."""
    dataloader = OmegaConf.create(flags={"allow_objects": True})
    dataloader.train = L(build_train_loader)(
        dataset=L(load_dataset_dicts)(names=None),
        mapper=train_mapper,
        seed="${train.seed}",
        total_batch_size=total_batch_size,
        accumulation_steps="${train.accumulation_steps}",
        num_workers=4,
    )
    dataloader.test = L(build_test_loader)(
        dataset=L(load_dataset_dicts)(names=None), mapper=test_mapper, num_workers=4
    )
    return dataloader


def evaluators(kind, **arguments):
    """An evaluator and pictures, of the data set that is tested on."""
    place = dict(
        dataset_name="${dataloader.test.dataset.names}",
        output_dir="${train.output_dir}/inference/${dataloader.test.dataset.names}",
    )
    return L(MergedEvaluators)(
        evaluators=[L(kind)(**place, **arguments), L(PictureWriter)(**place, num_pictures=8)]
    )


sem_seg = loaders(
    L(SemSegMapper)(
        is_train=True,
        augmentations=[
            L(ResizeToBox)(long_side=2048, short_side=1024, scale_range=[0.5, 2.0]),
            L(CropOfSeveralClasses)(
                crop_type="absolute",
                crop_size=[1024, 1024],
                single_category_max_area=0.75,
                ignored_category=255,
            ),
            L(T.RandomFlip)(horizontal=True, vertical=False),
            L(ColorAugSSD)(image_format="RGB"),
            L(PadToSize)(size=[1024, 1024], pad_value="${model.pixel_mean}"),
        ],
        num_classes="${model.sem_seg_head.num_classes}",
    ),
    L(SemSegMapper)(
        is_train=False,
        augmentations=[L(ResizeToBox)(long_side=2048, short_side=1024)],
        num_classes="${model.sem_seg_head.num_classes}",
    ),
    total_batch_size=8,
)
sem_seg.evaluator = evaluators(CheckedSemSegEvaluator)

depth = loaders(
    L(DepthMapper)(
        is_train=True,
        augmentations=[
            L(T.RandomApply)(
                tfm_or_aug=L(CutDepth)(max_depth="${model.depth_head.max_depth}"), prob=0.25
            ),
            L(T.RandomFlip)(horizontal=True, vertical=False),
            L(RandomWindow)(size=[480, 480]),
            L(T.RandomApply)(
                tfm_or_aug=L(BrightnessContrast)(brightness=0.2, contrast=0.2), prob=0.5
            ),
            L(T.RandomApply)(tfm_or_aug=L(Gamma)(gamma_range=[0.8, 1.2]), prob=0.5),
            L(T.RandomApply)(
                tfm_or_aug=L(HueSaturationValue)(hue=20.0, saturation=30.0, value=20.0), prob=0.5
            ),
        ],
    ),
    L(DepthMapper)(is_train=False, augmentations=[]),
    total_batch_size=24,
)
depth.evaluator = evaluators(DepthEvaluator)

pose = loaders(
    L(PoseMapper)(
        is_train=True,
        codec="${model.codec}",
        augmentations=[
            L(JitterCenter)(probability=0.3, amount=0.4),
            L(MirrorPerson)(),
            L(HalfBody)(probability=0.3, min_keypoints=8, upper_probability=0.69, padding=1.5),
            L(ScaleAndRotate)(scale=0.5, rotation=40.0, rotation_probability=0.6),
        ],
        padding="${model.padding}",
    ),
    L(PoseMapper)(
        is_train=False,
        codec="${model.codec}",
        augmentations=[],
        padding="${model.padding}",
        test_batch_size=32,
    ),
    total_batch_size=512,
)
pose.evaluator = evaluators(TopDownKeypointEvaluator)


def multi_scale(boxes):
    """A `tta`: predictions averaged over scales and their mirror images, where it is enabled."""
    num_channels = "${model.sem_seg_head.num_classes}"
    model = L(DenseModelWithTTA)(boxes=boxes, flip=True, num_channels=num_channels)
    return dict(enabled=False, model=model)
