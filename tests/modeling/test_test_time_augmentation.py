"""`DenseModelWithTTA`: averages over scales and mirror images, keys, bounds, errors."""

import gc
import weakref

import pytest
import torch
from detectron2.config import get_cfg
from detectron2.modeling import build_model
from helpers import NUM_CLASSES, random_image, smallest_cfg, smallest_depth_cfg
from scaled_images import scaled
from torch import Tensor, nn

from metaprompt_d2.engine import Trainer
from metaprompt_d2.modeling import sliding_window, with_test_time_augmentation

WINDOWS = {"TEST.SLIDING_WINDOW.SIZE": (64, 64), "TEST.SLIDING_WINDOW.STRIDE": (40, 40)}
AUG = {
    "TEST.AUG.ENABLED": True,
    "TEST.AUG.MIN_SIZES": (64, 0, 100),
    "TEST.AUG.MAX_SIZES": (96, 0, 200),
}
BOXES = [(96, 64), None, (200, 100)]
SIZE = {"height": 90, "width": 123}


@pytest.fixture(scope="module")
def segmentor() -> nn.Module:
    return build_model(smallest_cfg(WINDOWS)).eval()


@pytest.fixture(scope="module")
def depth_model() -> nn.Module:
    return build_model(smallest_depth_cfg({"TEST.SHIFTED_WINDOWS.COUNT": 2})).eval()


def wrapped(model: nn.Module, overrides: dict | None = None) -> nn.Module:
    build = smallest_depth_cfg if hasattr(model, "depth_head") else smallest_cfg
    return with_test_time_augmentation(build(WINDOWS | AUG | (overrides or {})), model)


@torch.no_grad()
def plain(model: nn.Module, image: Tensor, key: str) -> Tensor:
    (output,) = model([{"image": image} | SIZE])
    return output[key]


