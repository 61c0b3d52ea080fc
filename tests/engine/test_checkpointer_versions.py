"""Models whose modules rename tensors by the version that a state dict holds."""

import copy
import pickle
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from metaprompt_d2.checkpoint import TensorFileError, load_checkpoint, use_averages
from metaprompt_d2.checkpoint.versions import versions_of, with_versions
from metaprompt_d2.engine import SafeCheckpointer


class Versioned(nn.Module):
    """Version 1 had the bias of version 2 with the opposite sign, under the same name."""

    _version = 2

    def __init__(self) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.randn(3))

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str, *rest: Any) -> None:
        if (rest[0].get("version") or 1) < 2:
            state_dict[f"{prefix}bias"] = -state_dict[f"{prefix}bias"]
        super()._load_from_state_dict(state_dict, prefix, *rest)


def _model() -> nn.Module:
    return nn.ModuleDict({"head": nn.ModuleDict({"part": Versioned()}), "norm": nn.BatchNorm2d(2)})


def _compiled(model: nn.Module) -> nn.Module:
    return torch.compile(model)  # type: ignore[return-value]


def _compiled_part(model: nn.Module) -> nn.Module:
    model["head"]["part"] = torch.compile(model["head"]["part"])
    return model


WRAPPERS: list[Callable[[nn.Module], nn.Module]] = [
    copy.copy,  # none
    nn.DataParallel,
    _compiled,
    _compiled_part,
]


def _bias(tensors: Mapping[str, Any]) -> Tensor:
    (bias,) = (value for name, value in tensors.items() if ".part." in name)
    return torch.as_tensor(bias)


@pytest.mark.parametrize("reader", WRAPPERS)
@pytest.mark.parametrize("writer", WRAPPERS)
def test_a_saved_model_resumes_and_loads_with_its_versions(
    tmp_path: Path,
    writer: Callable[[nn.Module], nn.Module],
    reader: Callable[[nn.Module], nn.Module],
) -> None:
    written = _model()
    SafeCheckpointer(writer(written), str(tmp_path)).save("model_final")
    resumed, loaded = _model(), _model()
    SafeCheckpointer(reader(resumed), str(tmp_path)).resume_or_load("", resume=True)
    SafeCheckpointer(reader(loaded)).load(str(tmp_path / "model_final.pth"))
    for model in (resumed, loaded):
        assert torch.equal(_bias(model.state_dict()), _bias(written.state_dict()))


@pytest.mark.parametrize("version", [1, 2, None])
@pytest.mark.parametrize("kind", ["zip", "legacy", "pkl"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod."])
def test_a_file_of_others_loads_as_torch_loads_it(
    tmp_path: Path, prefix: str, kind: str, version: int | None
) -> None:
    state_dict = _model().state_dict()
    del state_dict["norm.num_batches_tracked"]  # as BatchNorm had it before its version 2
    versions = {} if version is None else {"head.part": version, "norm": 1}
    expected = _model()
    expected.load_state_dict(with_versions(state_dict, versions))
    tensors: dict[str, Any] = {f"{prefix}{name}": v for name, v in state_dict.items()}
    if kind == "pkl":
        tensors = {name: value.numpy() for name, value in tensors.items()}
    content = with_versions(tensors, {f"{prefix}{name}": v for name, v in versions.items()})
    file = tmp_path / ("theirs.pkl" if kind == "pkl" else "theirs.pth")
    if kind == "pkl":
        file.write_bytes(pickle.dumps({"model": content, "__author__": "others"}))
    else:
        torch.save({"model": content}, file, _use_new_zipfile_serialization=kind == "zip")
    model = _model()
    model["norm"].num_batches_tracked += 7
    SafeCheckpointer(model, for_inference=True).load(str(file))
    for name, value in expected.state_dict().items():
        assert name.endswith("num_batches_tracked") or torch.equal(model.state_dict()[name], value)
    sign = 1 if version == 2 else -1
    assert torch.equal(_bias(model.state_dict()), sign * _bias(tensors))


def test_averages_keep_the_versions() -> None:
    state_dict = _model().state_dict()
    averages = {name: torch.zeros_like(value) for name, value in state_dict.items()}
    averaged = use_averages(state_dict, {"ema": {"averages": averages}})
    assert averaged is not None
    assert versions_of(averaged) == versions_of(state_dict)


@pytest.mark.parametrize("metadata", [3, {"a": 3}, {"a": {"version": "x"}}, {5: {"version": 1}}])
@pytest.mark.parametrize("kind", ["zip", "pkl"])
def test_versions_that_are_not_numbers_are_refused(
    tmp_path: Path, kind: str, metadata: object
) -> None:
    state_dict = nn.Linear(1, 1).state_dict()
    vars(state_dict)["_metadata"] = metadata
    file = tmp_path / f"hostile.{'pkl' if kind == 'pkl' else 'pth'}"
    if kind == "pkl":
        state_dict |= {name: value.numpy() for name, value in state_dict.items()}
        file.write_bytes(pickle.dumps(state_dict))
    else:
        torch.save(state_dict, file)
    assert load_checkpoint(file).keys() == {"weight", "bias"}
    with pytest.raises(TensorFileError, match="hostile.*: expected a number as the version of"):
        SafeCheckpointer(nn.Linear(1, 1)).load(str(file))
