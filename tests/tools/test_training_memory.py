"""`tools/training_memory.py`: fake tensors take the room of real ones, in the documented order."""

import pytest
import torch
import training_memory
from helpers import smallest_cfg, smallest_depth_cfg
from training_memory import LADDER, count

CROP = {"INPUT.CROP.SIZE": [64, 64]}


@pytest.mark.parametrize(
    "keys",
    [
        {},
        {"SOLVER.AMP.ENABLED": True, "SOLVER.AMP.DTYPE": "bfloat16"},
        {"MODEL.DIFFUSION.GRADIENT_CHECKPOINTING": True, "SOLVER.ACCUMULATION_STEPS": 2},
        {"MODEL.DIFFUSION.LORA.RANK": 2, "SOLVER.EMA.ENABLED": True},
    ],
)
def test_fake_tensors_are_counted_as_real_ones(keys: dict) -> None:
    cfg = smallest_depth_cfg(CROP | keys)
    fake, real = count(cfg, 2), count(cfg, 2, fake=False)
    assert fake.weights == real.weights
    assert fake.gradients == real.gradients
    assert fake.states == pytest.approx(real.states, rel=0.01)
    assert fake.activations == pytest.approx(real.activations, rel=0.02)
    assert fake.peak == pytest.approx(real.peak, rel=0.05)


def test_what_is_counted_is_what_the_model_has() -> None:
    cfg = smallest_cfg(CROP)
    counted = count(cfg, 2)
    parameters = training_memory.without_memory(cfg).parameters()
    trained = sum(p.nbytes for p in parameters if p.requires_grad)
    assert counted.gradients == trained
    assert counted.states == pytest.approx(2 * trained, rel=0.01)  # AdamW's two averages
    assert counted.weights > counted.gradients
    assert counted.peak > counted.weights + counted.states + counted.activations


def test_the_ladder_leads_down() -> None:
    sizes = {"MODEL.DIFFUSION.UNET.BLOCK_OUT_CHANNELS": (32, 64, 128, 128)}
    peaks = {}
    for name, keys in LADDER.items():
        pairs = dict(zip(keys[::2], keys[1::2], strict=True))
        peaks[name] = count(smallest_depth_cfg(CROP | sizes | pairs), 2).peak
    whole = list(peaks.values())[:4]
    assert whole == sorted(whole, reverse=True)
    assert peaks["bf16, LoRA"] < peaks["bf16"]
    assert peaks["bf16, frozen UNet"] < peaks["bf16, LoRA"]
    assert peaks["bf16, checkpointing, LoRA"] < peaks["bf16, checkpointing"]
    least = peaks["bf16, checkpointing, frozen UNet"]
    assert least == min(peaks.values())


def test_the_command_prints_a_table_and_measures_a_run(capsys: pytest.CaptureFixture) -> None:
    options = ["MODEL.DIFFUSION.WEIGHTS", "", "INPUT.CROP.SIZE", "[64,64]", "MODEL.DEVICE", "cpu"]
    config = ["--config-file", "metaprompt_d2://mini/kitti_depth.yaml"]
    assert training_memory.main([*config, "--run", *options]) == 0
    output = capsys.readouterr().out
    assert "| keys          |   images |" in output
    assert "GiB, run on cpu: counted 0." in output
    assert torch.get_num_threads() == 1


def test_a_task_that_it_does_not_know_and_bad_counts_are_refused(
    capsys: pytest.CaptureFixture,
) -> None:
    config = ["--config-file", "metaprompt_d2://mini/coco_pose.yaml"]
    assert training_memory.main(config) == 1
    assert "TopDownPoseEstimator: only depth and segmentation" in capsys.readouterr().err
    for options in (["--images", "0"], ["--run", "--ladder"]):
        with pytest.raises(SystemExit):
            training_memory.main([*config, *options])
