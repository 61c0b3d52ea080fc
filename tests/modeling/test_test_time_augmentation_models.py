"""Test-time augmentation of models of others: right, or refused by name."""

from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import CfgNode
from detectron2.modeling import GeneralizedRCNN, SemanticSegmentor, build_model
from helpers import random_image, smallest_cfg
from PIL import Image
from pose_files import smallest_pose_cfg
from scaled_images import scaled
from torch import Tensor, nn

from metaprompt_d2.data import build_mapper
from metaprompt_d2.engine import Trainer
from metaprompt_d2.modeling import ConfigurableFCOS, DenseModel, with_test_time_augmentation
from metaprompt_d2.utils.errors import InputError

AUG = {
    "TEST.AUG.ENABLED": True,
    "TEST.AUG.MIN_SIZES": (64, 0, 100),
    "TEST.AUG.MAX_SIZES": (96, 0, 200),
}
BOXES = [(96, 64), None, (200, 100)]


class _Mapped(nn.Module):
    """A backbone of stride 1 that passes the image on."""

    size_divisibility, padding_constraints = 0, {}

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"p2": images}


class _Affine(nn.Module):
    """A head of any number of channels: multiples of the brightness and of the column."""

    ignore_value = 255

    def __init__(self, num_channels: int):
        super().__init__()
        self.factors = torch.linspace(1, 3, num_channels)[:, None, None]

    def forward(self, features: dict[str, Tensor], targets: None = None) -> tuple[Tensor, dict]:
        (image,) = features.values()
        columns = torch.arange(image.shape[-1]) / image.shape[-1]
        return image.mean(dim=1, keepdim=True) * self.factors * columns, {}


def detectron2s(num_channels: int) -> SemanticSegmentor:
    statistics = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
    head = _Affine(num_channels)
    return SemanticSegmentor(backbone=_Mapped(), sem_seg_head=head, **statistics).eval()


def own_cfg(num_classes: int) -> CfgNode:
    keys = {
        "MODEL.META_ARCHITECTURE": "SemanticSegmentor",
        "MODEL.SEM_SEG_HEAD.NUM_CLASSES": num_classes,
        "INPUT.MIN_SIZE_TEST": 48,
    }
    return smallest_cfg(AUG | keys)


@pytest.mark.parametrize("num_channels", [1, 3])
def test_detectron2s_segmentor_scales_from_the_file(tmp_path: Path, num_channels: int) -> None:
    """Its mapper leaves the image as it is; one channel is a value, several are classes."""
    cfg = own_cfg(num_classes=3)
    pixels = np.random.randint(0, 256, (70, 110, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    item = {"file_name": str(tmp_path / "a.png"), "height": 70, "width": 110}
    inputs = build_mapper(cfg, is_train=False)(item)
    assert torch.equal(inputs["image"], torch.from_numpy(pixels).permute(2, 0, 1))
    model = detectron2s(num_channels)
    expected = []
    for box in BOXES:
        for mirrored in (False, True):
            view = scaled(inputs["image"], box)
            view = view.flip(-1) if mirrored else view
            (output,) = model([{"image": view, "height": 70, "width": 110}])
            maps = output["sem_seg"]
            maps = maps.softmax(0) if num_channels > 1 else maps
            expected.append(maps.flip(-1) if mirrored else maps)
    (output,) = with_test_time_augmentation(cfg, model)([inputs])
    torch.testing.assert_close(output["sem_seg"], sum(expected) / 6, rtol=1e-4, atol=1e-3)


def test_training_images_are_resized_all_the_same() -> None:
    mapper = build_mapper(own_cfg(num_classes=3), is_train=True)
    assert len(mapper.augmentations.augs) > 0
    cfg = smallest_cfg({"MODEL.META_ARCHITECTURE": "SemanticSegmentor"})
    assert len(build_mapper(cfg, is_train=False).augmentations.augs) > 0


def test_channels_that_are_no_classes_are_refused() -> None:
    model = with_test_time_augmentation(own_cfg(num_classes=19), detectron2s(2))
    with pytest.raises(InputError, match="gives 2 channels: neither one value nor the 19 classes"):
        model([{"image": random_image(70, 110)}])


class _Normals(DenseModel):
    """A task of one's own, with or without a dimension of channels."""

    task = "normals"

    def __init__(self, has_channels: bool):
        statistics = {"pixel_mean": [0.0] * 3, "pixel_std": [1.0] * 3}
        super().__init__(backbone=_Mapped(), **statistics)
        self.has_channels = has_channels

    def predict_batch(self, images: Tensor) -> Tensor:
        return images if self.has_channels else images[:, :1]

    def forward(self, batched_inputs: list[dict]) -> list[dict[str, Tensor]]:
        maps = self._predict_inputs(batched_inputs)
        return [{"normals": each if self.has_channels else each[0]} for each in maps]


@pytest.mark.parametrize("has_channels", [False, True])
def test_maps_of_ones_own_task_are_averaged_as_values(has_channels: bool) -> None:
    keys = {"TEST.AUG.MIN_SIZES": (0,), "TEST.AUG.MAX_SIZES": (0,)}
    model = with_test_time_augmentation(smallest_cfg(AUG | keys), _Normals(has_channels).eval())
    image = random_image(20, 30)
    (output,) = model([{"image": image}])
    torch.testing.assert_close(output["normals"], image if has_channels else image[0])


@pytest.mark.parametrize("kind", [nn.Linear, GeneralizedRCNN, ConfigurableFCOS])
def test_models_without_maps_are_refused(kind: type[nn.Module]) -> None:
    model = kind.__new__(kind)
    nn.Module.__init__(model)
    with pytest.raises(InputError, match=f"a {kind.__name__} has no test-time augmentation"):
        with_test_time_augmentation(smallest_cfg(AUG), model)


def test_a_training_that_could_not_be_evaluated_does_not_begin(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Trainer, "build_model", lambda *_: nn.Linear(1, 1))
    monkeypatch.setattr("metaprompt_d2.engine.trainer.check_datasets", lambda *_: None)
    with pytest.raises(InputError, match="Linear has no test-time augmentation"):
        Trainer(smallest_cfg(AUG | {"DATASETS.TEST": ("street",)}))


def test_pose_mirrors_its_crops_itself() -> None:
    cfg = smallest_pose_cfg()
    model = build_model(cfg)
    assert cfg.TEST.AUG.ENABLED
    assert with_test_time_augmentation(cfg, model) is model
    assert model.flip
