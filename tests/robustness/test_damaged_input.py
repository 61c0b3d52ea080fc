"""Hundreds of damaged inputs, seeded: every tool ends in success or in one line of error."""

import json
import math
import os
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import convert_checkpoint
import cv2
import numpy as np
import pytest
import torch
import visualize_data
import visualize_predictions
import yaml
from command_lines import main_of
from damage import ABSURD, damage_file, damage_json_file
from depth_files import write_depth, write_kitti_frame
from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.engine import default_argument_parser, defaults
from helpers import TWO_LEVELS, smallest_cfg, smallest_depth_cfg
from id_schemes import rename
from pose_files import detection, person, smallest_pose_cfg, write_detections, write_people
from random_weights import random_weights
from robustness_cases import run_cases
from safetensors.torch import save_file

from metaprompt_d2.data import register_keypoints, register_sem_seg_folders
from metaprompt_d2.data.datasets.coco_topdown import COCO_PERSON
from metaprompt_d2.data.datasets.kitti import load_kitti_eigen
from metaprompt_d2.engine import launch_main, load_model, train_or_evaluate

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets"
CLASSES = ["road", "car", "sky"]
SEM_SEG = TWO_LEVELS | {
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": 3,
    "MODEL.SEM_SEG_HEAD.NORM": "",
    "MODEL.META_PROMPT.REFINE_STEPS": 1,
    "TEST.SLIDING_WINDOW.ENABLED": False,
    "TEST.NUM_PICTURES": 1,
    "SOLVER.BEST_METRIC": "",
    "SOLVER.IMS_PER_BATCH": 1,
    "SOLVER.MAX_ITER": 1,
    "DATALOADER.NUM_WORKERS": 0,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MAX_SIZE_TRAIN": 64,
    "INPUT.MIN_SIZE_TEST": 0,
    "INPUT.CROP.SIZE": [64, 64],
}


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Datasets are registered for a case; Detectron2's set-up takes long to look at the machine.

    And to find three keys, for which it parses the config each time.
    """

    def get(cfg: CfgNode, *keys: str, default: object = None) -> object:
        return next((cfg[key] for key in keys if key in cfg), default)

    monkeypatch.setattr(defaults, "collect_env_info", lambda: "")
    monkeypatch.setattr(defaults, "_try_get_key", get)
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)


def train_net(argv: list[str]) -> None:
    launch_main(train_or_evaluate, default_argument_parser().parse_args(argv))


def script(name: str) -> Callable[[list[str]], None]:
    """The command line of `datasets/<name>.py`."""
    return main_of(SCRIPTS / f"{name}.py")


def sem_seg_data(folder: Path) -> str:
    """Two images of three classes; returns the name they are registered under."""
    random = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for index in range(2):
        image = random.integers(0, 256, (64, 64, 3), np.uint8)
        file = folder / f"images/{index}.{('png', 'jpg')[index]}"
        cv2.imwrite(str(file), image)
        cv2.imwrite(str(folder / f"labels/{index}.png"), image[..., 0] % 3)
    name = str(folder)
    register_sem_seg_folders(name, str(folder / "images"), str(folder / "labels"), CLASSES)
    return name


def depth_data(folder: Path) -> str:
    """Two images with depth in KITTI's layout, and a list of them."""
    random = np.random.default_rng(0)
    lines = []
    for index in range(2):
        image, depth = folder / f"a/{index}.png", folder / f"b/{index}.png"
        write_depth(depth, random.integers(0, 20000, (64, 64)))
        image.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(image), random.integers(0, 256, (64, 64, 3), np.uint8))
        lines.append(f"/a/{index}.png /b/{index}.png 721.5")
    (folder / "train_list.txt").write_text("\n".join(lines) + "\n")
    name = str(folder)
    DatasetCatalog.register(name, lambda: load_kitti_eigen(name, "train", kb_crop=False))
    MetadataCatalog.get(name).set(evaluator_type="depth", min_depth=1e-3, max_depth=80.0)
    MetadataCatalog.get(name).set(crop="none", data_root=name, kb_crop=False)
    return name


