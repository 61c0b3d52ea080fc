"""`torchrun tools/train_net.py` trains what `--num-gpus` trains."""

from collections.abc import Callable
from pathlib import Path

import torch
from mini_training import CONFIG, SMALL, free_port, losses, metrics_of
from scripts import run_script

ARGUMENTS = ["--config-file", CONFIG, *SMALL, "SOLVER.MAX_ITER", 2, "OUTPUT_DIR"]


def test_two_processes_of_torchrun_are_those_of_num_gpus(
    run_tool: Callable[..., str], mini_data: Path, tmp_path: Path
) -> None:
    torchrun = Path(torch.distributed.__file__).with_name("run.py")
    options = ["--standalone", "--nproc_per_node=2", "tools/train_net.py"]
    done = run_script(
        torchrun, *options, *ARGUMENTS, tmp_path / "torchrun", DETECTRON2_DATASETS=str(mini_data)
    )
    assert done.returncode == 0, done.stderr[-4000:]
    url = f"tcp://127.0.0.1:{free_port()}"
    output = run_tool(
        *("train_net.py", "--num-gpus", 2, "--dist-url", url, *ARGUMENTS, tmp_path / "num_gpus")
    )
    assert metrics_of(done.stdout) == metrics_of(output)
    assert losses(tmp_path / "torchrun") == losses(tmp_path / "num_gpus")
    found, expected = (
        torch.load(tmp_path / run / "model_final.pth", weights_only=True)["model"]
        for run in ("torchrun", "num_gpus")
    )
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
