"""Exported files predict what the model does, at several sizes and without this package."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import onnx
import pytest
import torch
from detectron2.layers import ShapeSpec
from detectron2.modeling import Backbone, build_model
from helpers import TWO_LEVELS, smallest_depth_model, smallest_model
from mask2former_models import tiny_head
from pose_files import smallest_pose_cfg
from torch import nn
from torch.export import ExportedProgram

from metaprompt_d2.export import (
    METADATA_NAME,
    ExportableModel,
    export_program,
    run_file,
    save_onnx,
    save_pt2,
)
from metaprompt_d2.export.modules import _AdaptivePooling
from metaprompt_d2.modeling import UniversalSegmentor

ENDINGS = (".onnx", ".pt2")
WHOLE = {"TEST.SLIDING_WINDOW.ENABLED": False, "MODEL.META_PROMPT.REFINE_STEPS": 1}
WITH_ADAPTER = WHOLE | TWO_LEVELS | {"MODEL.META_PROMPT.ADAPTER": True}
ABOUT = {"task": "sem_seg", "classes": ["road", "car"]}


def with_large_weights(model: nn.Module) -> nn.Module:
    """Set weights with which outputs vary; those of fresh heads are next to 0."""
    for name, value in model.named_parameters():
        if "head" in name and value.dim() > 1:
            nn.init.normal_(value, std=0.3)
    return model


def of_images(model: nn.Module, images: torch.Tensor, key: str) -> torch.Tensor:
    """Predict with the meta-architecture itself."""
    with torch.no_grad():
        return torch.stack([output[key] for output in model([{"image": i} for i in images])])


def images_of(batch_size: int, height: int, width: int) -> torch.Tensor:
    return torch.rand(batch_size, 3, height, width) * 255


def assert_near(given: torch.Tensor, expected: torch.Tensor) -> None:
    assert expected.std() > 0.01 * expected.abs().max()  # not one value everywhere
    torch.testing.assert_close(given, expected, rtol=0, atol=1e-4 * expected.abs().max().item())


@pytest.fixture(scope="module")
def segmentation(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Path]:
    """A model and the folder of its files for all sizes: seg.onnx, seg.onnx.data, seg.pt2."""
    torch.manual_seed(0)
    model = with_large_weights(smallest_model(WITH_ADAPTER)).eval()
    untouched = smallest_model(WITH_ADAPTER).eval()
    untouched.load_state_dict(model.state_dict())
    folder = tmp_path_factory.mktemp("segmentation")
    program = export_program(
        ExportableModel(model, dynamic_size=True), (128, 192), dynamic_batch=True
    )
    save_pt2(program, folder / "seg.pt2", ABOUT)
    save_onnx(program, folder / "seg.onnx", ABOUT)
    return untouched, folder


@pytest.fixture(scope="module")
def loaded(segmentation: tuple[nn.Module, Path]) -> tuple[ExportedProgram, dict]:
    """The program of seg.pt2 and its metadata; loading it takes much longer than running it."""
    extra = {METADATA_NAME: ""}
    program = torch.export.load(segmentation[1] / "seg.pt2", extra_files=extra)
    return program, json.loads(extra[METADATA_NAME])


@pytest.mark.parametrize("ending", ENDINGS)
def test_segmentation_of_any_size_and_batch(
    segmentation: tuple[nn.Module, Path],
    loaded: tuple[ExportedProgram, dict],
    ending: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model, folder = segmentation
    monkeypatch.setattr(torch.export, "load", {folder / "seg.pt2": loaded[0]}.__getitem__)
    for shape in ((1, 128, 128), (3, 192, 128), (2, 128, 192)):
        images = images_of(*shape)
        given = run_file(folder / f"seg{ending}", images)
        assert_near(given, of_images(model, images, "sem_seg"))


def test_files_are_complete_and_have_metadata(
    segmentation: tuple[nn.Module, Path], loaded: tuple[ExportedProgram, dict]
) -> None:
    _, folder = segmentation
    assert sorted(file.name for file in folder.iterdir()) == [
        "seg.onnx",
        "seg.onnx.data",
        "seg.pt2",
    ]
    content = onnx.load(folder / "seg.onnx")
    onnx.checker.check_model(folder / "seg.onnx")
    assert json.loads({p.key: p.value for p in content.metadata_props}["classes"]) == [
        "road",
        "car",
    ]
    program, about = loaded
    assert about == ABOUT
    # Only the result of the adapter, the prompts, is in the file.
    assert not [name for name in program.state_dict if "adapter" in name]


WITHOUT_US = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("detectron2", "metaprompt_d2", "diffusers", "fvcore"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
import numpy, onnxruntime, torch
images = torch.rand(1, 3, 128, 128) * 255
session = onnxruntime.InferenceSession("seg.onnx")
theirs = session.run(None, {"images": images.numpy()})[0]
ours = torch.export.load("seg.pt2").module()(images).numpy()
print(numpy.abs(theirs - ours).max(), *ours.shape)
"""


