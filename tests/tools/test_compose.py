"""Detectron2's models on the diffusion backbone: each trains two steps and is evaluated."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from coco_files import STUFF, CocoNames, registered_coco, write_coco
from detectron2.engine import default_argument_parser
from helpers import SMALLEST

from metaprompt_d2.config_files import CONFIG_ROOT
from metaprompt_d2.engine import Trainer, load_model, setup

SMALL = SMALLEST | {
    "MODEL.DEVICE": "cpu",
    "MODEL.META_PROMPT.REFINE_STEPS": 1,
    "MODEL.FPN.OUT_CHANNELS": 16,
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

# The figures that each must give, and the data set it reads.
EXPECTED = {
    "cascade_mask_rcnn": ("people", {"bbox", "segm"}),
    "deeplab_v3_plus": ("stuff", {"sem_seg"}),
    "faster_rcnn": ("people", {"bbox"}),
    "keypoint_rcnn": ("people", {"bbox", "keypoints"}),
    "mask_rcnn": ("people", {"bbox", "segm"}),
    "panoptic_fpn": ("panoptic", {"bbox", "segm", "sem_seg"}),
    "point_rend": ("people", {"bbox", "segm"}),
    "retinanet": ("people", {"bbox"}),
    "semantic_fpn": ("stuff", {"sem_seg"}),
}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CocoNames]:
    root = tmp_path_factory.mktemp("coco")
    write_coco(root)
    with registered_coco(root) as names:
        yield names


def arguments(name: str, dataset: str, output_dir: Path) -> list[str]:
    """A command line of `tools/train_net.py`."""
    settings = SMALL | {
        "DATASETS.TRAIN": (dataset,),
        "DATASETS.TEST": (dataset,),
        "OUTPUT_DIR": str(output_dir),
    }
    pairs = [str(part) for pair in settings.items() for part in pair]
    return ["--config-file", str(CONFIG_ROOT / f"compose/{name}.yaml"), *pairs]


def test_every_file_is_tested() -> None:
    files = {file.stem for file in (CONFIG_ROOT / "compose").glob("*.yaml")}
    assert {name for name in files if not name.startswith("Base-")} == EXPECTED.keys()


@pytest.mark.parametrize("name", EXPECTED)
def test_it_trains_the_prompts_and_is_evaluated(name: str, coco: CocoNames, tmp_path: Path) -> None:
    kind, tasks = EXPECTED[name]
    args = default_argument_parser().parse_args(arguments(name, getattr(coco, kind), tmp_path))
    trainer = Trainer(setup(args))
    trainer.resume_or_load()
    trainer.train()
    assert trainer._last_eval_results.keys() == tasks
    (prompts,) = (value for key, value in trainer.model.named_parameters() if "meta_prompts" in key)
    # Of gradients alone: weight decay leaves AdamW's averages as they are.
    assert trainer.optimizer.state[prompts]["exp_avg"].abs().max() > 0
    losses = trainer.storage.latest()["total_loss"][0]
    assert np.isfinite(losses)


def test_a_trained_detector_is_evaluated_from_its_checkpoint(
    coco: CocoNames, tmp_path: Path
) -> None:
    args = default_argument_parser().parse_args(arguments("mask_rcnn", coco.people, tmp_path))
    cfg = setup(args)
    trainer = Trainer(cfg)
    trainer.resume_or_load()
    trainer.train()
    again = Trainer.test(cfg, load_model(cfg, resume=True))
    assert again["bbox"] == pytest.approx(trainer._last_eval_results["bbox"], nan_ok=True)
    model = load_model(cfg, resume=True).eval()
    (output,) = model([{"image": torch.zeros(3, 64, 96), "height": 32, "width": 48}])
    assert output["instances"].image_size == (32, 48)
