"""LazyConfigs in YAML are data: they call what models are made from, and nothing else."""

from pathlib import Path

import pytest
import yaml
from detectron2.config import LazyConfig, instantiate
from torch import nn

from metaprompt_d2.config import read_lazy_config
from metaprompt_d2.utils.errors import InputError, MissingFileError

# Each would run a command, or import or load a file of its author.
TARGETS = [
    "os.system",
    "posix.system",
    "builtins.eval",
    "subprocess.run",
    "torch.load",
    "torch.hub.load",
    "torch.utils.cpp_extension.load",
    "detectron2.config.LazyConfig.load",
    "detectron2.config.lazy.LazyConfig.load",
    "detectron2.utils.registry.locate",
    "metaprompt_d2.engine.launch.os.system",
    "detectron2.data.build.logging.os.system",
    "torch.nn.modules.module.functools.partial",
    "torch.nn.modules.module.torch.load",
    "metaprompt_d2.data.readers.os.system",
    "metaprompt_d2.engine.setup.default_setup",
    "torch.nn.modules.no_such_module.Layer",
    "metaprompt_d2..",
    "",
    7,
    None,
    ["os.system"],
    {"_target_": "torch.nn.Identity"},
]


def written(folder: Path, content: object) -> str:
    file = folder / "config.yaml"
    file.write_text(yaml.safe_dump(content))
    return str(file)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize(
    "place", [lambda node: node, lambda node: {"a": [{"b": node}]}, lambda node: [[node]]]
)
def test_a_call_of_anything_else_is_refused(target: object, place: object, tmp_path: Path) -> None:
    file = written(tmp_path, {"model": place({"_target_": target, "x": 1})})
    with pytest.raises(InputError, match="_target_ is .*--trust-config"):
        read_lazy_config(file)
    assert "model" in read_lazy_config(file, trusted=True)


@pytest.mark.parametrize(
    ("function", "argument"),
    [
        ("load_proposals_into_dataset", {"proposal_file": "evil.pkl"}),
        ("get_detection_dataset_dicts", {"proposal_files": ["evil.pkl"]}),
    ],
)
def test_proposals_are_refused(function: str, argument: dict, tmp_path: Path) -> None:
    node = {"_target_": f"detectron2.data.build.{function}"} | argument
    with pytest.raises(InputError, match="names pickles.*--trust-config"):
        read_lazy_config(written(tmp_path, {"dataloader": {"train": node}}))


@pytest.mark.parametrize(
    "value",
    [
        "${oc.create:{_target_: os.system, command: ls}}",
        "${oc.decode:'{_target_: os.system}'}",
        "${oc.env:HOME}",
        "a${ oc.${x} : y}b",
    ],
)
def test_resolvers_are_refused(value: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="calls a resolver"):
        read_lazy_config(written(tmp_path, {"train": [{"x": value}]}))


@pytest.mark.parametrize("trusted", [False, True])
@pytest.mark.parametrize(
    "tag", ["object/apply:os.mkdir", "object/new:os.mkdir", "name:os.system", "module:os"]
)
def test_tags_run_no_code(tag: str, trusted: bool, tmp_path: Path) -> None:
    file, made = tmp_path / "config.yaml", tmp_path / "made"
    arguments = f"['{made}']" if "object" in tag else "''"
    file.write_text(f"x: !!python/{tag} {arguments}\n")
    with pytest.raises(InputError, match="cannot be read as YAML"):
        read_lazy_config(str(file), trusted=trusted)
    assert not made.exists()


def test_no_module_of_the_file_is_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = tmp_path / "made"
    (tmp_path / "evil.py").write_text(f"import os; os.mkdir({str(made)!r})")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError):
        read_lazy_config(written(tmp_path, {"a": {"_target_": "evil.Layer"}}))
    assert not made.exists()


@pytest.mark.parametrize(
    "target",
    [
        "torch.nn.Identity",
        "torch.nn.modules.linear.Identity",
        "metaprompt_d2.layers.Float32Sequential",
    ],
)
def test_layers_are_made(target: str, tmp_path: Path) -> None:
    cfg = read_lazy_config(written(tmp_path, {"a": {"_target_": target}, "b": "${a}", "c": "x:y"}))
    assert isinstance(instantiate(cfg.b), nn.Module)


@pytest.mark.parametrize("name", ["cityscapes_seg", "nyu_depth", "coco_pose", "compose/fcos"])
def test_the_config_that_a_training_writes_can_be_read(name: str, tmp_path: Path) -> None:
    cfg = read_lazy_config(f"metaprompt_d2://lazy/{name}.py")
    first, second = tmp_path / "config.yaml", tmp_path / "again.yaml"
    LazyConfig.save(cfg, str(first))
    LazyConfig.save(read_lazy_config(str(first)), str(second))
    assert second.read_text() == first.read_text()


@pytest.mark.parametrize("content", ["", "- 1", "just text", "\x00", "a: [", "2020-99-99"])
def test_what_is_no_config_is_an_error(content: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(content)
    with pytest.raises(InputError, match=r"config\.yaml"):
        read_lazy_config(str(tmp_path / "config.yaml"))


def test_other_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError):
        read_lazy_config(str(tmp_path / "config.py"))
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(InputError, match=r"must end in \.py"):
        read_lazy_config(str(tmp_path / "config.json"))
