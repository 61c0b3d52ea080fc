"""The whole story on a CPU in minutes: draw a world, train on it twice, compare.

Segmentation is trained on the mini world from the mini diffusion model and, beside it, from random
weights: the paper's claim in the small. Further config options are passed to both trainings:

    python tools/run_mini_demo.py
    python tools/run_mini_demo.py SOLVER.MAX_ITER 100
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import torch
from detectron2.data import MetadataCatalog
from tabulate import tabulate

from metaprompt_d2.engine import load_config

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs" / "mini" / "cityscapes_seg.yaml"
DATA = Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets"))


def run(script: str, *arguments: str) -> float:
    """Run one of the project's scripts, its output on the terminal; returns the seconds."""
    print(f"\n>>> python {script} {' '.join(arguments)}", flush=True)
    start = time.perf_counter()
    environment = os.environ | {"DETECTRON2_DATASETS": str(DATA), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(ROOT / script), *arguments]
    status = subprocess.run(command, env=environment).returncode
    if status != 0:
        sys.exit(status)
    return time.perf_counter() - start


def train(output_dir: str, overrides: list[str]) -> tuple[dict[str, float], float]:
    """Train and evaluate; returns the last figures by name and the seconds it took."""
    config = str(CONFIG.relative_to(ROOT)) if Path.cwd() == ROOT else str(CONFIG)
    options = [*overrides, "OUTPUT_DIR", output_dir]
    seconds = run("tools/train_net.py", "--config-file", config, *options)
    lines = (Path(output_dir) / "metrics.json").read_text().splitlines()
    figures = next(line for line in map(json.loads, reversed(lines)) if "sem_seg/mIoU" in line)
    return {key.removeprefix("sem_seg/"): value for key, value in figures.items()}, seconds


def main(overrides: list[str]) -> None:
    """Make the data where it is missing, train twice, print the table."""
    if not (DATA / "mini").exists():
        run("datasets/make_mini.py", "--output", str(DATA / "mini"))
    cfg = load_config(str(CONFIG), overrides)
    runs = {
        "mini diffusion model": train(cfg.OUTPUT_DIR, overrides),
        "random weights": train(
            f"{cfg.OUTPUT_DIR}_random", [*overrides, "MODEL.DIFFUSION.WEIGHTS", ""]
        ),
    }
    test_set = cfg.DATASETS.TEST[0]
    classes = MetadataCatalog.get(test_set).stuff_classes
    names = [f"IoU-{name}" for name in classes] + ["mIoU", "pACC", "IoU", "iIoU", "IoU_sup"]
    rows = [[name, *(figures[name] for figures, _ in runs.values())] for name in names]
    # Classes that the world doesn't have are NaN.
    rows = [row for row in rows if row[1] == row[1]]
    rows.append(["minutes", *(seconds / 60 for _, seconds in runs.values())])
    threads = f"{torch.get_num_threads()} threads"
    print(f"\n{cfg.SOLVER.MAX_ITER} iterations on {threads}, starting from:")
    print(tabulate(rows, ["", *runs], floatfmt=".1f"))
    print("mIoU: mean over the classes that occur; IoU, iIoU, IoU_sup: the official scorer")
    print(f"pictures: {Path(cfg.OUTPUT_DIR) / 'inference' / test_set / 'pictures.png'}")


if __name__ == "__main__":
    main(sys.argv[1:])
