"""Demonstrate a task on a CPU in minutes: draw a mini world, train, evaluate, draw predictions.

Segmentation (the default) is trained twice, from the mini diffusion model and from random weights,
which reproduces the paper's claim at small scale. Depth and pose are trained from the mini
diffusion model and compared with constant predictions: the training set's median depth for every
pixel, and its median pose for every box. Further config options are passed to the trainings:

    python tools/run_mini_demo.py
    python tools/run_mini_demo.py SOLVER.MAX_ITER 100
    python tools/run_mini_demo.py --task depth
    python tools/run_mini_demo.py --task pose
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from tabulate import tabulate

from metaprompt_d2.data.datasets.coco_topdown import register_people
from metaprompt_d2.data.datasets.kitti import load_kitti_eigen
from metaprompt_d2.data.readers import read_depth
from metaprompt_d2.engine import load_config
from metaprompt_d2.evaluation import TopDownKeypointEvaluator
from metaprompt_d2.metrics import compute_depth_metrics, valid_depth_mask
from metaprompt_d2.utils.errors import one_line_errors

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets"))
CONFIGS = {
    "sem_seg": "cityscapes_seg.yaml",
    "depth": "kitti_depth.yaml",
    "pose": "coco_pose.yaml",
}


def run(script: str, *arguments: str) -> float:
    """Run one of the project's scripts in the terminal; returns the seconds it took."""
    print(f"\n>>> python {script} {' '.join(arguments)}", flush=True)
    start = time.perf_counter()
    environment = os.environ | {"DETECTRON2_DATASETS": str(DATA), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, str(ROOT / script), *arguments]
    status = subprocess.run(command, env=environment).returncode
    if status != 0:
        sys.exit(status)
    return time.perf_counter() - start


def train(task: str, output_dir: str, overrides: list[str]) -> tuple[dict[str, float], float]:
    """Train and evaluate; returns the last metrics by name and the seconds it took."""
    path = config_file(task)
    config = str(path.relative_to(ROOT)) if Path.cwd() == ROOT else str(path)
    options = [*overrides, "OUTPUT_DIR", output_dir]
    seconds = run("tools/train_net.py", "--overwrite", "--config-file", config, *options)
    lines = (Path(output_dir) / "metrics.json").read_text().splitlines()
    # Evaluations are written as "<task>/<metric>".
    (*_, last) = (json.loads(line) for line in lines if "/" in line)
    return {key.rpartition("/")[2]: value for key, value in last.items()}, seconds


def config_file(task: str) -> Path:
    """Find the YAML file of a task's mini recipe."""
    return ROOT / "configs" / "mini" / CONFIGS[task]


def sem_seg_demo(cfg: CfgNode, overrides: list[str]) -> None:
    """Train from the mini diffusion model and from random weights, and compare."""
    runs = {
        "mini diffusion model": train("sem_seg", cfg.OUTPUT_DIR, overrides),
        "random weights": train(
            "sem_seg", f"{cfg.OUTPUT_DIR}_random", [*overrides, "MODEL.DIFFUSION.WEIGHTS", ""]
        ),
    }
    classes = MetadataCatalog.get(cfg.DATASETS.TEST[0]).stuff_classes
    names = [f"IoU-{name}" for name in classes] + ["mIoU", "pACC", "IoU", "iIoU", "IoU_sup"]
    rows = [[name, *(metrics[name] for metrics, _ in runs.values())] for name in names]
    # Metrics of classes that the mini world lacks are NaN.
    rows = [row for row in rows if row[1] == row[1]]
    rows.append(["minutes", *(seconds / 60 for _, seconds in runs.values())])
    print(
        f"\n{cfg.SOLVER.MAX_ITER} iterations on {torch.get_num_threads()} threads, starting from:"
    )
    print(tabulate(rows, ["", *runs], floatfmt=".1f"))
    print("mIoU: mean over the classes that occur; IoU, iIoU, IoU_sup: the official scorer")


def depth_demo(cfg: CfgNode, overrides: list[str]) -> None:
    """Train, and compare with the training set's median depth."""
    median, constant = constant_median(cfg)
    metrics, seconds = train("depth", cfg.OUTPUT_DIR, overrides)
    names = ["rmse", "abs_rel", "sq_rel", "rmse_log", "log10", "d1", "d2", "d3"]
    rows = [[name, metrics[name], constant[name]] for name in names]
    rows.append(["minutes", seconds / 60, None])
    print(f"\n{cfg.SOLVER.MAX_ITER} iterations on {torch.get_num_threads()} threads:")
    print(tabulate(rows, ["", "model", f"median ({median:.1f} m)"], floatfmt=".3f"))
    ratio = constant["rmse"] / metrics["rmse"]
    print(f"RMSE in meters: {ratio:.1f} times smaller than the constant median's")


