"""Equality with outputs, gradients, groups and schedules of the official code (random weights)."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
import torch
from detectron2.modeling import build_backbone
from detectron2.projects.deeplab import build_lr_scheduler
from helpers import UNET_SIZES, tiny_cfg, tiny_model
from torch import Tensor, nn
from torch.nn import functional as F

from metaprompt_d2.checkpoint import from_official
from metaprompt_d2.checkpoint.compvis import UNET_PREFIX, from_compvis_unet
from metaprompt_d2.diffusion import FeatureUNet
from metaprompt_d2.engine import group_parameters

# How often its own rounding noise (float32 against float64) the official float32 value may be off.
NOISE_FACTOR = 10
FLOAT64_TOLERANCE = 1e-9

# Official names of the output head; the checkpoint holds two copies of it.
COPIES = ("cross_unet_conv2.", "cross_unet_conv3.")
OUTPUT_HEAD = "unet.unet.diffusion_model.out."

DEPTH = {
    "MODEL.META_PROMPT.NUM_PROMPTS": 50,
    "MODEL.META_PROMPT.PER_STEP": True,
    "MODEL.META_PROMPT.ADAPTER": True,
    "MODEL.META_PROMPT.REARRANGE": "fused",
}
M64 = UNET_SIZES | {"block_out_channels": (64, 64, 64, 64)}


def load(folder: Path, name: str) -> dict:
    return torch.load(folder / name, weights_only=True)


def noise_of(fixture: dict, key: str) -> float:
    """The official code's own float32 noise; another image's where a key has none of its own."""
    noise = fixture["meta"]["fp64_max_abs_err_and_std"]
    return noise[key if key in noise else key.split("/", 1)[1]][0]


def assert_near(ours: Tensor, theirs: Tensor, tolerance: float, what: str) -> None:
    assert ours.shape == theirs.shape, what
    difference = (ours - theirs).abs().max().item()
    assert difference <= tolerance, f"{what}: off by {difference:.3e}, allowed {tolerance:.3e}"


def assert_outputs(ours: Mapping[str, Tensor], fixture: dict, prefix: str = "") -> None:
    """All outputs are there and within the noise."""
    for key, value in ours.items():
        tolerance = NOISE_FACTOR * noise_of(fixture, prefix + key)
        assert_near(value, fixture["outputs"][prefix + key], tolerance, prefix + key)


def assert_outputs_float64(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for key, value in ours.items():
        assert_near(value, theirs[key], FLOAT64_TOLERANCE, key)


# --------------------------------------------------------------------------- the UNet by itself


@pytest.fixture(scope="module")
def unet_fixture(golden: Path) -> dict:
    return load(golden, "unet_m64.pt")


@pytest.fixture(scope="module")
def unet(unet_fixture: dict) -> FeatureUNet:
    official = {
        name.removeprefix(UNET_PREFIX): value for name, value in unet_fixture["state_dict"].items()
    }
    unet = FeatureUNet(**M64)
    unet.load_state_dict(from_compvis_unet(official))
    return unet.eval()


@torch.no_grad()
def unet_outputs(unet: FeatureUNet, inputs: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    features = unet(*(inputs[f"{name}/{part}"] for part in ("latents", "t", "context")))
    outputs = {f"{name}/feat{level}": feature for level, feature in enumerate(features)}
    return outputs | {f"{name}/out": unet.predict_latent(features[0])}


@pytest.mark.parametrize("name", ["a", "odd"])
def test_unet_gives_the_official_features_and_latent(
    unet: FeatureUNet, unet_fixture: dict, name: str
) -> None:
    ours = unet_outputs(unet, unet_fixture["input"], name)
    assert len(ours) == 5
    assert_outputs(ours, unet_fixture)


def test_unet_in_float64_gives_the_official_outputs_exactly(
    golden: Path, unet: FeatureUNet, unet_fixture: dict
) -> None:
    inputs = {key: value.double() for key, value in unet_fixture["input"].items()}
    theirs = load(golden, "f64/unet_m64.pt")["outputs"]
    unet.double()
    ours = unet_outputs(unet, inputs, "a") | unet_outputs(unet, inputs, "odd")
    unet.float()
    assert ours.keys() == theirs.keys()
    assert_outputs_float64(ours, theirs)


# --------------------------------------------------------------------------- segmentation


@pytest.fixture(scope="module")
def seg_fixture(golden: Path) -> dict:
    return load(golden, "seg_ade_r3_c1222.pt")


@pytest.fixture(scope="module")
def segmentor(seg_fixture: dict) -> nn.Module:
    return official_segmentor(seg_fixture).eval()


def official_segmentor(fixture: dict) -> nn.Module:
    model = tiny_model()
    model.load_state_dict(from_official(fixture["state_dict"]).model)
    return model


@torch.no_grad()
def encoder_outputs(backbone: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """The VAE's moments and latent and every refinement step, under the fixtures' keys."""
    encoder = backbone.latent_encoder
    latent = encoder(image)
    outputs = {
        "vae_moments": encoder.quant_conv(encoder.encoder(image)),
        "vae_latents": latent,
    }
    batch_size = len(image)
    for number, step in enumerate(backbone.refinement.steps(latent), start=1):
        embedding = backbone.refinement.step_embeddings[number - 1]
        outputs |= {
            f"step{number}.latent_in": step.latent,
            f"step{number}.t": embedding.expand(batch_size, -1),
            f"step{number}.prompts": step.prompts.expand(batch_size, -1, -1),
        }
        outputs |= {f"step{number}.feat{i}": feature for i, feature in enumerate(step.features)}
    return outputs


@torch.no_grad()
def segmentor_outputs(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Every stage of the segmentation model, under the fixtures' keys."""
    head = model.sem_seg_head
    features = model.backbone(image)
    maps = [features[name] for name in ("p2", "p3", "p4", "p5")]
    logits = head.layers(features)
    size = image.shape[-2:]
    return encoder_outputs(model.backbone, image) | {
        **{f"rearranged{level}": feature for level, feature in enumerate(maps)},
        "uper.psp": head._pool_pyramid(maps[-1]),
        "uper.feats_img0": head.fuse(torch.cat(head.pyramid(maps), dim=1))[:1],
        "logits_small": logits,
        "aux_logits_small": head.aux_head(features["p4"]),
        "logits": F.interpolate(logits, size=size, mode="bilinear", align_corners=False),
    }


