"""`SlidingWindowSegmentor` on our backbone and on Detectron2's own, whole and in windows."""

import pytest
import torch
from detectron2.modeling import build_model
from helpers import NUM_CLASSES, random_image, smallest_cfg, smallest_model, train_inputs
from torch import nn

from metaprompt_d2.modeling.meta_arch.sem_seg import LayersHead, SlidingWindowSegmentor
from metaprompt_d2.utils.errors import InputError

# ResNet-18 with a narrow FPN and Panoptic FPN's semantic head.
RESNET_FPN = {
    "MODEL.BACKBONE.NAME": "build_resnet_fpn_backbone",
    "MODEL.BACKBONE.FREEZE_AT": 0,
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.NORM": "BN",
    "MODEL.RESNETS.STEM_OUT_CHANNELS": 8,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.OUT_CHANNELS": 8,
    "MODEL.SEM_SEG_HEAD.NAME": "SemSegFPNHead",
    "MODEL.SEM_SEG_HEAD.NORM": "",
}
MODELS = {
    "diffusion with UPerHead": {},
    "raw maps with padding": {
        "MODEL.META_PROMPT.REARRANGE": "none",
        "MODEL.SEM_SEG_HEAD.IN_FEATURES": ["up3", "up4", "up5", "up6"],
        "MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE": "up5",
    },
    "ResNet with FPN head": RESNET_FPN,
}
# Of logits of about 3, between batches of different sizes.
ROUND_OFF = {"rtol": 1e-4, "atol": 1e-4}
WHOLE = {"TEST.SLIDING_WINDOW.ENABLED": False}
WINDOWS = {"TEST.SLIDING_WINDOW.SIZE": (64, 64), "TEST.SLIDING_WINDOW.STRIDE": (40, 48)}


@pytest.fixture(scope="module", params=list(MODELS))
def model(request: pytest.FixtureRequest) -> nn.Module:
    return smallest_model(MODELS[request.param] | WINDOWS)


@torch.no_grad()
def predict(model: nn.Module, inputs: list[dict]) -> list[torch.Tensor]:
    return [output["sem_seg"] for output in model.eval()(inputs)]


def set_windows(model: nn.Module, size: tuple | None, stride: tuple | None) -> None:
    model.window_size, model.window_stride = size, stride


@pytest.mark.parametrize("windows", [(None, None), ((64, 64), (40, 48))], ids=["whole", "windows"])
@pytest.mark.parametrize("size", [(64, 64), (70, 150), (40, 30)])
def test_logits_have_the_asked_size(model: nn.Module, windows: tuple, size: tuple) -> None:
    set_windows(model, *windows)
    inputs = [{"image": random_image(*size)}]
    inputs.append({"image": random_image(*size), "height": 81, "width": 33})
    first, second = predict(model, inputs)
    assert first.shape == (NUM_CLASSES, *size)
    assert second.shape == (NUM_CLASSES, 81, 33)
    assert torch.isfinite(first).all()
    assert torch.isfinite(second).all()


def test_images_of_a_batch_are_predicted_independently(model: nn.Module) -> None:
    set_windows(model, (64, 64), (40, 48))
    images = [{"image": random_image(64, 100)}, {"image": random_image(72, 64)}]
    together = predict(model, images)
    alone = [predict(model, [image])[0] for image in images]
    for a, b in zip(together, alone, strict=True):
        torch.testing.assert_close(a, b)


def test_a_window_as_large_as_the_image_is_the_whole_image(model: nn.Module) -> None:
    image = [{"image": random_image(70, 90)}]
    set_windows(model, None, None)
    (whole,) = predict(model, image)
    set_windows(model, (70, 90), (35, 45))
    (window,) = predict(model, image)
    torch.testing.assert_close(whole, window)


def test_windows_are_the_average_of_crops_predicted_alone(model: nn.Module) -> None:
    image = random_image(64, 96)
    set_windows(model, (64, 64), (64, 32))
    (result,) = predict(model, [{"image": image}])
    set_windows(model, None, None)
    left, right = (predict(model, [{"image": image[:, :, s : s + 64]}])[0] for s in (0, 32))
    torch.testing.assert_close(result[..., :32], left[..., :32], **ROUND_OFF)
    middle = (left[..., 32:] + right[..., :32]) / 2
    torch.testing.assert_close(result[..., 32:64], middle, **ROUND_OFF)
    torch.testing.assert_close(result[..., 64:], right[..., 32:], **ROUND_OFF)