def pose_demo(cfg: CfgNode, overrides: list[str]) -> None:
    """Train, and compare with the training set's median pose."""
    constant = constant_pose()
    metrics, seconds = train("pose", cfg.OUTPUT_DIR, overrides)
    names = ["AP", "AP50", "AP75", "APm", "AR", "AR50"]
    rows = [[name, metrics[name], constant[name]] for name in names]
    rows.append(["minutes", seconds / 60, None])
    print(f"\n{cfg.SOLVER.MAX_ITER} iterations on {torch.get_num_threads()} threads:")
    print(tabulate(rows, ["", "model", "median pose"], floatfmt=".1f"))
    print(f"COCO's metrics in %, annotated boxes, {metrics['people']:.0f} people")


def constant_pose() -> dict[str, float]:
    """Score the training set's median pose, relative to the box, in every box."""
    shares = []
    for item in DatasetCatalog.get(people("train")):
        keypoints = np.reshape(item["annotations"][0]["keypoints"], (-1, 3)).astype(float)
        box = np.array(item["person_box"])
        share = (keypoints[:, :2] - box[:2]) / box[2:]
        shares.append(np.where(keypoints[:, 2:] > 0, share, np.nan))
    # Keypoints of hidden people lie far outside of their boxes.
    median = np.nanmedian(shares, axis=0)
    evaluator = TopDownKeypointEvaluator(people("val"))
    evaluator.reset()
    for item in DatasetCatalog.get(evaluator.dataset_name):
        box = np.array(item["person_box"])
        person = Instances((item["height"], item["width"]))
        keypoints = box[:2] + median * box[2:]
        keypoints = np.concatenate([keypoints, np.ones((len(median), 1))], axis=1)
        person.pred_keypoints = torch.tensor(keypoints)[None]
        person.pred_boxes = Boxes(torch.tensor([[*box[:2], *(box[:2] + box[2:])]]))
        person.scores, person.crop_areas = torch.ones(1), torch.tensor([box[2] * box[3]])
        evaluator.process([item], [{"instances": person}])
    return evaluator.evaluate()["keypoints"]


def people(split: str) -> str:
    """Register the mini world's people and return the name of their dataset."""
    name, root = f"demo_people_{split}", DATA / "mini/coco"
    annotations = root / f"annotations/person_keypoints_{split}2017.json"
    register_people(name, str(annotations), str(root / f"{split}2017"))
    return name


def constant_median(cfg: CfgNode) -> tuple[float, dict[str, float]]:
    """Compute the training set's median depth in meters, and score it for every pixel."""
    metadata = MetadataCatalog.get(cfg.DATASETS.TEST[0])
    rules = {name: metadata.get(name) for name in ("crop", "min_depth", "max_depth")}
    median = np.median(np.concatenate([depth[depth > 0] for depth in depth_maps("train")]))
    scores = [
        compute_depth_metrics(np.full_like(truth, median), truth, valid_depth_mask(truth, **rules))
        for truth in depth_maps("test")
    ]
    return float(median), {name: np.mean([score[name] for score in scores]) for name in scores[0]}


def depth_maps(split: str) -> list[np.ndarray]:
    """Read the mini world's ground truth: maps (H, W) in meters, 0 for no value."""
    items = load_kitti_eigen(str(DATA / "mini/kitti"), split, kb_crop=False)
    return [read_depth(item["depth_file_name"], item["depth_scale"]) for item in items]


@one_line_errors()
def main(arguments: list[str] | None = None) -> None:
    """Draw the mini world if it is missing, train, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=list(CONFIGS), default="sem_seg")
    parser.add_argument("opts", nargs="*", help="config options as KEY VALUE pairs")
    args = parser.parse_args(arguments)
    if not (DATA / "mini").exists():
        run("datasets/make_mini.py", "--output", str(DATA / "mini"))
    cfg = load_config(str(config_file(args.task)), args.opts)
    demos = {"sem_seg": sem_seg_demo, "depth": depth_demo, "pose": pose_demo}
    demos[args.task](cfg, args.opts)
    pictures = Path(cfg.OUTPUT_DIR) / "inference" / cfg.DATASETS.TEST[0] / "pictures.png"
    print(f"pictures: {pictures}")


if __name__ == "__main__":
    main()
