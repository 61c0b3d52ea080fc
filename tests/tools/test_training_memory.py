"""`tools/training_memory.py`: fake tensors count as much as real ones, in the documented order."""

import pytest
import torch
import training_memory
from helpers import TWO_LEVELS, smallest_depth_cfg
from pose_files import smallest_pose_cfg
from training_memory import GIB, LADDER, count

CROP = {"INPUT.CROP.SIZE": [64, 64], "MODEL.META_PROMPT.REFINE_STEPS": 1}
CONVERTED = {
    "SOLVER.AMP.ENABLED": True,
    "SOLVER.AMP.DTYPE": "bfloat16",
    "SOLVER.AMP.CONVERT_FROZEN": True,
}


def as_dict(pairs: list) -> dict:
    return dict(zip(pairs[::2], pairs[1::2], strict=True))


@pytest.mark.parametrize(
    "keys",
    [
        {"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING": True, "SOLVER.ACCUMULATION_STEPS": 2},
        {"SOLVER.AMP.ENABLED": True, "MODEL.DIFFUSION.LORA.RANK": 2, "SOLVER.EMA.ENABLED": True},
        CONVERTED,
        CONVERTED | {"MODEL.DIFFUSION.LORA.RANK": 2},
    ],
)
def test_fake_tensors_are_counted_as_real_ones(keys: dict) -> None:
    cfg = smallest_depth_cfg(CROP | TWO_LEVELS | keys)
    fake, real = count(cfg, 2), count(cfg, 2, fake=False)
    assert fake.weights == real.weights
    assert fake.gradients == real.gradients
    assert fake.states == pytest.approx(real.states, rel=0.01)
    assert fake.activations == pytest.approx(real.activations, rel=0.02)
    assert fake.peak == pytest.approx(real.peak, rel=0.05)


def test_pose_is_counted_on_crops_of_people() -> None:
    cfg = smallest_pose_cfg({"INPUT.PERSON_CROP.SIZE": (64, 64)})
    fake, real = count(cfg, 2), count(cfg, 2, fake=False)
    assert fake.activations == pytest.approx(real.activations, rel=0.02)
    assert fake.peak == pytest.approx(real.peak, rel=0.05)


def test_what_is_counted_is_what_the_model_has() -> None:
    cfg = smallest_depth_cfg(CROP | TWO_LEVELS)
    counted = count(cfg, 2)
    parameters = training_memory.without_memory(cfg).parameters()
    trained = sum(p.nbytes for p in parameters if p.requires_grad)
    assert counted.gradients == trained
    assert counted.states == pytest.approx(2 * trained, rel=0.01)  # AdamW's two averages
    assert counted.weights > counted.gradients
    assert counted.peak > counted.weights + counted.states + counted.activations


def test_the_ladder_leads_down() -> None:
    sizes = {"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (64, 128)}
    peaks = {
        name: count(smallest_depth_cfg(CROP | sizes | as_dict(LADDER[name])), 2).peak
        for name in (
            "float32",
            "bf16",
            "bf16, finest level recomputed",
            "bf16, checkpointing",
            "bf16, checkpointing, LoRA",
            "bf16, checkpointing, frozen UNet",
        )
    }
    assert list(peaks.values()) == sorted(peaks.values(), reverse=True), peaks


def test_the_command_prints_a_table_and_measures_a_run(capsys: pytest.CaptureFixture) -> None:
    options = ["MODEL.DIFFUSION.WEIGHTS", "", "INPUT.CROP.SIZE", "[64,64]", "MODEL.DEVICE", "cpu"]
    options += ["MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS", "(16,32)"]
    config = ["--config-file", "metaprompt_d2://mini/kitti_depth.yaml"]
    training_memory.main([*config, "--run", *options])
    output = capsys.readouterr().out
    assert "| keys          |   images |" in output
    assert "GiB, run on cpu: counted 0." in output
    assert torch.get_num_threads() == 1


def test_an_unknown_task_and_bad_counts_are_refused() -> None:
    config = ["--config-file", "metaprompt_d2://mini/coco_pose.yaml"]
    with pytest.raises(SystemExit, match="GeneralizedRCNN: only depth, pose and segmentation"):
        training_memory.main([*config, "MODEL.META_ARCHITECTURE", "GeneralizedRCNN"])
    for options in (["--images", "0"], ["--run", "--images", "1", "2"]):
        with pytest.raises(SystemExit):
            training_memory.main([*config, *options])
    with pytest.raises(SystemExit, match="--ladder --run needs a GPU; MODEL.DEVICE is cpu"):
        training_memory.main([*config, "--ladder", "--run", "MODEL.DEVICE", "cpu"])


def test_a_ladder_run_on_a_gpu_has_the_allocators_peaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    sizes = (0, 0, 0, 0, 2 * GIB, 3 * GIB)
    monkeypatch.setattr(training_memory, "run_on_gpu", lambda cfg, images: sizes)
    config = ["--config-file", "metaprompt_d2://mini/kitti_depth.yaml"]
    training_memory.main([*config, "--ladder", "--run", "--images", "1", "4"])
    output = capsys.readouterr().out
    assert "bf16, LoRA, 4 image(s): 3.00 GiB\n" in output
    rows = [line.split("|")[1:-1] for line in output.splitlines() if line.startswith("| ")]
    assert rows[0][-1].strip() == "allocator's peak"
    assert len(rows) == 1 + 2 * len(LADDER)
    assert all([cell.strip() for cell in row[-2:]] == ["2.00", "3.00"] for row in rows[1:])
