"""`UniversalSegmentor`: its three outputs, their sizes, training on several backbones."""

import pytest
import torch
from detectron2.data import MetadataCatalog
from detectron2.modeling import SimpleFeaturePyramid, ViT, build_model
from detectron2.structures import BitMasks, Instances
from helpers import NUM_CLASSES, random_image, smallest_cfg
from mask2former_models import UNIVERSAL, tiny_head
from torch import nn

from metaprompt_d2.layers import resize
from metaprompt_d2.modeling import (
    DenseModelWithTTA,
    UniversalSegmentor,
    with_test_time_augmentation,
)
from metaprompt_d2.modeling.mask_classification import (
    best_instances,
    panoptic_segments,
    semantic_scores,
)
from metaprompt_d2.utils.errors import InputError

ALL_OUTPUTS = {
    "MODEL.MASK2FORMER.TEST.PANOPTIC_ON": True,
    "MODEL.MASK2FORMER.TEST.INSTANCE_ON": True,
    "MODEL.MASK2FORMER.TEST.OBJECT_MASK_THRESHOLD": 0.0,
    "MODEL.MASK2FORMER.TEST.OVERLAP_THRESHOLD": 0.1,
    "DATASETS.TRAIN": ("universal_test_set",),
}
RESNET = {
    "MODEL.BACKBONE.NAME": "build_resnet_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["res2", "res3", "res4", "res5"],
}
BACKBONES = {
    "prompt pyramid": {},
    "raw maps": {
        "MODEL.META_PROMPT.REARRANGE": "none",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["up3", "up4", "up5", "up6"],
    },
    "three maps": {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p3", "p4", "p5"]},
    "FPN on raw maps": {
        "MODEL.BACKBONE.NAME": "build_metaprompt_fpn_backbone",
        "MODEL.META_PROMPT.REARRANGE": "none",
        "MODEL.FPN.IN_FEATURES": ["up2", "up3", "up4", "up5", "up6"],
        "MODEL.FPN.OUT_CHANNELS": 8,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    },
    "ResNet": RESNET,
    "ResNet with FPN": RESNET
    | {
        "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.OUT_CHANNELS": 8,
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    },
}


@pytest.fixture(autouse=True)
def _things(empty_catalogs: None) -> None:
    MetadataCatalog.get("universal_test_set").thing_dataset_id_to_contiguous_id = {7: 0, 9: 3}


def _model(overrides: dict | None = None) -> nn.Module:
    return build_model(smallest_cfg(UNIVERSAL | (overrides or {})))


def _inputs(sizes: list[tuple[int, int]], segments: int = 3) -> list[dict]:
    return [
        {
            "image": random_image(*size),
            "instances": Instances(
                size,
                gt_classes=torch.randint(NUM_CLASSES, (segments,)),
                gt_masks=BitMasks(torch.rand(segments, *size) > 0.5),
            ),
        }
        for size in sizes
    ]


@pytest.mark.parametrize("backbone", list(BACKBONES))
def test_every_weight_learns_on_every_backbone(backbone: str) -> None:
    model = _model(BACKBONES[backbone]).train()
    losses = model(_inputs([(64, 64), (64, 96)]))
    assert len(losses) == 9
    sum(losses.values()).backward()
    without = {name for name, p in model.named_parameters() if p.requires_grad and p.grad is None}
    assert not {name for name in without if name.startswith("sem_seg_head")}
    model.eval()
    (output,) = model([{"image": random_image(70, 90), "height": 33, "width": 50}])
    assert output["sem_seg"].shape == (NUM_CLASSES, 33, 50)


def test_the_head_learns_on_detectron2s_vit() -> None:
    vit = ViT(img_size=64, embed_dim=8, depth=1, num_heads=2, use_rel_pos=False)
    pyramid = SimpleFeaturePyramid(vit, "last_feat", 8, (4.0, 2.0, 1.0, 0.5), square_pad=64)
    shapes = pyramid.output_shape()
    statistics = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
    head = tiny_head(input_shape=shapes, num_classes=NUM_CLASSES)
    model = UniversalSegmentor(backbone=pyramid, sem_seg_head=head, **statistics).train()
    sum(model(_inputs([(64, 64)])).values()).backward()
    assert all(parameter.grad is not None for parameter in head.parameters())
    (output,) = model.eval()([{"image": random_image(60, 50)}])
    assert output["sem_seg"].shape == (NUM_CLASSES, 60, 50)


@torch.no_grad()
def test_outputs_have_the_file_size_and_are_those_of_the_resized_masks() -> None:
    model = _model(ALL_OUTPUTS).eval()
    image = random_image(64, 96)
    (output,) = model([{"image": image, "height": 100, "width": 150}])
    classes, masks = model.predict_queries(image[None])
    masks = resize(masks, (100, 150))
    torch.testing.assert_close(output["sem_seg"], semantic_scores(classes, masks)[0])
    segments, infos = panoptic_segments(
        classes[0], masks[0], (0, 3), score_threshold=0.0, overlap_threshold=0.1
    )
    assert torch.equal(output["panoptic_seg"][0], segments)
    assert output["panoptic_seg"][1] == infos
    expected = best_instances(classes[0], masks[0], (0, 3), max_instances=100)
    assert output["instances"].image_size == (100, 150)
    assert torch.equal(output["instances"].pred_masks, expected.pred_masks)


@torch.no_grad()
def test_padding_of_a_batch_changes_neither_masks_nor_targets() -> None:
    """Masks of the smaller image are padded as it is, so that points lie on the same pixels."""
    model = _model().train()
    (small,) = _inputs([(64, 64)])
    padded = dict(small)
    padded["image"] = nn.functional.pad(small["image"], (0, 32))
    padded["instances"] = Instances(
        (64, 96),
        gt_classes=small["instances"].gt_classes,
        gt_masks=BitMasks(nn.functional.pad(small["instances"].gt_masks.tensor, (0, 32))),
    )
    (large,) = _inputs([(64, 96)])
    torch.manual_seed(1)
    expected = model([padded, large])
    torch.manual_seed(1)
    found = model([small, large])
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value)


