"""The YAML files: reachable from anywhere, loadable, and saying what the recipe says."""

import re
import shutil
from pathlib import Path

import pytest
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog
from detectron2.modeling import build_model
from detectron2.utils.file_io import PathManager

from metaprompt_d2 import add_metaprompt_config, config
from metaprompt_d2.checkpoint import load_diffusion_weights
from metaprompt_d2.config import CONFIG_ROOT, files, read_config_file
from metaprompt_d2.data import build_heatmap_codec
from metaprompt_d2.engine import load_config
from metaprompt_d2.utils.errors import InputError

FILES = sorted(file.relative_to(CONFIG_ROOT).as_posix() for file in CONFIG_ROOT.rglob("*.yaml"))
RECIPES = [file for file in FILES if not Path(file).name.startswith("Base-")]
BACKBONES = {
    "MetaPromptBackbone",
    "build_fcos_metaprompt_fpn_backbone",
    "build_metaprompt_fpn_backbone",
    "build_resnet_fpn_backbone",
    "build_retinanet_metaprompt_fpn_backbone",
}
MINI = [file for file in RECIPES if file.startswith("mini/")]


def test_the_recipes_are_found() -> None:
    published = {"cityscapes_seg.yaml", "nyu_depth.yaml", "kitti_depth.yaml"}
    assert published | {"mini/cityscapes_seg.yaml", "mini/kitti_depth.yaml"} <= set(RECIPES)


@pytest.mark.parametrize("file", FILES)
def test_a_file_loads_with_known_keys_only(file: str) -> None:
    assert load_config(f"metaprompt_d2://{file}", []).MODEL.BACKBONE.NAME in BACKBONES


@pytest.mark.parametrize("file", RECIPES)
def test_a_recipe_names_registered_datasets(file: str) -> None:
    cfg = load_config(f"metaprompt_d2://{file}", [])
    names = [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST]
    assert len(names) >= 2
    assert set(names) <= set(DatasetCatalog.list())


def test_every_recipe_has_an_output_folder_of_its_own() -> None:
    folders = [load_config(f"metaprompt_d2://{file}", []).OUTPUT_DIR for file in RECIPES]
    assert len(set(folders)) == len(folders)


def test_files_are_reachable_from_any_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    name = "metaprompt_d2://Base-SemSeg.yaml"
    assert PathManager.isfile(name)
    assert PathManager.exists("metaprompt_d2://mini")
    assert not PathManager.isfile("metaprompt_d2://mini")
    assert not PathManager.exists("metaprompt_d2://nothing.yaml")
    with PathManager.open(name) as file:
        assert file.read() == (CONFIG_ROOT / "Base-SemSeg.yaml").read_text()
    assert load_config("metaprompt_d2://mini/cityscapes_seg.yaml", []).SOLVER.IMS_PER_BATCH > 0


