"""Detectron2's models on our backbone, our heads on its ResNet: each trains and is evaluated."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import STUFF, CocoNames
from detectron2.engine import default_argument_parser
from detectron2.modeling import ResNet
from helpers import SMALLEST

from metaprompt_d2.config import CONFIG_ROOT
from metaprompt_d2.engine import Trainer, load_model, setup

SMALL = SMALLEST | {
    "MODEL.DEVICE": "cpu",
    "MODEL.META_PROMPT.REFINE_STEPS": 1,
    "MODEL.FPN.OUT_CHANNELS": 64,  # two for each group of "GN"
    "MODEL.ROI_HEADS.NUM_CLASSES": 1,
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE": 16,
    "MODEL.ROI_BOX_HEAD.FC_DIM": 16,
    "MODEL.ROI_MASK_HEAD.CONV_DIM": 8,
    "MODEL.ROI_MASK_HEAD.FC_DIM": 16,
    "MODEL.ROI_KEYPOINT_HEAD.CONV_DIMS": (8, 8),
    "MODEL.RPN.PRE_NMS_TOPK_TEST": 50,
    "MODEL.RPN.POST_NMS_TOPK_TEST": 20,
    "MODEL.RPN.POST_NMS_TOPK_TRAIN": 50,
    "MODEL.RETINANET.NUM_CLASSES": 1,
    "MODEL.RETINANET.NUM_CONVS": 1,
    "MODEL.POINT_HEAD.NUM_CLASSES": 1,
    "MODEL.POINT_HEAD.FC_DIM": 16,
    "MODEL.SEM_SEG_HEAD.NUM_CLASSES": len(STUFF),
    "MODEL.SEM_SEG_HEAD.CONVS_DIM": 32,
    "MODEL.SEM_SEG_HEAD.ASPP_CHANNELS": 32,
    "MODEL.PANOPTIC_FPN.COMBINE.INSTANCES_CONFIDENCE_THRESH": 0.0,
    "INPUT.MIN_SIZE_TRAIN": (64,),
    "INPUT.MIN_SIZE_TEST": 64,
    "DATALOADER.NUM_WORKERS": 0,
    "SOLVER.IMS_PER_BATCH": 2,
    "SOLVER.MAX_ITER": 2,
    "SOLVER.BASE_LR": 1e-3,
    "SOLVER.STEPS": (),
    "TEST.DETECTIONS_PER_IMAGE": 5,
    "TEST.EVAL_PERIOD": 0,
    "TEST.NUM_PICTURES": 1,
}

# The dataset that each reads, and the metrics that it must give.
DETECTRON2S = {
    "cascade_mask_rcnn": ("people", {"bbox", "segm"}),
    "deeplab_v3_plus": ("stuff", {"sem_seg"}),
    "faster_rcnn": ("people", {"bbox"}),
    "fcos": ("people", {"bbox"}),
    "keypoint_rcnn": ("people", {"bbox", "keypoints"}),
    "mask_rcnn": ("people", {"bbox", "segm"}),
    "panoptic_fpn": ("panoptic", {"bbox", "segm", "sem_seg", "panoptic_seg"}),
    "point_rend": ("people", {"bbox", "segm"}),
    "retinanet": ("people", {"bbox"}),
    "semantic_fpn": ("stuff", {"sem_seg"}),
}

OURS = {
    "cityscapes_seg_R_50_FPN": ("stuff", {"sem_seg"}),
    "coco_pose_R_50_FPN": ("topdown", {"keypoints"}),
    "kitti_depth_R_50_FPN": ("depth", {"depth"}),
}
SMALL_RESNET = {
    "MODEL.WEIGHTS": "",
    "MODEL.RESNETS.DEPTH": 18,
    "MODEL.RESNETS.RES2_OUT_CHANNELS": 64,
    "MODEL.HEATMAP_HEAD.DECONV_DIMS": (8, 8),
    "MODEL.DEPTH_HEAD.DECONV_DIMS": (8, 8, 8),
    "MODEL.DEPTH_HEAD.CONVS_DIM": 8,
    "MODEL.DEPTH_HEAD.RESIZE_SCALE": 0,
    "INPUT.PERSON_CROP.SIZE": (64, 64),
    "INPUT.CROP.SIZE": (64, 64),
    "INPUT.MAX_SIZE_TRAIN": 128,
    "TEST.SLIDING_WINDOW.ENABLED": False,
    "TEST.SHIFTED_WINDOWS.COUNT": 0,
}


def run(name: str, dataset: str, output_dir: Path, overrides: dict | None = None) -> Trainer:
    """What `tools/train_net.py` does in a process."""
    settings = SMALL | {
        "DATASETS.TRAIN": (dataset,),
        "DATASETS.TEST": (dataset,),
        "OUTPUT_DIR": str(output_dir),
    }
    pairs = [str(part) for pair in (settings | (overrides or {})).items() for part in pair]
    file = str(CONFIG_ROOT / f"compose/{name}.yaml")
    args = default_argument_parser().parse_args(["--config-file", file, *pairs])
    trainer = Trainer(setup(args))
    trainer.resume_or_load()
    trainer.train()
    assert np.isfinite(trainer.storage.latest()["total_loss"][0])
    return trainer


def test_every_file_is_tested() -> None:
    files = {file.stem for file in (CONFIG_ROOT / "compose").glob("*.yaml")}
    tested = DETECTRON2S.keys() | OURS.keys()
    assert {name for name in files if not name.startswith("Base-")} == tested


@pytest.mark.parametrize("name", DETECTRON2S)
def test_detectron2s_model_trains_the_prompts_and_is_evaluated(
    name: str, coco: CocoNames, tmp_path: Path
) -> None:
    kind, tasks = DETECTRON2S[name]
    trainer = run(name, getattr(coco, kind), tmp_path)
    assert trainer._last_eval_results.keys() == tasks
    (prompts,) = (value for key, value in trainer.model.named_parameters() if "meta_prompts" in key)
    # Of gradients alone: weight decay leaves AdamW's averages as they are.
    assert trainer.optimizer.state[prompts]["exp_avg"].abs().max() > 0


@pytest.mark.parametrize("name", OURS)
def test_our_head_trains_on_detectron2s_resnet_and_is_evaluated(
    name: str, coco: CocoNames, topdown: str, depth: str, tmp_path: Path
) -> None:
    kind, tasks = OURS[name]
    names = coco._asdict() | {"topdown": topdown, "depth": depth}
    trainer = run(name, names[kind], tmp_path, SMALL_RESNET)
    assert trainer._last_eval_results.keys() == tasks
    assert isinstance(trainer.model.backbone.bottom_up, ResNet)
    with_gradients = [
        name
        for name, parameter in trainer.model.backbone.named_parameters()
        if parameter in trainer.optimizer.state
    ]
    assert any("bottom_up.res5" in name for name in with_gradients)


def test_a_trained_detector_is_evaluated_from_its_checkpoint(
    coco: CocoNames, tmp_path: Path
) -> None:
    trainer = run("mask_rcnn", coco.people, tmp_path)
    again = Trainer.test(trainer.cfg, load_model(trainer.cfg, resume=True))
    assert again["bbox"] == pytest.approx(trainer._last_eval_results["bbox"], nan_ok=True)
    model = trainer.model.eval()
    (output,) = model([{"image": torch.zeros(3, 64, 96), "height": 32, "width": 48}])
    assert output["instances"].image_size == (32, 48)


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_a_dense_detector_resumes_with_its_loss_normalizer(
    name: str, coco: CocoNames, tmp_path: Path
) -> None:
    every = {"SOLVER.CHECKPOINT_PERIOD": 1}
    whole = run(name, coco.people, tmp_path / "whole", every)
    (tmp_path / "parts").mkdir()
    shutil.copy(tmp_path / "whole/model_0000000.pth", tmp_path / "parts")
    (tmp_path / "parts/last_checkpoint").write_text("model_0000000.pth")
    parts = run(name, coco.people, tmp_path / "parts", every)
    assert parts.start_iter == 1
    assert parts.model.loss_normalizer == whole.model.loss_normalizer
    assert parts.storage.latest()["total_loss"] == whole.storage.latest()["total_loss"]
