"""Demonstrate a task on a CPU in minutes: draw a mini world, train, evaluate, draw predictions.

Segmentation (the default) is trained twice, from the mini diffusion model and from random weights,
which reproduces the paper's claim at small scale. Depth and pose are trained from the mini
diffusion model and compared with constant predictions: the training set's median depth for every
pixel, and its median pose for every box. Pose is trained twice: people have COCO's 17 keypoints,
dogs have nine of their own. Panoptic segmentation trains Mask2Former's head and compares its mIoU
with that of the demo of segmentation, if that has been run. Further config options are passed to
the trainings:

    python tools/run_mini_demo.py
    python tools/run_mini_demo.py SOLVER.MAX_ITER 100
    python tools/run_mini_demo.py --task depth
    python tools/run_mini_demo.py --task pose
    python tools/run_mini_demo.py --task panoptic
"""

import argparse
import json
import math
import os
import re
import shlex
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import numpy as np
import torch
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, Instances
from tabulate import tabulate

from metaprompt_d2.data.datasets.kitti import load_kitti_eigen
from metaprompt_d2.data.datasets.mini import register_mini_coco
from metaprompt_d2.data.readers import read_depth, read_image
from metaprompt_d2.engine import load_config
from metaprompt_d2.evaluation import TopDownKeypointEvaluator
from metaprompt_d2.metrics import compute_depth_metrics, valid_depth_mask
from metaprompt_d2.utils.errors import one_line_errors
from metaprompt_d2.utils.files import write_png
from metaprompt_d2.visualization import stack_rows

ROOT = Path(__file__).resolve().parent.parent
DATA = Path(os.environ.get("DETECTRON2_DATASETS", ROOT / "datasets"))
_PROGRESS = re.compile(r"iter: (?P<iter>\d+) +total_loss: (?P<loss>\S+)")  # Detectron2's log

CONFIGS = {
    "sem_seg": "cityscapes_seg.yaml",
    "depth": "kitti_depth.yaml",
    "pose": "coco_pose.yaml",
    "panoptic": "cityscapes_panoptic.yaml",
}
ANIMALS = "animal_pose.yaml"  # the second training of pose


def run(script: str, *arguments: str, max_iter: int = 0, **settings: str) -> float:
    """Run one of the project's scripts and print its progress, but not its log.

    Args:
        script: Path below the project's root.
        arguments: Arguments of the script.
        max_iter: Number of iterations of a training, of which every tenth part is reported.
        settings: Environment variables of the script.

    Returns:
        The seconds it took.
    """
    command = [_short(Path(sys.executable)), _short(ROOT / script), *arguments]
    assignments = "".join(f"{name}={value} " for name, value in settings.items())
    print(f"\n>>> {assignments}{shlex.join(command)}", flush=True)
    start = time.perf_counter()
    settings |= {"DETECTRON2_DATASETS": str(DATA), "PYTHONUNBUFFERED": "1"}
    last: deque[str] = deque(maxlen=40)
    reported = 0
    with subprocess.Popen(
        command,
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
    ) as process:
        for line in process.stdout or ():
            last.append(line)
            progress = _PROGRESS.search(line)
            if progress and int(progress["iter"]) + 1 >= reported + max_iter / 10:
                reported = int(progress["iter"]) + 1
                seconds = time.perf_counter() - start
                print(
                    f"iteration {reported} of {max_iter}, loss {progress['loss']}, {seconds:.0f} s",
                    flush=True,
                )
    if process.returncode != 0:
        print("".join(last), end="", file=sys.stderr)
        sys.exit(
            f"error: {script} ended with status {process.returncode}; above are its last lines"
        )
    return time.perf_counter() - start


def _short(path: Path) -> str:
    """Write a path relative to the current folder if it is below it, so that it can be pasted."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def train(
    config: str,
    cfg: CfgNode,
    overrides: list[str],
    output_dir: str | None = None,
    *,
    alone: bool = False,
) -> tuple[dict[str, float], float]:
    """Train and evaluate; returns the last metrics by name and the seconds it took.

    On several cores several processes share the training, unless `alone`.
    """
    output_dir = output_dir or cfg.OUTPUT_DIR
    options = ["--config-file", _short(config_file(config)), *overrides, "OUTPUT_DIR", output_dir]
    flags, settings = ["--overwrite"], {}
    if not alone and (processes := cpu_processes(cfg)) > 1:
        flags += ["--num-gpus", str(processes), "--dist-url", "auto"]
        settings["OMP_NUM_THREADS"] = str(torch.get_num_threads() // processes)
    max_iter = cfg.SOLVER.MAX_ITER
    seconds = run("tools/train_net.py", *flags, *options, max_iter=max_iter, **settings)
    print(f"the training's log: {Path(output_dir) / 'log.txt'}")
    return last_metrics(output_dir), seconds


def last_metrics(output_dir: str) -> dict[str, float]:
    """Read the metrics of a training's last evaluation by name."""
    lines = (Path(output_dir) / "metrics.json").read_text().splitlines()
    # Evaluations are written as "<task>/<metric>".
    (*_, last) = (json.loads(line) for line in lines if "/" in line)
    return {key.rpartition("/")[2]: value for key, value in last.items()}


