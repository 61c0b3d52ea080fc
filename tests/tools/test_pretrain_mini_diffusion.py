"""Runs the real pre-training tool on small pictures, and reads the model that is shipped."""

import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, DDPMScheduler, UNet2DConditionModel
from mini_diffusion.images import load_images, shrink, to_tensor
from mini_diffusion.models import build_vae, fold_scale
from safetensors.torch import load_file
from scripts import ROOT, run_script

SHIPPED = ROOT / "configs/mini/diffusion"


def run_tool(images: Path, folder: Path) -> subprocess.CompletedProcess:
    arguments = "--vae-iterations 3 --unet-iterations 3 --vae-batch-size 2 --batch-size 2 --views 1"
    arguments += " --image-height 64 --image-width 128 --threads 1"
    paths = ["--images", images, "--output", folder / "model", "--samples", folder / "picture.png"]
    return run_script("tools/pretrain_mini_diffusion.py", *arguments.split(), *paths)


def load_weights(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model's folder, by file and name."""
    return {
        f"{path.relative_to(folder)}/{name}": tensor
        for path in sorted(folder.rglob("*.safetensors"))
        for name, tensor in load_file(path).items()
    }


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten pictures of colored blocks to train on and two to test on, 64 x 128."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for split, count in (("train", 10), ("val", 2)):
        (root / split / "town").mkdir(parents=True)
        for i in range(count):
            blocks = rng.integers(256, size=(4, 8, 3), dtype=np.uint8)
            picture = cv2.resize(blocks, (128, 64), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(root / split / "town" / f"{i}.png"), picture)
    return root


@pytest.fixture(scope="module")
def folders(images: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The folders of two runs with the same seed."""
    folders = [tmp_path_factory.mktemp("run") for _ in range(2)]
    for folder in folders:
        done = run_tool(images, folder)
        assert done.returncode == 0, done.stderr[-4000:]
    return folders


def test_run_writes_a_diffusers_folder_in_half_precision(folders):
    model = folders[0] / "model"
    vae = AutoencoderKL.from_pretrained(model, subfolder="vae", local_files_only=True)
    unet = UNet2DConditionModel.from_pretrained(model, subfolder="unet", local_files_only=True)
    scheduler = DDPMScheduler.from_pretrained(model, subfolder="scheduler", local_files_only=True)
    assert vae.config.scaling_factor == 1
    assert unet.config.in_channels == vae.config.latent_channels
    assert scheduler.config.beta_schedule == "scaled_linear"
    assert all(tensor.dtype == torch.float16 for tensor in load_weights(model).values())
    assert cv2.imread(str(folders[0] / "picture.png")) is not None
    assert sorted(path.name for path in folders[0].iterdir()) == ["model", "picture.png"]


def test_latents_of_training_images_have_unit_deviation(folders, images):
    vae = AutoencoderKL.from_pretrained(folders[0] / "model", subfolder="vae").float()
    pictures = load_images(images / "train", 64, 128)
    with torch.no_grad():
        batch = to_tensor([shrink(picture) for picture in pictures])
        latents = vae.encode(batch).latent_dist.mean
    assert 0.8 < latents.std().item() < 1.25


def test_same_seed_gives_the_same_files(folders):
    first, second = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.*")}
        for folder in folders
    )
    assert first == second


def test_folding_a_scale_keeps_the_reconstruction():
    torch.manual_seed(0)
    vae = build_vae(64, 64).eval().double()
    image = torch.randn(2, 3, 64, 64, dtype=torch.float64)

    @torch.no_grad()
    def run() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        posterior = vae.encode(image).latent_dist
        sample = posterior.sample(torch.Generator().manual_seed(0))
        return posterior.mean, vae.decode(posterior.mean).sample, vae.decode(sample).sample

    mean, image_of_mean, image_of_sample = run()
    fold_scale(vae, 2.5)
    folded = run()
    torch.testing.assert_close(folded[0], 2.5 * mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(folded[1], image_of_mean, atol=1e-5, rtol=0)
    torch.testing.assert_close(folded[2], image_of_sample, atol=1e-5, rtol=0)


def test_folder_without_images_is_an_error_that_names_it(tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run_tool(empty, tmp_path)
    assert done.returncode != 0
    assert str(empty) in done.stderr and "datasets/make_mini.py" in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == [empty]


def test_shipped_model_is_small_finite_and_in_half_precision():
    weights = load_weights(SHIPPED)
    assert {name.split("/")[0] for name in weights} >= {"vae", "unet", "context.safetensors"}
    assert sum(path.stat().st_size for path in SHIPPED.rglob("*") if path.is_file()) < 10e6
    assert sum(tensor.numel() for tensor in weights.values()) < 5e6
    for name, tensor in weights.items():
        assert tensor.dtype == torch.float16, name
        assert tensor.isfinite().all(), name
