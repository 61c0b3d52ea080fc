"""Compact fixtures, which check equality with the official code without the full outputs.

    python tests/utils/compact_fixtures.py GOLDEN_FOLDER      # writes them

A fixture contains the official code's inputs, a subsample of its outputs in float32 and float64,
the names and shapes of its weights, and the few weights that can't be regenerated.
"""

import io
import json
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from official_weights import NOT_DRAWN, digest, draw_weights

FOLDER = Path(__file__).parents[1] / "equality"

# Fixture -> prefixes of the inputs to keep. Only the first image of each is kept.
FIXTURES = {
    "unet_m64": ("a/", "odd/"),
    "seg_ade_r3_c1222": ("image", "image_120x136", "image_slide"),
    "depth_nyu_r3_c1222": ("image", "image_100x140"),
}
SAMPLES = 160  # values kept of an output
WHOLE = ("slide/pred", "slide/aug_pred")
# Aliases of other tensors, and unused buffers.
LEFT_OUT = ("cross_unet_conv", "encoder.cross_unet_conv", "sd_model.")


def subsample(value: torch.Tensor, count: int = SAMPLES) -> np.ndarray:
    """Return evenly spaced values of a tensor's first image, at most `count`."""
    flat = value[:1].detach().flatten()
    return flat[torch.linspace(0, len(flat) - 1, min(count, len(flat))).long()].numpy()


def compact(golden: Path, name: str) -> dict[str, np.ndarray]:
    """Make the arrays of a compact fixture from the full one."""
    fixture = torch.load(golden / f"{name}.pt", weights_only=True)
    exact = torch.load(golden / f"f64/{name}.pt", weights_only=True)["outputs"]
    weights = {k: v for k, v in fixture["state_dict"].items() if not k.startswith(LEFT_OUT)}
    shapes = {key: list(value.shape) for key, value in weights.items()}
    noise = fixture["meta"]["fp64_max_abs_err_and_std"]
    about = {
        "shapes": shapes,
        "digest": digest(draw_weights(shapes)),
        "noise": {key: error for key, (error, _) in noise.items()},
        "ori_shape": fixture["meta"].get("slide", {}).get("ori_shape"),
    }
    arrays = {"about": np.frombuffer(json.dumps(about).encode(), np.uint8)}
    arrays |= {f"weight/{k}": v.numpy() for k, v in weights.items() if k.endswith(NOT_DRAWN)}
    arrays |= {
        f"input/{key}": value[:1].numpy()
        for key, value in fixture["input"].items()
        if key.startswith(FIXTURES[name])
    }
    for key, value in fixture["outputs"].items():
        if key in WHOLE:
            arrays[f"output/{key}"] = value.numpy().astype(np.uint8)
        else:
            arrays[f"output/{key}"] = subsample(value)
    return arrays | {f"exact/{key}": subsample(value) for key, value in exact.items()}


@dataclass(frozen=True)
class CompactFixture:
    """A fixture with regenerated weights."""

    state_dict: dict[str, torch.Tensor]
    inputs: dict[str, torch.Tensor]  # one image each
    outputs: dict[str, np.ndarray]  # float32, subsampled
    exact: dict[str, np.ndarray]  # float64, subsampled
    noise: dict[str, float]  # the official code's own float32 noise
    same_weights: bool  # this machine draws the same numbers to the last bit
    ori_shape: tuple[int, int] | None


def load_compact(name: str) -> CompactFixture:
    """Read one of `FIXTURES`."""
    with np.load(FOLDER / f"{name}.npz") as file:
        arrays = dict(file)
    about = json.loads(arrays.pop("about").tobytes())

    def below(prefix: str) -> dict[str, np.ndarray]:
        return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}

    drawn = draw_weights(about["shapes"])
    stored = {key: torch.from_numpy(value) for key, value in below("weight/").items()}
    return CompactFixture(
        state_dict=drawn | stored,
        inputs={key: torch.from_numpy(value) for key, value in below("input/").items()},
        outputs=below("output/"),
        exact=below("exact/"),
        noise=about["noise"],
        same_weights=digest(drawn) == about["digest"],
        ori_shape=about["ori_shape"],
    )


def main() -> None:
    """Write a file per fixture. The same input gives the same bytes."""
    golden = Path(sys.argv[1])
    for name in FIXTURES:
        file = FOLDER / f"{name}.npz"
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for key, value in compact(golden, name).items():
                buffer = io.BytesIO()
                np.save(buffer, value)
                archive.writestr(zipfile.ZipInfo(f"{key}.npy"), buffer.getvalue())
        print(file, file.stat().st_size)


if __name__ == "__main__":
    main()