def test_segmentation_gives_every_official_stage(segmentor: nn.Module, seg_fixture: dict) -> None:
    ours = segmentor_outputs(segmentor, seg_fixture["input"]["image"])
    stored = {key for key in seg_fixture["outputs"] if "/" not in key}
    assert ours.keys() == stored
    assert_outputs(ours, seg_fixture)


def test_segmentation_gives_every_official_stage_at_an_odd_size(
    segmentor: nn.Module, seg_fixture: dict
) -> None:
    outputs = segmentor_outputs(segmentor, seg_fixture["input"]["image_120x136"])
    prefix = "120x136/"
    stored = {key.removeprefix(prefix) for key in seg_fixture["outputs"] if key.startswith(prefix)}
    assert len(stored) == 19
    assert_outputs({key: outputs[key] for key in stored}, seg_fixture, prefix)


def test_segmentation_in_float64_gives_every_official_stage_exactly(
    golden: Path, segmentor: nn.Module, seg_fixture: dict
) -> None:
    theirs = load(golden, "f64/seg_ade_r3_c1222.pt")["outputs"]
    segmentor.double()
    ours = segmentor_outputs(segmentor, seg_fixture["input"]["image"].double())
    segmentor.float()
    assert ours.keys() == theirs.keys()
    assert_outputs_float64(ours, theirs)


