"""Comparison with outputs, gradients and parameters of the official code (random weights)."""

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from metaprompt_d2.checkpoint import from_official

# How often its own rounding noise (float32 against float64) the official float32 value may be off.
NOISE_FACTOR = 10
FLOAT64_TOLERANCE = 1e-9

# Official names of the output head; the checkpoint holds two copies of it.
COPIES = ("cross_unet_conv2.", "cross_unet_conv3.")
OUTPUT_HEAD = "unet.unet.diffusion_model.out."


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
    """Check that all outputs are stored and within the noise."""
    for key, value in ours.items():
        tolerance = NOISE_FACTOR * noise_of(fixture, prefix + key)
        assert_near(value, fixture["outputs"][prefix + key], tolerance, prefix + key)


def assert_outputs_float64(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> None:
    for key, value in ours.items():
        assert_near(value, theirs[key], FLOAT64_TOLERANCE, key)


def names_by_conversion(official: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, str]:
    """Map official names to ours, found by converting marked tensors.

    Args:
        official: Official state dict.
        prefix: Prefix of the names of the output head and its copies.
    """
    numbers = {name: number for number, name in enumerate(official)}
    copies = tuple(prefix + copy for copy in COPIES)
    for name in official:
        if name.startswith(copies):
            part = name.removeprefix(prefix).split(".", 1)[1]
            numbers[name] = numbers[f"{prefix}{OUTPUT_HEAD}{part}"]
    marked = {name: torch.full(official[name].shape, float(numbers[name])) for name in official}
    ours = {int(value.max()): name for name, value in from_official(marked).model.items()}
    return {name: ours[number] for name, number in numbers.items() if number in ours}


def assert_gradient_norms(model: nn.Module, theirs: dict, our_names: Mapping[str, str]) -> None:
    """Check that the same parameters have gradients, with the official norms within the noise."""
    gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    norms = {our_names[name]: norm for name, norm in theirs["grad_norm"].items()}
    assert gradients.keys() == norms.keys()
    noise = {our_names[name]: value for name, value in theirs["grad_err_norm_f32_vs_f64"].items()}
    for name, gradient in gradients.items():
        off = abs(gradient.norm().item() - norms[name])
        assert off <= NOISE_FACTOR * noise[name] + 1e-7, f"{name}: off by {off:.3e}"


def assert_selected_gradients(model: nn.Module, theirs: dict, our_names: Mapping[str, str]) -> None:
    """Check the gradients that are stored completely against ours, within the noise."""
    for name, gradient in theirs["grad"].items():
        ours = model.get_parameter(our_names[name]).grad
        difference = (ours - gradient.view_as(ours)).norm().item()
        allowed = NOISE_FACTOR * theirs["grad_err_norm_f32_vs_f64"][name] + 1e-7
        assert difference <= allowed, f"{name}: off by {difference:.3e}, allowed {allowed:.3e}"


def assert_adamw_step(
    state: Mapping[str, Tensor], outputs: dict, groups: list[dict], our_names: Mapping[str, str]
) -> None:
    """Check parameters and BatchNorm statistics after the first AdamW step.

    Args:
        state: Our state dict after the step.
        outputs: Outputs of a training-step fixture.
        groups: Parameter groups of `group_parameters`.
        our_names: Maps official names to ours.
    """
    gradients = outputs["train"]["grad"]
    noise = outputs["train"]["grad_err_norm_f32_vs_f64"]
    lr_of = {name: group["lr"] for group in groups for name in group["names"]}
    for name, value in outputs["after_step"]["param"].items():
        ours = state[our_names[name]]
        # The first step is lr * gradient / |gradient|: rounding decides where it is tiny.
        clear = gradients[name].abs() > 20 * noise[name] / gradients[name].numel() ** 0.5 + 1e-7
        assert clear.float().mean() > 0.8, name
        off = (ours - value.view_as(ours)).abs().view_as(clear)
        lr = lr_of[our_names[name]]
        assert off.max() <= 2 * lr + 1e-7, name  # and a weight's own rounding
        assert off[clear].max() <= 0.02 * lr + 5e-7, name
    for name, value in outputs["after_step"]["bn"].items():
        torch.testing.assert_close(state[our_names[name]], value, rtol=1e-4, atol=1e-5)


def learning_rates(scheduler: torch.optim.lr_scheduler.LRScheduler, iteration: int) -> list[float]:
    """Return every group's learning rate at an iteration, counted from 0."""
    scheduler.last_epoch = iteration
    return scheduler.get_lr()