def test_the_number_of_windows_at_once_changes_nothing(model: nn.Module) -> None:
    set_windows(model, (64, 64), (40, 48))
    image = [{"image": random_image(80, 130)}]
    results = []
    for model.window_batch_size in (1, 4):
        results += predict(model, image)
    torch.testing.assert_close(*results, **ROUND_OFF)


@pytest.mark.parametrize("sizes", [[(64, 64)] * 2, [(64, 96), (80, 64)], [(61, 70), (64, 33)]])
def test_training_gives_finite_losses_and_gradients(model: nn.Module, sizes: list) -> None:
    model.train().zero_grad()
    losses = model(train_inputs(sizes))
    assert all(name.startswith("loss_") for name in losses)
    assert all(torch.isfinite(loss) for loss in losses.values())
    sum(losses.values()).backward()
    gradients = {name: p.grad for name, p in model.named_parameters() if p.requires_grad}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert all(torch.isfinite(gradient).all() for gradient in gradients.values())


def test_what_fills_up_smaller_images_of_a_batch_has_no_label() -> None:
    model = smallest_model({"MODEL.SEM_SEG_HEAD.NORM": ""}).train()
    small, large = train_inputs([(64, 32), (64, 64)])
    seen = []
    model.sem_seg_head.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[1]))
    model([small, large])
    (targets,) = seen
    assert torch.equal(targets[0, :, :32], small["sem_seg"])
    assert (targets[0, :, 32:] == 255).all()
    assert torch.equal(targets[1], large["sem_seg"])


def test_images_are_normalized_before_the_backbone() -> None:
    overrides = {
        "MODEL.PIXEL_MEAN": [127.0, 128.0, 126.0],
        "MODEL.PIXEL_STD": [128.0, 127.0, 127.0],
    }
    model = smallest_model(overrides | WHOLE).eval()
    seen = []
    model.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    image = torch.tensor([255, 255, 253], dtype=torch.uint8).view(3, 1, 1).expand(3, 64, 64)
    predict(model, [{"image": image}])
    assert seen[0][0, :, 7, 7].tolist() == [1, 1, 1]


def test_windows_are_switched_by_their_keys() -> None:
    model = smallest_model(WINDOWS | {"TEST.SLIDING_WINDOW.BATCH_SIZE": 3})
    assert (model.window_size, model.window_stride) == ((64, 64), (40, 48))
    assert model.window_batch_size == 3
    assert smallest_model(WINDOWS | WHOLE).window_size is None


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("window_stride", (64, 65), r"window_stride \(64, 65\) exceeds window_size \(64, 64\)"),
        ("window_batch_size", 0, r"window_batch_size is 0"),
    ],
)
def test_impossible_windows_are_refused_by_their_argument(name: str, value, message: str) -> None:
    arguments = SlidingWindowSegmentor.from_config(smallest_cfg(WINDOWS)) | {name: value}
    with pytest.raises(InputError, match=message):
        SlidingWindowSegmentor(**arguments)


def test_windows_that_leave_gaps_are_accepted_where_windows_are_off() -> None:
    assert smallest_model(WHOLE | {"TEST.SLIDING_WINDOW.STRIDE": (999, 999)}).window_size is None


def test_one_image_with_batch_norm_is_refused_in_training() -> None:
    with pytest.raises(ValueError, match=r"cannot train on one image"):
        smallest_model().train()(train_inputs([(64, 64)]))


class HeadWithModuleLayers(nn.Module):
    """A head whose `layers` are modules: not the optional method of `LayersHead`."""

    ignore_value = 255

    def __init__(self, head: nn.Module):
        super().__init__()
        self.layers = nn.ModuleList([head])

    def forward(self, features: dict, targets: torch.Tensor | None = None) -> tuple:
        return self.layers[0](features, targets)


def test_a_head_without_the_optional_method_gives_the_same_logits() -> None:
    model = smallest_model(WHOLE)
    inputs = [{"image": random_image(64, 128)}]
    expected = predict(model, inputs)
    assert isinstance(model.sem_seg_head, LayersHead)
    model.sem_seg_head = HeadWithModuleLayers(model.sem_seg_head).eval()
    torch.testing.assert_close(predict(model, inputs), expected)