@pytest.fixture(scope="module")
def slide_probabilities(segmentor: nn.Module, seg_fixture: dict) -> tuple[Tensor, Tensor]:
    """Softmax at the file's size of the image, and of the mirrored image mirrored back."""
    height, width = seg_fixture["meta"]["slide"]["ori_shape"]
    image = seg_fixture["input"]["image_slide"][0]

    def probabilities(image: Tensor) -> Tensor:
        with torch.no_grad():
            (output,) = segmentor([{"image": image, "height": height, "width": width}])
        return output["sem_seg"].softmax(dim=0)

    return probabilities(image), probabilities(image.flip(-1)).flip(-1)


def test_sliding_window_gives_the_official_logits(segmentor: nn.Module, seg_fixture: dict) -> None:
    image = seg_fixture["input"]["image_slide"][0]
    with torch.no_grad():
        (output,) = segmentor([{"image": image}])
    theirs = seg_fixture["outputs"]["slide/logits_ch_every4"][0]
    tolerance = NOISE_FACTOR * noise_of(seg_fixture, "logits")
    assert_near(output["sem_seg"][::4], theirs, tolerance, "slide logits")


def test_sliding_window_gives_the_official_probabilities(
    slide_probabilities: tuple[Tensor, Tensor], seg_fixture: dict
) -> None:
    # A softmax moves at most half as far as its logits, so their noise bounds it.
    tolerance = NOISE_FACTOR * noise_of(seg_fixture, "logits")
    plain, mirrored = slide_probabilities
    outputs = seg_fixture["outputs"]
    assert_near(plain[0], outputs["slide/prob_rescaled_ch0"][0, 0], tolerance, "plain")
    assert_near(mirrored[0], outputs["slide/prob_unflipped_ch0"][0, 0], tolerance, "mirrored")


@pytest.mark.parametrize("key", ["slide/pred", "slide/aug_pred"])
def test_sliding_window_gives_the_official_classes(
    slide_probabilities: tuple[Tensor, Tensor], seg_fixture: dict, key: str
) -> None:
    plain, mirrored = slide_probabilities
    probabilities = plain if key == "slide/pred" else (plain + mirrored) / 2
    best, second = probabilities.topk(2, dim=0).values
    clear = best - second > 1e-3  # elsewhere rounding may decide
    assert clear.float().mean() > 0.99
    theirs = seg_fixture["outputs"][key].long()
    torch.testing.assert_close(probabilities.argmax(dim=0)[clear], theirs[clear])


# --------------------------------------------------------------------------- depth's re-arrangement


@pytest.fixture(scope="module")
def depth_fixture(golden: Path) -> dict:
    return load(golden, "depth_nyu_r3_c1222.pt")


@pytest.fixture(scope="module")
def depth_backbone(depth_fixture: dict) -> nn.Module:
    backbone = build_backbone(tiny_cfg(DEPTH))
    backbone.load_state_dict(from_official_depth(depth_fixture["state_dict"]))
    return backbone.eval()