def people_data(folder: Path, detected: bool) -> str:
    """Three people on two images."""
    file = write_people(folder, [person(1), person(2), person(3, image_id=2)])
    found = write_detections(folder, [detection(), detection(2, 0.5)]) if detected else None
    name = str(folder)
    register_keypoints(
        name, str(file), name, detections_file=None if found is None else str(found), **COCO_PERSON
    )
    return name


def drawing(config: str, name: str, case: Path, source: str) -> tuple[Callable, list[str]]:
    """`visualize_data.py` on a dataset."""
    argv = ["--source", source, "--config-file", config, "--output-dir", str(case / "output")]
    return visualize_data.main, [*argv, "--num-images", "2", "DATASETS.TRAIN", f"('{name}',)"]


@pytest.fixture(scope="module")
def configs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """YAML of the smallest model of each task."""
    folder = tmp_path_factory.mktemp("configs")
    made = {
        "sem_seg": smallest_cfg(SEM_SEG),
        "depth": smallest_depth_cfg(TWO_LEVELS | {"INPUT.CROP.SIZE": [64, 64]}),
        "pose": smallest_pose_cfg({"DATALOADER.NUM_WORKERS": 0}),
    }
    for task, cfg in made.items():
        (folder / f"{task}.yaml").write_text(cfg.dump())
    return {task: str(folder / f"{task}.yaml") for task in made}


# ------------------------------------------------------------------ configs


def leaves(node: dict, prefix: str = "") -> list[str]:
    found = []
    for key, value in node.items():
        found += leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else [prefix + key]
    return found


# What no training of this kind reads, or what takes long where it is right.
UNREAD = ("RPN", "ROI_", "FPN", "PANOPTIC", "RETINANET", "RESNETS", "ANCHOR", "PROPOSAL", "GLOBAL")

# Of the right type, to get past the check of types.
LIKELY = {
    bool: [True, False],
    int: [-1, 0, 1, 2, 10**15],
    float: [-1.0, 0.0, 1e30, math.nan, math.inf],
    str: ["", "x", "two words", "/nowhere"],
    list: [[], [0], [-1, -1], [64, 64], [1, 2, 3], ["x"], [10**15, 1], [[1, 2]], [0.5, 2.0]],
}


def test_absurd_values_of_config_keys(configs: dict[str, str], tmp_path: Path) -> None:
    content = yaml.safe_load(Path(configs["sem_seg"]).read_text())
    content["TEST"]["AUG"]["MIN_SIZES"] = [48, 64]  # Detectron2's make minutes of such windows
    keys = [key for key in leaves(content) if not any(name in key for name in UNREAD)]
    name = sem_seg_data(tmp_path / "data")

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        changed = json.loads(json.dumps(content))
        key = random.choice(keys)
        *path, last = key.split(".")
        node = changed
        for part in path:
            node = node[part]
        choices = ABSURD if random.random() < 0.3 else LIKELY.get(type(node[last]), ABSURD)
        node[last] = random.choice(choices)
        if random.random() < 0.1:
            node[f"{last}S"] = node.pop(last)
        file = case / "config.yaml"
        file.write_text(yaml.safe_dump(changed))
        options = ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]
        argv = ["--config-file", str(file), *options, "OUTPUT_DIR", str(case / "output")]
        return f"{key} = {node.get(last)!r}", train_net, argv

    assert not run_cases("values", 50, prepare, tmp_path)


def test_damaged_config_files(configs: dict[str, str], tmp_path: Path) -> None:
    name = sem_seg_data(tmp_path / "data")

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        base, file = case / "base.yaml", case / "config.yaml"
        base.write_bytes(Path(configs["sem_seg"]).read_bytes())
        file.write_text("_BASE_: base.yaml\nSOLVER: {MAX_ITER: 2}\n")
        what = damage_file(random.choice((base, file)), random)
        return (what, *drawing(str(file), name, case, "annotation"))

    assert not run_cases("config files", 40, prepare, tmp_path)