def test_detectron2s_own_segmentor_gives_the_same_logits() -> None:
    ours = smallest_model(WHOLE).eval()
    theirs = build_model(smallest_cfg({"MODEL.META_ARCHITECTURE": "SemanticSegmentor"})).eval()
    theirs.load_state_dict(ours.state_dict())
    inputs = [{"image": random_image(64, 128), "height": 100, "width": 150}]
    torch.testing.assert_close(predict(ours, inputs), predict(theirs, inputs))


def test_detectron2s_own_segmentor_gives_the_same_losses() -> None:
    ours = smallest_model().train()
    theirs = build_model(smallest_cfg({"MODEL.META_ARCHITECTURE": "SemanticSegmentor"})).train()
    theirs.load_state_dict(ours.state_dict())
    inputs = train_inputs([(64, 96), (80, 64)])
    torch.testing.assert_close(ours(inputs), theirs(inputs))


def test_pixel_statistics_are_not_part_of_a_checkpoint() -> None:
    prefixes = {name.split(".")[0] for name in smallest_model().state_dict()}
    assert prefixes == {"backbone", "sem_seg_head"}


# ------------------------------------------------------------------ one latent for all windows


def shared(overrides: dict | None = None) -> nn.Module:
    settings = {
        "TEST.SLIDING_WINDOW.SHARE_ENCODER": True,
        "TEST.SLIDING_WINDOW.SIZE": (64, 64),
        "TEST.SLIDING_WINDOW.STRIDE": (43, 43),
    }
    return smallest_model(settings | (overrides or {})).eval()


def test_an_image_of_one_window_is_predicted_alike_from_a_shared_latent() -> None:
    model = shared()
    inputs = [{"image": random_image(64, 56)}]
    with torch.no_grad():
        together = model(inputs)[0]["sem_seg"]
        model.share_encoder = False
        torch.testing.assert_close(together, model(inputs)[0]["sem_seg"])


def test_a_shared_latent_is_made_once_an_image_and_cut_into_windows() -> None:
    model = shared({"TEST.SLIDING_WINDOW.BATCH_SIZE": 2})
    latents, windows = [], []
    model.backbone.latent_encoder.register_forward_hook(lambda *args: latents.append(args[2]))
    model.backbone.refinement.register_forward_pre_hook(lambda _, args: windows.append(args[0]))
    with torch.no_grad():
        outputs = model([{"image": random_image(101, 130)}, {"image": random_image(101, 130)}])
    assert [tuple(output["sem_seg"].shape[1:]) for output in outputs] == [(101, 130)] * 2
    assert all(torch.isfinite(output["sem_seg"]).all() for output in outputs)
    # 104 x 136 pixels once padded: windows begin at 0 and 40 (rows), 0, 40 and 72 (columns).
    assert [tuple(latent.shape) for latent in latents] == [(1, 4, 13, 17)] * 2
    cut = torch.cat(windows)
    starts = [(row, column) for row in (0, 5) for column in (0, 5, 9)]
    expected = [
        latent[0, :, row : row + 8, column : column + 8]
        for latent in latents
        for row, column in starts
    ]
    torch.testing.assert_close(cut, torch.stack(expected))


def test_windows_of_a_shared_latent_are_at_least_one_latent_pixel_apart() -> None:
    model = shared({"TEST.SLIDING_WINDOW.STRIDE": (4, 43)})
    with torch.no_grad():
        (output,) = model([{"image": random_image(72, 64)}])
    assert torch.isfinite(output["sem_seg"]).all()


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"TEST.SLIDING_WINDOW.SIZE": (60, 64)}, r"multiples of 8; it is \(60, 64\)"),
        ({"MODEL.META_PROMPT.REARRANGE": "none"}, r"needs a MetaPromptBackbone that takes any"),
    ],
)
def test_an_encoder_that_cannot_be_shared_is_refused(overrides: dict, message: str) -> None:
    names = {"MODEL.SEM_SEG_HEAD.IN_FEATURES": ["up3", "up4", "up5", "up6"]}
    names["MODEL.SEM_SEG_HEAD.AUX_IN_FEATURE"] = "up5"
    overrides = overrides | (names if "MODEL.META_PROMPT.REARRANGE" in overrides else {})
    with pytest.raises(ValueError, match=message):
        shared(overrides)