def cpu_processes(cfg: CfgNode) -> int:
    """Count the processes that share a training on CPUs evenly, with pairs of images.

    The small layers of the mini recipes gain more from a second process than from a second thread.
    With one image, a process would spend most of its time on starting layers.
    """
    batch_size = cfg.SOLVER.IMS_PER_BATCH // cfg.SOLVER.ACCUMULATION_STEPS
    if cfg.MODEL.DEVICE != "cpu" or batch_size % 2:
        return 1
    return math.gcd(batch_size // 2, torch.get_num_threads())


def config_file(name: str) -> Path:
    """Find the YAML file of a mini recipe."""
    return ROOT / "configs" / "mini" / name


def pictures(cfg: CfgNode, output_dir: str | None = None) -> Path:
    """Find the pictures of predictions that a training has drawn."""
    return Path(output_dir or cfg.OUTPUT_DIR, "inference", cfg.DATASETS.TEST[0], "pictures.png")


def sem_seg_demo(cfg: CfgNode, overrides: list[str]) -> Path:
    """Train from the mini diffusion model and from random weights, and compare.

    Returns:
        The file of pictures, as in the other demos.
    """
    runs = {
        "mini diffusion model": train(CONFIGS["sem_seg"], cfg, overrides),
        "random weights": train(
            CONFIGS["sem_seg"],
            cfg,
            [*overrides, "MODEL.DIFFUSION.WEIGHTS", ""],
            output_dir=f"{cfg.OUTPUT_DIR}_random",
        ),
    }
    classes = MetadataCatalog.get(cfg.DATASETS.TEST[0]).stuff_classes
    names = [f"IoU-{name}" for name in classes] + ["mIoU", "pACC", "IoU", "iIoU", "IoU_sup"]
    rows = [[name, *(metrics.get(name, np.nan) for metrics, _ in runs.values())] for name in names]
    # Classes that the mini world lacks have no metrics.
    rows = [row for row in rows if row[1] == row[1]]
    rows.append(["minutes", *(seconds / 60 for _, seconds in runs.values())])
    print(f"\n{cfg.SOLVER.MAX_ITER} iterations on {torch.get_num_threads()} cores, starting from:")
    print(tabulate(rows, ["", *runs], floatfmt=".1f"))
    print("mIoU: mean over the classes that occur; IoU, iIoU, IoU_sup: the official scorer")
    return pictures(cfg)


def depth_demo(cfg: CfgNode, overrides: list[str]) -> Path:
    """Train, and compare with the training set's median depth."""
    median, constant = constant_median(cfg)
    # Its BatchNorm isn't synchronized: several processes would train something else.
    metrics, seconds = train(CONFIGS["depth"], cfg, overrides, alone=True)
    names = ["rmse", "abs_rel", "sq_rel", "rmse_log", "log10", "d1", "d2", "d3"]
    rows = [[name, metrics[name], constant[name]] for name in names]
    rows.append(["minutes", seconds / 60, None])
    print(f"\n{cfg.SOLVER.MAX_ITER} iterations on {torch.get_num_threads()} cores:")
    print(tabulate(rows, ["", "model", f"median ({median:.1f} m)"], floatfmt=".3f"))
    ratio = constant["rmse"] / metrics["rmse"]
    print(f"RMSE in meters: {ratio:.1f} times smaller than the constant median's")
    return pictures(cfg)


def pose_demo(cfg: CfgNode, overrides: list[str]) -> Path:
    """Train on people and on dogs, and compare with the training sets' median poses."""
    register_mini_coco(str(DATA), prefix="demo_mini_")
    animals = load_config(str(config_file(ANIMALS)), overrides)
    runs = {
        "people": (CONFIGS["pose"], cfg, cfg.OUTPUT_DIR),
        "dogs": (ANIMALS, animals, f"{cfg.OUTPUT_DIR}_animals"),
    }
    columns, minutes, drawn = {}, [], []
    for kind, (config, settings, output_dir) in runs.items():
        columns[kind], seconds = train(config, settings, overrides, output_dir)
        columns[f"median {kind}"] = constant_pose(settings)
        minutes += [seconds / 60, None]
        drawn.append(read_image(str(pictures(settings, output_dir)), "RGB"))
    names = ["AP", "AP50", "AP75", "APm", "AR", "AR50"]
    rows = [[name, *(metrics.get(name) for metrics in columns.values())] for name in names]
    counts = f"{cfg.SOLVER.MAX_ITER} iterations on people, {animals.SOLVER.MAX_ITER} on dogs"
    print(f"\n{counts}, {torch.get_num_threads()} cores:")
    print(tabulate([*rows, ["minutes", *minutes]], ["", *columns], floatfmt=".1f"))
    found = " and ".join(f"{columns[kind]['people']:.0f} {kind}" for kind in runs)
    print(f"COCO's metrics in %, annotated boxes, {found}; median: the same pose in every box")
    file = Path(cfg.OUTPUT_DIR) / "pictures.png"
    write_png(stack_rows(drawn), file)
    return file


def panoptic_demo(cfg: CfgNode, overrides: list[str]) -> Path:
    """Train Mask2Former's head, and compare its mIoU with UPerNet's of the other demo."""
    metrics, seconds = train(CONFIGS["panoptic"], cfg, overrides)
    other = load_config(str(config_file(CONFIGS["sem_seg"])), []).OUTPUT_DIR
    columns = {"Mask2Former": metrics}
    if Path(other, "metrics.json").is_file():
        columns["UPerNet (make demo)"] = last_metrics(other)
    names = ["PQ", "SQ", "RQ", "PQ_th", "PQ_st", "mIoU", "pACC"]
    rows = [[name, *(column.get(name) for column in columns.values())] for name in names]
    rows.append(["minutes", seconds / 60])
    print(f"\n{cfg.SOLVER.MAX_ITER} iterations on {torch.get_num_threads()} threads:")
    print(tabulate(rows, ["", *columns], floatfmt=".1f"))
    print("PQ, SQ, RQ: panoptic quality of all classes; PQ_th: of things; PQ_st: of stuff")
    if len(columns) == 1:
        print("`make demo` trains UPerNet on the same images; its mIoU is then shown here, too")
    return pictures(cfg)


def constant_pose(cfg: CfgNode) -> dict[str, float]:
    """Score the training set's median pose, relative to the box, in every box."""
    shares = []
    for item in DatasetCatalog.get(f"demo_{cfg.DATASETS.TRAIN[0]}"):
        keypoints = np.reshape(item["annotations"][0]["keypoints"], (-1, 3)).astype(float)
        box = np.array(item["person_box"])
        share = (keypoints[:, :2] - box[:2]) / box[2:]
        shares.append(np.where(keypoints[:, 2:] > 0, share, np.nan))
    # Keypoints of hidden people lie far outside of their boxes.
    median = np.nanmedian(shares, axis=0)
    evaluator = TopDownKeypointEvaluator(f"demo_{cfg.DATASETS.TEST[0]}")
    evaluator.reset()
    for item in DatasetCatalog.get(evaluator.dataset_name):
        box = np.array(item["person_box"])
        person = Instances((item["height"], item["width"]))
        keypoints = box[:2] + median * box[2:]
        keypoints = np.concatenate([keypoints, np.ones((len(median), 1))], axis=1)
        person.pred_keypoints = torch.tensor(keypoints)[None]
        person.pred_boxes = Boxes(torch.tensor([[*box[:2], *(box[:2] + box[2:])]]))
        person.pred_classes = torch.tensor([item["category_id"]])
        person.scores, person.crop_areas = torch.ones(1), torch.tensor([box[2] * box[3]])
        evaluator.process([item], [{"instances": person}])
    return evaluator.evaluate()["keypoints"]


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
    if not (DATA / "mini/cityscapes/gtFine/panoptic_train.json").exists():  # the newest part
        run("datasets/make_mini.py", "--output", str(DATA / "mini"))
    cfg = load_config(str(config_file(CONFIGS[args.task])), args.opts)
    demos = {
        "sem_seg": sem_seg_demo,
        "depth": depth_demo,
        "pose": pose_demo,
        "panoptic": panoptic_demo,
    }
    print(f"pictures: {demos[args.task](cfg, args.opts)}")
    if sys.prefix != sys.base_prefix:  # a virtual environment
        activate = shlex.join(["source", f"{_short(Path(sys.prefix))}/bin/activate"])
        print(f"to use the package's environment in this terminal: {activate}")


if __name__ == "__main__":
    main()