def test_overrides_and_flags(configs: dict[str, str], tmp_path: Path) -> None:
    words = ["--config-file", "--eval-only", "--resume", "--num-gpus", "-1", "x", "MODEL.WEIGHTS"]
    words += ["SOLVER.MAX_ITER", "a.b", "", "MODEL", "[", "('", "!!python/name:os.system", "None"]

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        argv = random.choices(words, k=random.randrange(1, 5))
        return "words", train_net, [*argv, "OUTPUT_DIR", str(case / "output")]

    assert not run_cases("words", 40, prepare, tmp_path)


# ------------------------------------------------------------------ images and annotations


@pytest.mark.parametrize("task", ["sem_seg", "depth"])
def test_damaged_images_and_maps(task: str, configs: dict[str, str], tmp_path: Path) -> None:
    make = {"sem_seg": sem_seg_data, "depth": depth_data}[task]

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        name = make(case / "data")
        file = random.choice(sorted(path for path in Path(name).rglob("*.*") if path.is_file()))
        what = damage_file(file, random)
        source = random.choice(("annotation", "dataloader"))
        return (f"{file.name}: {what}", *drawing(configs[task], name, case, source))

    assert not run_cases(f"{task} files", 50, prepare, tmp_path)


@pytest.mark.parametrize("task", ["sem_seg", "depth"])
def test_training_and_evaluation_on_damaged_files(
    task: str, configs: dict[str, str], tmp_path: Path
) -> None:
    make = {"sem_seg": sem_seg_data, "depth": depth_data}[task]

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        name = make(case / "data")
        file = random.choice(sorted(path for path in Path(name).rglob("*.*") if path.is_file()))
        what = damage_file(file, random)
        options = ["DATASETS.TRAIN", f"('{name}',)", "DATASETS.TEST", f"('{name}',)"]
        options += ["SOLVER.IMS_PER_BATCH", "1", "SOLVER.MAX_ITER", "2"]
        options += ["DATALOADER.NUM_WORKERS", str(random.randrange(2)), "SOLVER.BEST_METRIC", ""]
        options += random_weights(configs[task])
        argv = ["--config-file", configs[task], *options, "OUTPUT_DIR", str(case / "output")]
        return f"{file.name}: {what}", train_net, ["--eval-only"] * random.randrange(2) + argv

    assert not run_cases(f"{task} training", 12, prepare, tmp_path)


@pytest.mark.parametrize("detected", [False, True], ids=["annotated", "detected"])
def test_damaged_annotations_of_people(
    detected: bool, configs: dict[str, str], tmp_path: Path
) -> None:
    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        name = people_data(case / "data", detected)
        file = case / "data" / ("detections.json" if detected else "people.json")
        what = damage_json_file(file, random)
        return (what, *drawing(configs["pose"], name, case, "annotation"))

    assert not run_cases(f"people, detected {detected}", 50, prepare, tmp_path)


def test_damaged_annotations_in_an_evaluation(configs: dict[str, str], tmp_path: Path) -> None:
    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        name = people_data(case / "data", False)
        file = case / "data/people.json"
        content, *_ = rename(json.loads(file.read_text()), random)  # ids of any kind
        file.write_text(json.dumps(content))
        what = damage_json_file(file, random)
        options = ["DATASETS.TEST", f"('{name}',)", "OUTPUT_DIR", str(case / "output")]
        options += random_weights(configs["pose"])
        return what, train_net, ["--eval-only", "--config-file", configs["pose"], *options]

    assert not run_cases("people evaluated", 10, prepare, tmp_path)


# ------------------------------------------------------------------ weights