def test_a_base_may_be_in_detectron2s_model_zoo(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('_BASE_: "model_zoo://COCO-Detection/retinanet_R_50_FPN_1x.yaml"\n')
    cfg = load_config(str(file), [])
    assert cfg.MODEL.META_ARCHITECTURE == "RetinaNet"
    assert cfg.SOLVER.MAX_ITER == 90000
    file.write_text('_BASE_: ["metaprompt_d2://compose/mask_rcnn.yaml"]\nSEED: 7\n')
    cfg = load_config(str(file), [])
    assert (cfg.MODEL.MASK_ON, cfg.MODEL.FPN.IN_FEATURES[0], cfg.SEED) == (True, "up2", 7)
    file.write_text("_BASE_: metaprompt_d2://nyu_depth.yaml\nSEED: 7\n")  # has a base itself
    assert load_config(str(file), []).MODEL.META_ARCHITECTURE == "DepthEstimator"


def read_by_detectron2(file: str) -> CfgNode:
    cfg = get_cfg()
    add_metaprompt_config(cfg)
    cfg.merge_from_file(file)
    return cfg


@pytest.mark.parametrize("file", FILES)
def test_plain_detectron2_reads_a_file_from_anywhere(
    file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its bases are relative, in another folder, or in Detectron2's model zoo."""
    expected = load_config(f"metaprompt_d2://{file}", []).clone()
    expected.defrost()
    expected.MODEL.DEVICE = get_cfg().MODEL.DEVICE  # "cpu" on a machine without GPUs
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/one.yaml").write_text(f'_BASE_: "metaprompt_d2://{file}"\n')
    (tmp_path / "sub/list.yaml").write_text(f'_BASE_: ["one.yaml", "metaprompt_d2://{file}"]\n')
    monkeypatch.chdir(CONFIG_ROOT.parent)
    paths = [f"metaprompt_d2://{file}", CONFIG_ROOT / file, f"{CONFIG_ROOT.name}/{file}"]
    for path in [*paths, tmp_path / "sub/one.yaml"]:
        assert read_by_detectron2(str(path)) == expected
    monkeypatch.chdir(tmp_path)
    assert read_by_detectron2("sub/list.yaml") == expected
    monkeypatch.chdir(tmp_path / "sub")
    for path in ["list.yaml", "./one.yaml", "../sub/one.yaml"]:
        assert read_by_detectron2(path) == expected
        assert read_config_file(path) == read_config_file(f"metaprompt_d2://{file}")


def test_other_paths_stay_as_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with PathManager.open("model_zoo.txt", "w") as file:
        file.write("text")
    assert PathManager.ls(".") == ["model_zoo.txt"]
    assert PathManager.copy("model_zoo.txt", "./copy.txt")
    assert (tmp_path / "copy.txt").read_text() == "text"
    for path in ("model_zoo.txt", "a/../model_zoo:", "", "http:/a"):
        assert PathManager.get_local_path(path) == path


@pytest.mark.parametrize("name", ["retinanet", "fcos"])
def test_a_model_zoo_behind_a_symlink_is_trusted(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As Detectron2 installs it from its source; RetinaNet's anchors are computed by a tag."""
    file = f"metaprompt_d2://compose/{name}.yaml"
    expected = load_config(file, [])
    zoo = PathManager.get_local_path("model_zoo://")
    shutil.copytree(zoo, tmp_path / "source/configs", ignore=shutil.ignore_patterns("*.py"))
    link = tmp_path / "detectron2/model_zoo/configs"
    link.parent.mkdir(parents=True)
    link.symlink_to(tmp_path / "source/configs")
    monkeypatch.setitem(files._FOLDERS, "model_zoo", link)
    cfg = load_config(file, [])
    assert cfg == expected
    (sizes, *_) = cfg.MODEL.ANCHOR_GENERATOR.SIZES
    assert sizes == [32, 32 * 2 ** (1 / 3), 32 * 2 ** (2 / 3)]


def test_a_tag_that_runs_code_is_refused_with_advice(tmp_path: Path) -> None:
    made = tmp_path / "made"
    tag = f"!!python/object/apply:os.mkdir ['{made}']"
    for name in ("base.yaml", "mine.yaml"):
        (tmp_path / name).write_text(f"OUTPUT_DIR: {tag}\n")
    (tmp_path / "derived.yaml").write_text("_BASE_: base.yaml\n")
    for name, named in (("mine.yaml", "mine.yaml"), ("derived.yaml", "base.yaml")):
        with pytest.raises(InputError) as error:
            load_config(str(tmp_path / name), [])
        advice = "write the value that the tag makes or, if you trust the file, convert it"
        assert named in str(error.value) and advice in str(error.value)
    assert not made.exists()


def test_the_advice_of_the_docs_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/compose.md").read_text()
    (snippet,) = re.findall(r"```\n([^`]*converted\.yaml[^`]*)```", page)
    monkeypatch.chdir(tmp_path)
    tag = "!!python/object/apply:eval ['[[x, 2 * x] for x in (32, 64)]']"
    Path("base.yaml").write_text(f"MODEL:\n  ANCHOR_GENERATOR:\n    SIZES: {tag}\n")
    Path("theirs.yaml").write_text("_BASE_: base.yaml\nDATASETS:\n  TRAIN: ('a', 'b')\n")
    exec(snippet, {})
    cfg = load_config("converted.yaml", [])
    assert cfg.MODEL.ANCHOR_GENERATOR.SIZES == [[32, 64], [64, 128]]
    assert cfg.DATASETS.TRAIN == ("a", "b")


@pytest.mark.parametrize("content", ["OUTPUT_DIR: [", "A: !own 1\n"])
def test_other_errors_in_yaml_give_no_advice(content: str, tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_text(content)
    with pytest.raises(InputError, match=r"mine\.yaml cannot be read as YAML") as error:
        load_config(str(tmp_path / "mine.yaml"), [])
    assert "convert" not in str(error.value)


def test_a_missing_base_is_named(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text('_BASE_: "model_zoo://nothing.yaml"\n')
    with pytest.raises(FileNotFoundError, match=r"nothing\.yaml"):
        load_config(str(file), [])


def test_a_config_of_detectron2s_first_version_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.yaml"
    file.write_text("VERSION: 1\n")
    with pytest.raises(ValueError, match=r"old\.yaml: VERSION is 1, expected 2"):
        load_config(str(file), [])


def test_cityscapes_is_the_official_recipe() -> None:
    cfg = load_config("metaprompt_d2://cityscapes_seg.yaml", [])
    solver, crop, head = cfg.SOLVER, cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD
    # docs/method.md
    assert (cfg.MODEL.META_PROMPT.NUM_PROMPTS, cfg.MODEL.META_PROMPT.REFINE_STEPS) == (150, 3)
    assert not cfg.MODEL.META_PROMPT.PER_STEP
    assert not cfg.MODEL.META_PROMPT.ADAPTER
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH) == (8e-5, 0.001, 8)
    assert (solver.MAX_ITER, solver.WARMUP_ITERS, solver.WARMUP_FACTOR) == (80000, 1500, 1e-6)
    assert (solver.POLY_LR_POWER, solver.CHECKPOINT_PERIOD) == (1, 8000)
    assert not solver.CLIP_GRADIENTS.ENABLED
    assert not solver.AMP.ENABLED
    assert list(cfg.MODEL.PIXEL_MEAN) == list(cfg.MODEL.PIXEL_STD) == [127.5] * 3
    assert cfg.INPUT.FORMAT == "RGB"
    assert (cfg.INPUT.MAX_SIZE_TRAIN, *cfg.INPUT.MIN_SIZE_TRAIN) == (2048, 1024)
    assert tuple(cfg.INPUT.SCALE_RANGE) == (0.5, 2.0)
    assert (crop.ENABLED, crop.TYPE, list(crop.SIZE)) == (True, "absolute", [1024, 1024])
    assert crop.SINGLE_CATEGORY_MAX_AREA == 0.75
    assert (cfg.INPUT.RANDOM_FLIP, cfg.INPUT.COLOR_AUG_SSD) == ("horizontal", True)
    assert (head.NUM_CLASSES, head.CONVS_DIM, head.DROPOUT, head.NORM) == (19, 512, 0.1, "SyncBN")
    assert (head.LOSS_WEIGHT, head.LOVASZ_LOSS_WEIGHT, head.AUX_LOSS_WEIGHT) == (1, 1, 0.4)
    assert (tuple(head.POOL_SCALES), head.IGNORE_VALUE) == ((1, 2, 3, 6), 255)
    windows = cfg.TEST.SLIDING_WINDOW
    assert windows.ENABLED
    assert (tuple(windows.SIZE), tuple(windows.STRIDE)) == ((1024, 1024), (512, 512))
    assert (cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST) == (2048, 1024)


def test_ade20k_is_the_official_recipe() -> None:
    cfg = load_config("metaprompt_d2://ade20k_seg.yaml", [])
    solver, crop, head = cfg.SOLVER, cfg.INPUT.CROP, cfg.MODEL.SEM_SEG_HEAD
    # docs/method.md
    assert (cfg.MODEL.META_PROMPT.NUM_PROMPTS, cfg.MODEL.META_PROMPT.REFINE_STEPS) == (150, 3)
    assert (head.NUM_CLASSES, head.CONVS_DIM, head.DROPOUT, head.NORM) == (150, 512, 0, "SyncBN")
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH) == (8e-5, 0.001, 8)
    assert (solver.MAX_ITER, cfg.TEST.EVAL_PERIOD) == (80000, 8000)
    assert (cfg.INPUT.MAX_SIZE_TRAIN, *cfg.INPUT.MIN_SIZE_TRAIN) == (2048, 512)
    assert (cfg.INPUT.MAX_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST) == (2048, 512)
    assert (crop.TYPE, list(crop.SIZE)) == ("absolute", [512, 512])
    windows = cfg.TEST.SLIDING_WINDOW
    assert (tuple(windows.SIZE), tuple(windows.STRIDE)) == ((512, 512), (341, 341))
    assert cfg.DATASETS.TRAIN == ("ade20k_sem_seg_train",)
    assert cfg.DATASETS.TEST == ("ade20k_sem_seg_val",)


def test_cityscapes_with_more_data_differs_in_steps_data_and_start_only() -> None:
    plain = load_config("metaprompt_d2://cityscapes_seg.yaml", []).clone()
    more = load_config("metaprompt_d2://cityscapes_mapillary_seg.yaml", []).clone()
    assert more.MODEL.META_PROMPT.REFINE_STEPS == 1  # docs/method.md
    extra = "cityscapes_autolabelled_sem_seg_train_extra"
    assert ("cityscapes_fine_sem_seg_train", extra) == more.DATASETS.TRAIN
    pretraining = load_config("metaprompt_d2://mapillary_pretrain_seg.yaml", [])
    assert f"{pretraining.OUTPUT_DIR}/model_final.pth" == more.MODEL.WEIGHTS
    assert pretraining.MODEL.META_PROMPT.REFINE_STEPS == 1
    assert pretraining.MODEL.SEM_SEG_HEAD == more.MODEL.SEM_SEG_HEAD
    for cfg in (plain, more):
        cfg.defrost()
        cfg.merge_from_list(["MODEL.META_PROMPT.REFINE_STEPS", 1, "MODEL.WEIGHTS", ""])
        cfg.merge_from_list(["DATASETS.TRAIN", (), "OUTPUT_DIR", ""])
    assert plain == more


@pytest.mark.parametrize(
    ("file", "max_iter", "crop", "windows", "resize_scale", "max_depth"),
    [("nyu_depth.yaml", 25 * 1009, 480, 2, 1, 10), ("kitti_depth.yaml", 25 * 965, 352, 16, 2, 80)],
)
def test_depth_is_the_official_recipe(
    file: str, max_iter: int, crop: int, windows: int, resize_scale: int, max_depth: float
) -> None:
    cfg = load_config(f"metaprompt_d2://{file}", [])
    prompts, head = cfg.MODEL.META_PROMPT, cfg.MODEL.DEPTH_HEAD
    solver, aug = cfg.SOLVER, cfg.INPUT.DEPTH_AUG
    # docs/method.md
    assert (prompts.NUM_PROMPTS, prompts.REFINE_STEPS, prompts.REARRANGE) == (50, 3, "fused")
    assert prompts.PER_STEP
    assert prompts.ADAPTER
    assert (prompts.NORM_NUM_GROUPS, prompts.DECONV_CHANNELS) == (16, 32)
    assert (tuple(head.DECONV_DIMS), tuple(head.DECONV_KERNELS)) == ((32, 32, 32), (2, 2, 2))
    assert (192, 1, max_depth) == (head.CONVS_DIM, head.LOSS_WEIGHT, head.MAX_DEPTH)
    assert resize_scale == head.RESIZE_SCALE
    assert list(cfg.MODEL.PIXEL_MEAN) == list(cfg.MODEL.PIXEL_STD) == [127.5] * 3
    assert cfg.INPUT.FORMAT == "RGB"
    assert (cfg.INPUT.CROP.ENABLED, cfg.INPUT.CROP.TYPE) == (True, "absolute")
    assert list(cfg.INPUT.CROP.SIZE) == [crop, crop]
    assert cfg.INPUT.RANDOM_FLIP == "horizontal"
    assert (0.25, max_depth) == (aug.CUT_DEPTH_PROB, aug.CUT_DEPTH_MAX_DEPTH)
    assert (aug.CUT_DEPTH_EVERY, aug.CUT_DEPTH_WRAP_AROUND) == (0, False)
    assert aug.BRIGHTNESS_CONTRAST_PROB == aug.GAMMA_PROB == aug.HSV_PROB == 0.5
    assert (aug.BRIGHTNESS, aug.CONTRAST, tuple(aug.GAMMA_RANGE)) == (0.2, 0.2, (0.8, 1.2))
    assert (aug.HUE, aug.SATURATION, aug.VALUE) == (20, 30, 20)
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH) == (5e-4, 0.1, 24)
    rules = [list(rule) for rule in solver.PARAM_RULES]
    assert rules == [[r"\.lora_", 1.0, 1.0], [r"\.unet\.", 0.01, 1.0]]
    assert not solver.DECAY_VECTORS
    assert ("RiseAndFallPolyLR", max_iter) == (solver.LR_SCHEDULER_NAME, solver.MAX_ITER)
    assert (solver.LR_PEAK_AT, solver.POLY_LR_POWER) == (12 / 25, 0.9)
    assert pytest.approx(3e-5) == solver.POLY_LR_CONSTANT_ENDING * solver.BASE_LR
    assert not solver.CLIP_GRADIENTS.ENABLED
    assert not solver.AMP.ENABLED
    assert (solver.BEST_METRIC, solver.BEST_METRIC_MODE) == ("depth/rmse", "min")
    assert max_iter == cfg.TEST.EVAL_PERIOD * 25
    assert cfg.TEST.AUG.ENABLED
    assert cfg.TEST.AUG.FLIP
    assert (windows, True) == (cfg.TEST.SHIFTED_WINDOWS.COUNT, cfg.TEST.SHIFTED_WINDOWS.COVER_ALL)


@pytest.mark.parametrize("file", MINI)
def test_a_mini_recipe_builds_a_model_below_ten_million_parameters(file: str) -> None:
    cfg = load_config(f"metaprompt_d2://{file}", ["MODEL.DEVICE", "cpu"])
    assert sum(parameter.numel() for parameter in build_model(cfg).parameters()) < 10_000_000


@pytest.mark.parametrize("file", MINI)
def test_a_mini_recipe_starts_from_the_diffusion_model_that_ships(file: str) -> None:
    cfg = load_config(f"metaprompt_d2://{file}", ["MODEL.DEVICE", "cpu"])
    folder = PathManager.get_local_path(cfg.MODEL.DIFFUSION.WEIGHTS)
    model = build_model(cfg)
    before = model.backbone.refinement.unet.conv_in.weight.clone()
    load_diffusion_weights(model, folder)
    assert not before.equal(model.backbone.refinement.unet.conv_in.weight)


def test_a_missing_file_is_named() -> None:
    with pytest.raises((FileNotFoundError, AssertionError), match=r"nothing\.yaml"):
        load_config("metaprompt_d2://nothing.yaml", [])


def test_coco_pose_is_vitposes_recipe() -> None:
    cfg = load_config("metaprompt_d2://coco_pose.yaml", [])
    solver, aug, head = cfg.SOLVER, cfg.INPUT.POSE_AUG, cfg.MODEL.HEATMAP_HEAD
    # docs/method.md#vitpose-recipe
    assert (solver.BASE_LR, solver.WEIGHT_DECAY, solver.IMS_PER_BATCH) == (5e-4, 0.1, 512)
    epoch = -(-149813 // 512)
    assert (210 * epoch, (170 * epoch, 200 * epoch)) == (solver.MAX_ITER, solver.STEPS)
    assert (solver.WARMUP_ITERS, solver.WARMUP_FACTOR, solver.GAMMA) == (500, 0.001, 0.1)
    clipping = solver.CLIP_GRADIENTS
    assert (clipping.ENABLED, clipping.CLIP_TYPE, clipping.CLIP_VALUE) == (True, "full_model", 1)
    assert 10 * epoch == cfg.TEST.EVAL_PERIOD
    assert tuple(cfg.INPUT.PERSON_CROP.SIZE) == (256, 192)
    assert (aug.HALF_BODY_PROB, aug.SCALE, aug.ROTATION, aug.ROTATION_PROB) == (0.3, 0.5, 40, 0.6)
    assert (head.SIGMA, head.STRIDE, tuple(head.DECONV_DIMS)) == (2, 4, (256, 256))
    assert cfg.TEST.AUG.ENABLED and cfg.TEST.AUG.FLIP


def test_large_pose_recipes_have_sdposes_sizes() -> None:
    """`models/HeatmapHead.py` and `utils/dataset_loader.py` of SDPose, docs/pose.md."""
    for prefix, channels in (("coco", 320), ("coco_wholebody", 640)):
        cfg = load_config(f"metaprompt_d2://{prefix}_pose_1024x768.yaml", [])
        head, solver = cfg.MODEL.HEATMAP_HEAD, cfg.SOLVER
        assert build_heatmap_codec(cfg).heatmap_size == (256, 192)
        assert (tuple(cfg.INPUT.PERSON_CROP.SIZE), head.SIGMA) == ((1024, 768), 6)
        assert (tuple(head.DECONV_DIMS), tuple(head.DECONV_KERNELS)) == ((channels,), (4,))
        assert cfg.MODEL.META_PROMPT.REFINE_STEPS == 1
        epoch, base = -(-149813 // 512), load_config("metaprompt_d2://coco_pose.yaml", [])
        assert solver.MAX_ITER * 5 == base.SOLVER.MAX_ITER == 210 * epoch
        assert [step * 5 for step in solver.STEPS] == [*base.SOLVER.STEPS]
        assert solver.MAX_ITER % cfg.TEST.EVAL_PERIOD == cfg.TEST.EVAL_PERIOD % epoch == 0
        assert solver.IMS_PER_BATCH % (8 * solver.ACCUMULATION_STEPS) == 0


@pytest.mark.parametrize("suffix", ["", "_1024x768"])
def test_whole_body_recipes_differ_from_the_bodys_in_the_keypoints_only(suffix: str) -> None:
    body, whole = (
        load_config(f"metaprompt_d2://{name}_pose{suffix}.yaml", [])
        for name in ("coco", "coco_wholebody")
    )
    assert whole.DATASETS.TRAIN == ("coco_wholebody_topdown_train",)
    assert whole.DATASETS.TEST == ("coco_wholebody_topdown_val_det",)
    assert whole.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS == 17 + 6 + 68 + 2 * 21
    body.defrost()
    whole.defrost()
    body.DATASETS, body.OUTPUT_DIR = whole.DATASETS, whole.OUTPUT_DIR
    body.MODEL.ROI_KEYPOINT_HEAD.NUM_KEYPOINTS = 133
    body.MODEL.HEATMAP_HEAD.DECONV_DIMS = whole.MODEL.HEATMAP_HEAD.DECONV_DIMS
    assert body == whole


@pytest.mark.parametrize("file", [file for file in RECIPES if "_pose" in file])
def test_the_filter_of_the_decoding_is_as_wide_as_the_targets(file: str) -> None:
    cfg = load_config(f"metaprompt_d2://{file}", [])
    head = cfg.MODEL.HEATMAP_HEAD
    opencv_sigma = 0.3 * ((head.BLUR_KERNEL - 1) * 0.5 - 1) + 0.8
    assert opencv_sigma == pytest.approx(head.SIGMA, abs=0.2)
    assert min(build_heatmap_codec(cfg).heatmap_size) > 3 * head.BLUR_KERNEL


def test_detectron2s_model_zoo_module_is_imported_only_by_a_function() -> None:
    """It imports pkg_resources, which would warn in every process."""
    package = Path(config.__file__).parents[1]
    text = "".join(file.read_text() for file in package.rglob("*.py"))
    assert not re.search(r"^(?:from|import) detectron2(?:\.| import .*)model_zoo", text, re.M)