def from_official_depth(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """The encoder of the official depth model under our names (method section 4.2)."""
    return {
        name.removeprefix("backbone."): value
        for name, value in from_official(state_dict).model.items()
        if name.startswith("backbone.")
    }


@torch.no_grad()
def depth_outputs(backbone: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Every stage of the depth encoder, by the official input rule (method section 2.2)."""
    height, width = ((side // 64 + 1) * 64 for side in image.shape[-2:])
    image = F.interpolate(image * 2 - 1, size=(height, width), mode="bilinear", align_corners=False)
    rearrangement = backbone.rearrangement
    last = backbone.refinement(backbone.latent_encoder(image))
    branches = [
        branch(feature)
        for branch, feature in zip(rearrangement.branches, last.features, strict=True)
    ]
    return encoder_outputs(backbone, image) | {
        **{f"layer{level}_img0": branch[:1] for level, branch in enumerate(branches, start=1)},
        "fused": rearrangement.fuse(torch.cat(branches, dim=1)),
        "rearranged": backbone(image)["p3"],
    }


def test_fused_rearrangement_gives_every_official_stage(
    depth_backbone: nn.Module, depth_fixture: dict
) -> None:
    ours = depth_outputs(depth_backbone, depth_fixture["input"]["image"])
    assert len(ours) == 2 + 3 * 7 + 4 + 2
    assert_outputs(ours, depth_fixture)


def test_fused_rearrangement_gives_the_official_outputs_at_an_odd_size(
    depth_backbone: nn.Module, depth_fixture: dict
) -> None:
    outputs = depth_outputs(depth_backbone, depth_fixture["input"]["image_100x140"])
    ours = {key: outputs[key] for key in ("vae_latents", "rearranged")}
    assert_outputs(ours, depth_fixture, prefix="100x140/")


def test_fused_rearrangement_in_float64_gives_every_official_stage_exactly(
    golden: Path, depth_backbone: nn.Module, depth_fixture: dict
) -> None:
    theirs = load(golden, "f64/depth_nyu_r3_c1222.pt")["outputs"]
    depth_backbone.double()
    ours = depth_outputs(depth_backbone, depth_fixture["input"]["image"].double())
    depth_backbone.float()
    assert_outputs_float64(ours, theirs)


# --------------------------------------------------------------------------- training

# Our loss against the official one.
LOSSES = {
    "loss_sem_seg": "decode.loss_ce",
    "loss_lovasz": "decode.loss_lovasz",
    "loss_aux": "aux.loss_ce_aux",
}


@pytest.fixture(scope="module")
def our_names(seg_fixture: dict) -> dict[str, str]:
    """Official name -> our name, found by sending marked tensors through the conversion."""
    official = seg_fixture["state_dict"]
    numbers = {name: number for number, name in enumerate(official)}
    for name in official:
        if name.startswith(COPIES):
            numbers[name] = numbers[OUTPUT_HEAD + name.split(".", 1)[1]]
    marked = {name: torch.full(official[name].shape, float(numbers[name])) for name in official}
    ours = {int(value.max()): name for name, value in from_official(marked).model.items()}
    return {name: ours[number] for name, number in numbers.items() if number in ours}


@pytest.fixture(scope="module")
def step_fixture(golden: Path) -> dict:
    return load(golden, "seg_train_step_c1222.pt")


@pytest.fixture(scope="module", params=["eval", "train"])
def backward(request: pytest.FixtureRequest, seg_fixture: dict, step_fixture: dict) -> Iterator:
    """(official outputs, our losses, our model after one backward pass) in either mode."""
    model = official_segmentor(seg_fixture).train(request.param == "train")
    images = step_fixture["input"]["image"]
    labels = step_fixture["input"]["gt"][:, 0].long()
    if model.training:
        pairs = zip(images, labels, strict=True)
        losses = model([{"image": image, "sem_seg": label} for image, label in pairs])
    else:
        head, features = model.sem_seg_head, model.backbone(images)
        losses = head.losses(head.layers(features), features, labels)
    sum(losses.values()).backward()
    return step_fixture["outputs"][request.param], losses, model


def test_losses_are_the_official_ones(backward: tuple) -> None:
    theirs, losses, _ = backward
    assert losses.keys() == LOSSES.keys()
    for name, official in LOSSES.items():
        expected = theirs["losses_f64"][official]
        assert losses[name].item() == pytest.approx(expected, rel=2e-5), name
    assert sum(losses.values()).item() == pytest.approx(theirs["total"].item(), rel=2e-5)


def test_every_gradient_has_the_official_norm(backward: tuple, our_names: dict[str, str]) -> None:
    theirs, _, model = backward
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms = {our_names[name]: norm for name, norm in theirs["grad_norm"].items()}
    assert gradients.keys() == norms.keys()
    noise = {our_names[name]: value for name, value in theirs["grad_err_norm_f32_vs_f64"].items()}
    for name, gradient in gradients.items():
        allowed = NOISE_FACTOR * noise[name] + 1e-7
        assert gradient.norm().item() == pytest.approx(norms[name], abs=allowed), name


def test_selected_gradients_are_the_official_ones(
    backward: tuple, our_names: dict[str, str]
) -> None:
    theirs, _, model = backward
    assert len(theirs["grad"]) == 21
    for name, gradient in theirs["grad"].items():
        ours = model.get_parameter(our_names[name]).grad
        difference = (ours - gradient.view_as(ours)).norm().item()
        allowed = NOISE_FACTOR * theirs["grad_err_norm_f32_vs_f64"][name] + 1e-7
        assert difference <= allowed, f"{name}: off by {difference:.3e}, allowed {allowed:.3e}"


def test_one_adamw_step_gives_the_official_parameters_and_statistics(
    seg_fixture: dict, step_fixture: dict, our_names: dict[str, str]
) -> None:
    cfg = tiny_cfg()
    model = official_segmentor(seg_fixture).train()
    solver = cfg.SOLVER
    groups = group_parameters(
        model, solver.PARAM_RULES, base_lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
    )
    optimizer = torch.optim.AdamW(groups)
    inputs = step_fixture["input"]
    pairs = zip(inputs["image"], inputs["gt"][:, 0].long(), strict=True)
    losses = model([{"image": image, "sem_seg": labels} for image, labels in pairs])
    sum(losses.values()).backward()
    gradients = step_fixture["outputs"]["train"]["grad"]
    noise = step_fixture["outputs"]["train"]["grad_err_norm_f32_vs_f64"]
    optimizer.step()

    after = step_fixture["outputs"]["after_step"]
    state = model.state_dict()
    lr_of = {name: group["lr"] for group in groups for name in group["names"]}
    for name, value in after["param"].items():
        ours = state[our_names[name]]
        # The first step is lr * gradient / |gradient|: rounding decides where it is tiny.
        clear = gradients[name].abs() > 1000 * noise[name] / gradients[name].numel() ** 0.5 + 1e-7
        assert clear.float().mean() > 0.8, name
        off = (ours - value.view_as(ours)).abs().view_as(clear)
        lr = lr_of[our_names[name]]
        assert off.max() <= 2.01 * lr, name
        assert off[clear].max() <= 0.02 * lr + 5e-7, name
    for name, value in after["bn"].items():
        torch.testing.assert_close(state[our_names[name]], value, rtol=1e-4, atol=1e-5)


# --------------------------------------------------------------------------- optimization


def test_parameter_groups_are_the_official_ones_name_by_name(
    golden: Path, segmentor: nn.Module, our_names: dict[str, str]
) -> None:
    official = json.loads((golden / "param_groups_seg_cityscapes.json").read_text())
    expected = {
        our_names[entry["name"]]: (entry["lr"], entry["weight_decay"])
        for entry in official["params"]
        if entry["requires_grad"] and ".time_embed." not in entry["name"]
    }
    solver = tiny_cfg().SOLVER
    groups = group_parameters(
        segmentor, solver.PARAM_RULES, base_lr=solver.BASE_LR, weight_decay=solver.WEIGHT_DECAY
    )
    ours = {
        name: (group["lr"], group["weight_decay"]) for group in groups for name in group["names"]
    }
    assert ours.keys() == expected.keys()
    for name, values in expected.items():
        assert ours[name] == pytest.approx(values), name


def test_learning_rates_are_the_official_ones(golden: Path) -> None:
    official = json.loads((golden / "lr_schedules.json").read_text())["seg_cityscapes"]
    cfg = tiny_cfg()
    parameters = [nn.Parameter(torch.zeros(1)) for _ in official["lr_mults"]]
    optimizer = torch.optim.AdamW(
        {"params": [parameter], "lr": cfg.SOLVER.BASE_LR * multiplier}
        for parameter, multiplier in zip(parameters, official["lr_mults"], strict=True)
    )
    scheduler = build_lr_scheduler(cfg, optimizer)
    iterations = [iteration for iteration, *_ in official["iter_and_lrs"]]
    assert iterations[0] == 0
    assert iterations[-1] == cfg.SOLVER.MAX_ITER - 1
    for iteration, *rates in official["iter_and_lrs"]:
        scheduler.last_epoch = iteration
        assert scheduler.get_lr() == pytest.approx(rates, rel=1e-9), iteration