def test_class_probabilities_are_averaged_over_scales_and_mirror_images(
    segmentor: nn.Module,
) -> None:
    image = random_image(70, 110)
    expected = []
    for box in BOXES:
        view = scaled(image, box)
        expected.append(plain(segmentor, view, "sem_seg").softmax(0))
        expected.append(plain(segmentor, view.flip(-1), "sem_seg").softmax(0).flip(-1))
    (output,) = wrapped(segmentor)([{"image": image} | SIZE])
    assert output.keys() == {"sem_seg"}
    torch.testing.assert_close(output["sem_seg"], sum(expected) / 6, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(output["sem_seg"].sum(0), torch.ones(90, 123))


def test_depth_is_averaged_over_scales_and_the_model_mirrors_itself(depth_model: nn.Module) -> None:
    image = torch.rand(3, 70, 110)
    depth_model.flip = True
    expected = [plain(depth_model, scaled(image, box), "depth") for box in BOXES]
    model = wrapped(depth_model)
    assert not model.flip
    (output,) = model([{"image": image} | SIZE])
    depth_model.flip = False
    torch.testing.assert_close(output["depth"], sum(expected) / 3, rtol=1e-4, atol=1e-5)


def test_each_image_comes_out_at_its_own_size(segmentor: nn.Module) -> None:
    inputs = [{"image": random_image(*size)} for size in ((37, 41), (64, 90))]
    outputs = wrapped(segmentor)(inputs)
    assert [tuple(output["sem_seg"].shape) for output in outputs] == [
        (NUM_CLASSES, 37, 41),
        (NUM_CLASSES, 64, 90),
    ]


@pytest.mark.parametrize("size", [(1024, 2048), (4000, 6000), (41, 37), (2, 300)])
def test_sizes_of_real_files_come_out_as_they_went_in(size: tuple[int, int]) -> None:
    keys = {"MODEL.SEM_SEG_HEAD.NUM_CLASSES": 2, "TEST.AUG.MIN_SIZES": (32, 48)}
    cfg = smallest_cfg(WINDOWS | AUG | keys | {"TEST.AUG.MAX_SIZES": (2048, 2048)})
    model = with_test_time_augmentation(cfg, build_model(cfg).eval())
    (output,) = model([{"image": torch.randint(2, (3, *size), dtype=torch.uint8)}])
    assert output["sem_seg"].shape == (2, *size)
    assert output["sem_seg"][:, ::7, ::7].isfinite().all()


def test_windows_of_an_image_and_its_mirror_image_fill_batches(segmentor: nn.Module) -> None:
    sizes = []
    hook = segmentor.backbone.register_forward_pre_hook(
        lambda _, inputs: sizes.append(len(inputs[0]))
    )
    single = {"TEST.AUG.MIN_SIZES": (0,), "TEST.AUG.MAX_SIZES": (0,)}
    wrapped(segmentor, single)([{"image": random_image(64, 144)}])  # three windows
    hook.remove()
    assert sizes == [4, 2]


def test_output_made_in_strips_on_either_device_is_the_same(
    segmentor: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs = [{"image": random_image(70, 110)} | SIZE]
    (whole,) = wrapped(segmentor)(inputs)
    monkeypatch.setattr(sliding_window, "_STRIP", NUM_CLASSES * 123 * 7)
    (strips,) = wrapped(segmentor, {"TEST.CANVAS_GIB": 0.0})(inputs)
    torch.testing.assert_close(strips["sem_seg"], whole["sem_seg"], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("canvas_gib", "passes"), [(4.0, [2, 2, 2]), (0.0, [1] * 6)])
def test_outputs_of_a_pass_are_gone_when_the_next_is_predicted(
    segmentor: nn.Module, canvas_gib: float, passes: list[int]
) -> None:
    """An image and its mirror image pass at once only if the outputs of both fit."""
    model = wrapped(segmentor, {"TEST.CANVAS_GIB": canvas_gib})
    references, alive, views = [], [], []

    class Watched(nn.Module):
        device = segmentor.device

        def forward(self, inputs: list[dict]) -> list[dict]:
            gc.collect()
            alive.append(sum(reference() is not None for reference in references))
            views.append(len(inputs))
            outputs = segmentor(inputs)
            references.extend(weakref.ref(output["sem_seg"]) for output in outputs)
            return outputs

    model.model = Watched()
    model([{"image": random_image(70, 110)} | SIZE])
    assert views == passes
    assert alive == [0] * len(passes)


def test_disabled_it_is_the_model_itself(segmentor: nn.Module) -> None:
    assert with_test_time_augmentation(smallest_cfg(), segmentor) is segmentor
    linear = nn.Linear(1, 1)
    assert with_test_time_augmentation(smallest_cfg(), linear) is linear


def test_detectron2s_default_sizes_stand_for_the_test_scale(
    segmentor: nn.Module, depth_model: nn.Module
) -> None:
    keys = {
        "TEST.AUG.ENABLED": True,
        "TEST.AUG.MIN_SIZES": get_cfg().TEST.AUG.MIN_SIZES,
        "TEST.AUG.MAX_SIZES": (),
        "INPUT.MIN_SIZE_TEST": 60,
        "INPUT.MAX_SIZE_TEST": 80,
    }
    model = with_test_time_augmentation(smallest_cfg(keys), segmentor)
    assert (model.boxes, model.flip) == ([(80, 60)], True)
    # The depth model mirrors by itself.
    model = with_test_time_augmentation(smallest_depth_cfg(keys), depth_model)
    assert (model.boxes, model.flip) == ([(80, 60)], False)
    keys["INPUT.MIN_SIZE_TEST"] = 0
    assert with_test_time_augmentation(smallest_depth_cfg(keys), depth_model) is depth_model


def test_the_trainer_evaluates_with_it_where_it_is_enabled(
    segmentor: nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluated = []
    monkeypatch.setattr(
        "metaprompt_d2.engine.trainer.evaluate", lambda model, *_: evaluated.append(model)
    )
    for part in ("build_test_loader", "build_evaluator"):
        monkeypatch.setattr(Trainer, part, lambda *_: None)
    for enabled in (True, False):
        keys = WINDOWS | AUG | {"TEST.AUG.ENABLED": enabled, "DATASETS.TEST": ("street",)}
        Trainer.test(smallest_cfg(keys), segmentor)
    assert evaluated[0].model is segmentor
    assert evaluated[1] is segmentor


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"TEST.AUG.MIN_SIZES": (), "TEST.AUG.MAX_SIZES": ()}, "MIN_SIZES is empty"),
        ({"TEST.AUG.MAX_SIZES": (96,)}, "MAX_SIZES has 1 sizes, TEST.AUG.MIN_SIZES 3"),
        ({"TEST.AUG.MAX_SIZES": (), "TEST.AUG.MAX_SIZE": 90}, "short side of 100 and a long .* 90"),
        ({"TEST.AUG.MIN_SIZES": (-1, 0, 8)}, "short side of -1"),
    ],
)
def test_sizes_that_make_no_sense_are_refused(
    segmentor: nn.Module, overrides: dict, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        wrapped(segmentor, overrides)


def test_a_scale_below_one_latent_pixel_is_named(segmentor: nn.Module) -> None:
    model = wrapped(segmentor, {"TEST.AUG.MIN_SIZES": (4, 0, 64)})
    message = r"street\.jpg of 4x\d+ .*MIN_SIZES 4.*smaller than one latent pixel"
    with pytest.raises(ValueError, match=message):
        model([{"image": random_image(70, 110), "file_name": "street.jpg"}])