def test_files_run_without_detectron2_and_this_package(
    segmentation: tuple[nn.Module, Path],
) -> None:
    command = [sys.executable, "-W", "ignore", "-I", "-c", WITHOUT_US]
    result = subprocess.run(command, cwd=segmentation[1], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    furthest, *shape = result.stdout.split()
    assert float(furthest) < 1e-3
    assert list(map(int, shape)) == [1, 11, 128, 128]


def test_the_example_of_the_docs_runs(
    segmentation: tuple[nn.Module, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = (Path(__file__).resolve().parents[2] / "docs/export.md").read_text()
    (example,) = re.findall(r"^```python with files\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    shutil.copytree(segmentation[1], tmp_path, dirs_exist_ok=True)
    (tmp_path / "seg.pt2").rename(tmp_path / "depth.pt2")
    monkeypatch.chdir(tmp_path)
    names: dict = {}
    exec(compile(example, "docs/export.md", "exec"), names)
    assert names["logits"].shape == (1, 11, 128, 192)


def test_depth_of_any_size_is_in_meters_at_the_images_size(tmp_path: Path) -> None:
    model = with_large_weights(smallest_depth_model(WHOLE | TWO_LEVELS)).eval()
    shapes = [(2, 72, 136), (1, 128, 64)]
    images = [images_of(*shape) for shape in shapes]
    expected = [of_images(model, batch, "depth") for batch in images]
    program = export_program(
        ExportableModel(model, dynamic_size=True), (96, 120), dynamic_batch=True
    )
    for batch, depth in zip(images, expected, strict=True):
        assert_near(program.module()(batch), depth)


def test_heatmaps_of_crops(tmp_path: Path) -> None:
    overrides = {
        "TEST.AUG.ENABLED": False,
        "MODEL.HEATMAP_HEAD.IN_FEATURE": "p3",
        "MODEL.HEATMAP_HEAD.DECONV_DIMS": (8,),
        "MODEL.HEATMAP_HEAD.DECONV_KERNELS": (4,),
    }
    cfg = smallest_pose_cfg(TWO_LEVELS | overrides)
    model = with_large_weights(build_model(cfg)).eval()
    crops = images_of(2, 64, 48)
    with torch.no_grad():
        expected = model._predict((crops - model.pixel_mean) / model.pixel_std)
    program = export_program(ExportableModel(model), (64, 48), dynamic_batch=True)
    save_pt2(program, tmp_path / "pose.pt2", {})
    given = run_file(tmp_path / "pose.pt2", crops)
    assert given.shape == (2, 17, 16, 12)
    assert_near(given, expected)


def test_classes_at_one_size_that_is_no_multiple(tmp_path: Path) -> None:
    """Fixed sizes follow the model's own rule if the strides don't divide them."""
    model = with_large_weights(smallest_model(WHOLE | TWO_LEVELS)).eval()
    images = images_of(1, 72, 90)
    expected = of_images(model, images, "sem_seg").argmax(dim=1)
    program = export_program(ExportableModel(model, argmax=True), (72, 90))
    save_pt2(program, tmp_path / "seg.pt2", {})
    assert torch.equal(run_file(tmp_path / "seg.pt2", images), expected)


class _Pyramid(Backbone):
    """Three maps; the diffusion backbone is exported in the tests above."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(3, 8, 3, padding=1) for _ in range(3))

    def forward(self, images: torch.Tensor) -> dict[str, torch.Tensor]:
        maps = (
            conv(nn.functional.avg_pool2d(images, 4 << level))
            for level, conv in enumerate(self.convs)
        )
        return dict(zip(self.output_shape(), maps, strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        return {f"p{level + 2}": ShapeSpec(channels=8, stride=4 << level) for level in range(3)}


def test_queries_of_a_universal_model(tmp_path: Path) -> None:
    backbone = _Pyramid()
    head = tiny_head(input_shape=backbone.output_shape(), encoder_layers=1, decoder_layers=2)
    model = with_large_weights(
        UniversalSegmentor(
            backbone=backbone, sem_seg_head=head, pixel_mean=[127.5] * 3, pixel_std=[127.5] * 3
        )
    ).eval()
    images = images_of(1, 64, 128)
    with torch.no_grad():
        expected = model.predict_queries((images - model.pixel_mean) / model.pixel_std)
    program = export_program(ExportableModel(model), (64, 128))
    for ending, save in ((".pt2", save_pt2), (".onnx", save_onnx)):
        save(program, tmp_path / f"queries{ending}", {})
        given = run_file(tmp_path / f"queries{ending}", images)
        assert list(given) == ["class_logits", "mask_logits"]
        for name, values in zip(given, expected, strict=True):
            assert_near(given[name], values)


@pytest.mark.parametrize("size", [1, 2, 3, 6])
@pytest.mark.parametrize("shape", [(6, 12), (7, 5), (1, 16)])
def test_pooling_is_that_of_torch(size: int, shape: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    expected = nn.AdaptiveAvgPool2d(size)(x)
    torch.testing.assert_close(_AdaptivePooling(size)(x), expected, rtol=0, atol=1e-12)


def test_what_cannot_be_exported_is_named() -> None:
    with pytest.raises(ValueError, match="Linear cannot be exported"):
        ExportableModel(nn.Linear(1, 1))
    with pytest.raises(ValueError, match="a depth model has no classes"):
        ExportableModel(smallest_depth_model(), argmax=True)
    with pytest.raises(ValueError, match="the crops of a pose model have one size"):
        ExportableModel(build_model(smallest_pose_cfg()), dynamic_size=True)
    with pytest.raises(ValueError, match=r"\(96, 64\).*multiples of 64 from 128 on"):
        export_program(ExportableModel(smallest_model(), dynamic_size=True), (96, 64))