@torch.no_grad()
def test_scores_are_averaged_over_windows() -> None:
    """The average of two windows that overlap, computed one by one."""
    windows = {
        "TEST.SLIDING_WINDOW.ENABLED": True,
        "TEST.SLIDING_WINDOW.SIZE": (64, 64),
        "TEST.SLIDING_WINDOW.STRIDE": (64, 32),
    }
    model = _model(windows).eval()
    image = random_image(64, 96)
    (found,) = model([{"image": image}])
    left, right = (model.predict_batch(image[None, ..., x : x + 64])[0] for x in (0, 32))
    expected = torch.cat(
        [left[..., :32], (left[..., 32:] + right[..., :32]) / 2, right[..., 32:]], dim=-1
    )
    torch.testing.assert_close(found["sem_seg"], expected, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_test_time_augmentation_averages_scores_without_a_softmax() -> None:
    flip = {"TEST.AUG.ENABLED": True, "TEST.AUG.FLIP": True}
    original_size = {"TEST.AUG.MIN_SIZES": (0,), "TEST.AUG.MAX_SIZES": (0,)}
    cfg = smallest_cfg(UNIVERSAL | flip | original_size)
    model = build_model(cfg).eval()
    wrapped = with_test_time_augmentation(cfg, model)
    assert isinstance(wrapped, DenseModelWithTTA)
    image = random_image(64, 96)
    (found,) = wrapped([{"image": image}])
    plain, mirrored = (model([{"image": view}])[0]["sem_seg"] for view in (image, image.flip(-1)))
    expected = (plain + mirrored.flip(-1)) / 2
    torch.testing.assert_close(found["sem_seg"], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@torch.no_grad()
def test_half_precision_gives_scores_of_float32(dtype: str) -> None:
    cfg = smallest_cfg(UNIVERSAL | {"TEST.AMP.ENABLED": True, "TEST.AMP.DTYPE": dtype})
    model = build_model(cfg).eval()
    image = random_image(64, 64)
    (found,) = model([{"image": image}])
    model.inference_dtype = None
    (expected,) = model([{"image": image}])
    assert found["sem_seg"].dtype == torch.float32
    difference = (found["sem_seg"] - expected["sem_seg"]).abs().mean()
    assert difference < 0.1 * expected["sem_seg"].std()


def test_predictions_that_are_not_finite_are_said(caplog: pytest.LogCaptureFixture) -> None:
    model = _model(ALL_OUTPUTS).eval()
    nn.init.constant_(model.sem_seg_head.decoders.class_predictor.weight, float("nan"))
    model([{"image": random_image(64, 64), "file_name": "street.png"}])
    assert "street.png: the prediction is NaN or infinite" in caplog.text


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"MODEL.MASK2FORMER.TEST.SEMANTIC_ON": False}, "nothing would be predicted"),
        (ALL_OUTPUTS | {"TEST.SLIDING_WINDOW.ENABLED": True}, "cannot be averaged"),
        (ALL_OUTPUTS | {"DATASETS.TRAIN": ("coco_2017_train",)}, "which classes are things"),
        ({"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["p2", "p3", "p7"]}, "is 'p7'"),
        ({"TEST.DETECTIONS_PER_IMAGE": 0}, "DETECTIONS_PER_IMAGE\\) is 0"),
    ],
)
def test_impossible_configs_are_refused(overrides: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _model(overrides)


def test_segments_have_no_test_time_augmentation() -> None:
    cfg = smallest_cfg(UNIVERSAL | ALL_OUTPUTS | {"TEST.AUG.ENABLED": True})
    with pytest.raises(InputError, match="TEST.AUG.ENABLED"):
        with_test_time_augmentation(cfg, build_model(cfg))


def test_training_inputs_without_segments_are_refused() -> None:
    with pytest.raises(InputError, match="lack 'instances'"):
        _model().train()([{"image": random_image(64, 64)}])