class Payload:
    """A pickle that would make a folder if it were run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def damaged_weights(file: Path, state_dict: dict[str, torch.Tensor], random: Random) -> str:
    """Write a damaged checkpoint of one of several kinds."""
    kind = random.choice(("bytes", "bytes", "shape", "names", "nan", "type", "code"))
    tensors = dict(state_dict)
    chosen = random.choice(sorted(tensors))
    if kind == "shape":
        tensors[chosen] = torch.zeros(random.choice(((), (0,), (3, 5), (1, 1, 1, 1, 1))))
    elif kind == "names":
        tensors[random.choice(("", "a.b", "backbone.x"))] = tensors.pop(chosen)
    elif kind == "nan":
        tensors[chosen] = torch.full_like(tensors[chosen], float("nan"))
    if file.suffix == ".safetensors":
        save_file({name: value.contiguous() for name, value in tensors.items()}, file)
    elif kind == "type":
        content = random.choice(ABSURD)
        torch.save(random.choice((content, {"model": content}, {"state_dict": content})), file)
    elif kind == "code":
        content = {"model": tensors, "more": Payload(file.with_name("made"))}
        if random.random() < 0.5:
            torch.save(content, file)
        else:
            file.write_bytes(pickle.dumps(content))
    elif file.suffix == ".pkl":
        arrays = {name: value.numpy() for name, value in tensors.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "__author__": "x"}))
    else:
        torch.save({"model": tensors, "iteration": 3}, file)
    if kind == "bytes":
        damage_file(file, random)
    return f"{file.name}: {kind}"


@pytest.fixture(scope="module")
def state_dict(configs: dict[str, str]) -> dict[str, torch.Tensor]:
    """Weights of the smallest segmentation model."""
    return load_model(smallest_cfg(SEM_SEG), require_weights=False).state_dict()


ENDINGS = ("pth", "ckpt", "safetensors", "pkl")


def test_damaged_checkpoints_are_not_converted(
    state_dict: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        file = case / f"weights.{random.choice(ENDINGS)}"
        what = damaged_weights(file, state_dict, random)
        argv = [str(file), str(case / "output/converted.pth"), "--to"]
        return what, convert_checkpoint.main, [*argv, random.choice(("ours", "official"))]

    assert not run_cases("converted", 50, prepare, tmp_path)
    assert not list(tmp_path.rglob("made"))


def test_damaged_checkpoints_are_not_evaluated(
    configs: dict[str, str], state_dict: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    name = sem_seg_data(tmp_path / "data")

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        file = case / f"weights.{random.choice(ENDINGS)}"
        what = damaged_weights(file, state_dict, random)
        options = ["DATASETS.TEST", f"('{name}',)", "MODEL.WEIGHTS", str(file)]
        argv = ["--eval-only", "--config-file", configs["sem_seg"], *options]
        return what, train_net, [*argv, "OUTPUT_DIR", str(case / "output")]

    assert not run_cases("evaluated", 25, prepare, tmp_path)
    assert not list(tmp_path.rglob("made"))


def test_damaged_diffusion_models(configs: dict[str, str], tmp_path: Path) -> None:
    name = sem_seg_data(tmp_path / "data")
    unet = {"block_out_channels": [8, 16, 16, 16], "layers_per_block": 1, "norm_num_groups": 4}
    unet |= {"cross_attention_dim": 16, "attention_head_dim": 2, "in_channels": 4}
    unet |= {"down_block_types": ["CrossAttnDownBlock2D"] * 3 + ["DownBlock2D"]}
    unet |= {"up_block_types": ["UpBlock2D"] + ["CrossAttnUpBlock2D"] * 3}
    vae = {"block_out_channels": [4, 8, 8, 8], "layers_per_block": 1, "latent_channels": 4}

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        for part, sizes in (("unet", unet), ("vae", vae)):
            file = case / "model" / part / "config.json"
            file.parent.mkdir(parents=True)
            file.write_text(json.dumps(sizes))
        part = random.choice(("unet", "vae"))
        what = damage_json_file(case / "model" / part / "config.json", random)
        main, argv = drawing(configs["sem_seg"], name, case, "annotation")
        weights = ["MODEL.DIFFUSION.WEIGHTS", str(case / "model")]
        return f"{part}: {what}", main, [*argv, *weights, "MODEL.DIFFUSION.SIZES_FROM_WEIGHTS", "1"]

    assert not run_cases("diffusion", 40, prepare, tmp_path)


# ------------------------------------------------------------------ the other tools


def test_damaged_files_of_predictions(tmp_path: Path) -> None:
    name = sem_seg_data(tmp_path / "data")
    mask = {"size": [64, 64], "counts": "PP1"}
    entry = {"category_id": 1, "segmentation": mask}
    files = [str(tmp_path / "data/images" / file) for file in ("0.png", "1.jpg")]
    entries = [entry | {"file_name": file} for file in files]

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        file = case / "predictions.json"
        file.write_text(json.dumps(entries))
        what = damage_json_file(file, random)
        argv = ["--dataset", name, "--input", str(file), "--output", str(case / "output")]
        return what, visualize_predictions.main, argv

    assert not run_cases("predictions", 40, prepare, tmp_path)


LABELS = {
    "prepare_ade20k_sem_seg": ("annotations/training/a.png", "annotations/validation/b.png"),
    "prepare_cityscapes_extra": ("gtCoarse/train_extra/x/x_0_0_gtCoarse_labelIds.png",),
    "prepare_mapillary_cityscapes": ("training/labels/a.png", "validation/labels/b.png"),
}


@pytest.mark.parametrize("name", LABELS)
def test_damaged_label_maps_to_convert(name: str, tmp_path: Path) -> None:
    main = script(name)

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        for label in LABELS[name]:
            file = case / "labels" / label
            file.parent.mkdir(parents=True)
            cv2.imwrite(str(file), np.full((8, 8), 3, np.uint8))
        return damage_file(file, random), main, ["--root", str(case / "labels"), "--workers", "2"]

    assert not run_cases(name, 12, prepare, tmp_path)


def test_damaged_lists_of_kitti(tmp_path: Path) -> None:
    main = script("prepare_kitti_depth")

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        root = case / "kitti"
        write_kitti_frame(root, "2011_09_26_drive_0001_sync", 5)
        image, depth = (str(file.relative_to(root)) for file in sorted(root.rglob("*.png"))[::-1])
        list_file = root / "eigen_train_list.txt"
        for split in ("train", "test"):
            list_file = root / f"{split}_list.txt"
            list_file.write_text(f"/{image} /{depth} 700\n" * 3)
        return damage_file(list_file, random), main, ["--root", str(root)]

    assert not run_cases("kitti lists", 15, prepare, tmp_path)


def test_damaged_matlab_files(tmp_path: Path) -> None:
    import h5py
    import scipy.io

    main = script("prepare_nyu_depth_v2")
    labelled, splits = tmp_path / "labelled.mat", tmp_path / "splits.mat"
    with h5py.File(labelled, "w") as data:
        data["images"] = np.zeros((2, 3, 640, 480), np.uint8)
        data["rawDepths"] = np.ones((2, 640, 480), np.float32)
        codes = data.create_dataset("#refs#/0", data=np.array([[98], [99]], np.uint16))
        data["sceneTypes"] = np.array([[codes.ref, codes.ref]], h5py.ref_dtype)
    scipy.io.savemat(splits, {"testNdxs": np.array([[1], [2]])})

    def prepare(random: Random, case: Path) -> tuple[str, Callable, list[str]]:
        files = [case / labelled.name, case / splits.name]
        for source, file in zip((labelled, splits), files, strict=True):
            file.write_bytes(source.read_bytes())
        what = damage_file(random.choice(files), random)
        return what, main, [*map(str, files), "--output", str(case / "output")]

    assert not run_cases("matlab", 20, prepare, tmp_path)
