"""Checkpoints: whole or not at all, never code, never silently misfitting."""

import os
import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from metaprompt_d2.checkpoint import TensorFileError
from metaprompt_d2.engine.checkpointer import SafeCheckpointer
from metaprompt_d2.engine.hooks import BestCheckpointer
from metaprompt_d2.utils.errors import InputError, MissingFileError


class Payload:
    """A pickle that would make a folder if it were run."""

    def __init__(self, folder: Path):
        self.folder = folder

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.folder),)


def test_saving_and_loading_gives_the_same_model(tmp_path: Path) -> None:
    model, other = nn.Linear(3, 2), nn.Linear(3, 2)
    SafeCheckpointer(model, str(tmp_path)).save("model_0000004", iteration=4)
    extra = SafeCheckpointer(other, str(tmp_path)).resume_or_load("", resume=True)
    assert torch.equal(model.weight, other.weight)
    assert extra["iteration"] == 4


def test_a_failure_while_writing_leaves_the_last_whole_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = nn.Linear(3, 2)
    checkpointer = SafeCheckpointer(model, str(tmp_path))
    checkpointer.save("model_final")
    whole = (tmp_path / "model_final.pth").read_bytes()

    def full_disk(data: object, stream) -> None:
        stream.write(b"half")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(InputError, match="model_final.pth cannot be written: no space"):
        checkpointer.save("model_final")
    assert (tmp_path / "model_final.pth").read_bytes() == whole
    assert checkpointer.get_checkpoint_file() == str(tmp_path / "model_final.pth")


def test_a_model_with_nan_is_not_written(tmp_path: Path) -> None:
    model = nn.BatchNorm2d(2)
    model.running_var[0] = float("nan")
    with pytest.raises(FloatingPointError, match="running_var"):
        SafeCheckpointer(model, str(tmp_path)).save("model_final")
    assert not list(tmp_path.iterdir())


def test_the_best_checkpoint_is_not_the_one_to_resume_from(tmp_path: Path) -> None:
    checkpointer = SafeCheckpointer(nn.Linear(3, 2), str(tmp_path))
    checkpointer.save("model_0000001")
    checkpointer.save("model_best")
    assert checkpointer.get_checkpoint_file().endswith("model_0000001.pth")


@pytest.mark.parametrize("ending", ["pth", "pkl"])
def test_a_file_that_holds_code_is_refused_and_nothing_runs(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"hostile.{ending}"
    content = {"model": {"weight": torch.zeros(2, 3)}, "extra": Payload(tmp_path / "was_run")}
    if ending == "pth":
        torch.save(content, file)
    else:
        file.write_bytes(pickle.dumps({"model": Payload(tmp_path / "was_run")}))
    with pytest.raises(ValueError, match=rf"hostile\.{ending}"):
        SafeCheckpointer(nn.Linear(3, 2)).load(str(file))
    assert not (tmp_path / "was_run").exists()


def test_a_model_zoo_pickle_of_arrays_loads(tmp_path: Path) -> None:
    file = tmp_path / "zoo.pkl"
    weights = {"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)}
    file.write_bytes(pickle.dumps({"model": weights, "__author__": "a test"}))
    model = nn.Linear(3, 2)
    SafeCheckpointer(model).load(str(file))
    assert model.weight.tolist() == [[1.0] * 3] * 2


@pytest.mark.parametrize("ending", ["pth", "pkl", "safetensors"])
@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", b"PK\x03\x04 cut", b"\x89PNG"])
def test_a_file_that_is_no_checkpoint_is_named(tmp_path: Path, content: bytes, ending: str) -> None:
    file = tmp_path / f"broken.{ending}"
    file.write_bytes(content)
    with pytest.raises(TensorFileError, match=rf"broken\.{ending} is ") as error:
        SafeCheckpointer(nn.Linear(3, 2)).load(str(file))
    assert "\n" not in str(error.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"checkpoint \S*gone\.pth does not exist"):
        SafeCheckpointer(nn.Linear(3, 2)).load(str(tmp_path / "gone.pth"))


@pytest.mark.parametrize("content", [[1, 2], {}, {"model": {}}, torch.zeros(2)])
def test_a_file_without_a_state_dict_is_named(tmp_path: Path, content: object) -> None:
    file = tmp_path / "other.pth"
    torch.save(content, file)
    with pytest.raises(TensorFileError, match=r"other\.pth holds no state dict"):
        SafeCheckpointer(nn.Linear(3, 2)).load(str(file))


@pytest.mark.parametrize("ending", ["pth", "pkl", "safetensors"])
def test_a_file_with_nan_is_refused(tmp_path: Path, ending: str) -> None:
    file = tmp_path / f"broken.{ending}"
    tensors = {"weight": torch.full((2, 3), float("nan")), "bias": torch.zeros(2)}
    if ending == "pth":
        torch.save({"model": tensors}, file)
    elif ending == "pkl":
        arrays = {name: value.numpy() for name, value in tensors.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}))
    else:
        save_file(tensors, file)
    with pytest.raises(TensorFileError, match=r"1 tensors hold NaN or infinity: \['weight'\]"):
        SafeCheckpointer(nn.Linear(3, 2)).load(str(file))


@pytest.mark.parametrize("wrapper", ["state_dict", "model", None])
def test_a_state_dict_of_others_loads(tmp_path: Path, wrapper: str | None) -> None:
    state_dict = {"weight": torch.ones(2, 3), "bias": torch.zeros(2)}
    file = tmp_path / "theirs.ckpt"
    torch.save({wrapper: state_dict, "epoch": 3} if wrapper else state_dict, file)
    model = nn.Linear(3, 2)
    SafeCheckpointer(model).load(str(file))
    assert model.weight.tolist() == [[1.0] * 3] * 2


def test_safetensors_load(tmp_path: Path) -> None:
    file = tmp_path / "theirs.safetensors"
    save_file({"weight": torch.ones(2, 3), "bias": torch.zeros(2)}, file)
    model = nn.Linear(3, 2)
    SafeCheckpointer(model).load(str(file))
    assert model.weight.tolist() == [[1.0] * 3] * 2


def test_all_shapes_that_differ_are_listed(tmp_path: Path) -> None:
    SafeCheckpointer(nn.Linear(3, 2), str(tmp_path)).save("small")
    with pytest.raises(ValueError, match="2 tensors differ") as error:
        SafeCheckpointer(nn.Linear(3, 5)).load(str(tmp_path / "small.pth"))
    assert "weight: (2, 3) in the file, (5, 3) in the model" in str(error.value)
    assert "bias: (2,) in the file, (5,) in the model" in str(error.value)


def test_a_checkpoint_of_another_model_is_refused(tmp_path: Path) -> None:
    SafeCheckpointer(nn.Sequential(nn.Linear(3, 2)), str(tmp_path)).save("other")
    with pytest.raises(ValueError, match="none of the checkpoint's 2 tensors"):
        SafeCheckpointer(nn.Linear(3, 2)).load(str(tmp_path / "other.pth"))


def test_a_whole_checkpoint_wins_over_diffusion_weights_which_are_not_opened(
    tmp_path: Path,
) -> None:
    model = nn.Linear(3, 2)
    SafeCheckpointer(model, str(tmp_path)).save("model_0000004", iteration=4)
    file = str(tmp_path / "model_0000004.pth")
    for weights, resume in ((file, False), ("", True)):
        other = nn.Linear(3, 2)
        checkpointer = SafeCheckpointer(other, str(tmp_path), diffusion_weights="/no/such/model")
        checkpointer.resume_or_load(weights, resume=resume)
        assert torch.equal(other.weight, model.weight)
    with pytest.raises(ValueError, match=r"/no/such/model, but the model has no diffusion unet"):
        checkpointer.resume_or_load("", resume=False)


def run_best_hook(folder: Path, start_iter: int, metrics: dict[int, float]) -> list[int]:
    """Show the hook one metric per iteration. Returns the iterations that it saved."""
    checkpointer = SafeCheckpointer(nn.Linear(3, 2), str(folder))
    saved = []
    save = checkpointer.save
    checkpointer.save = lambda name, **extra: (
        saved.append(extra["iteration"]),
        save(name, **extra),
    )
    hook = BestCheckpointer(1, checkpointer, "sem_seg/mIoU")
    for iteration, value in metrics.items():
        storage = SimpleNamespace(latest=lambda v=value, i=iteration: {"sem_seg/mIoU": (v, i)})
        hook.trainer = SimpleNamespace(
            iter=iteration, max_iter=99, start_iter=start_iter, storage=storage
        )
        if iteration == min(metrics):
            hook.before_train()
        hook.after_step()
    return saved


def test_a_resumed_run_does_not_replace_a_better_best_checkpoint(tmp_path: Path) -> None:
    assert run_best_hook(tmp_path, 0, {0: 10.0, 1: 30.0, 2: 20.0}) == [0, 1]
    assert run_best_hook(tmp_path, 3, {3: 25.0, 4: 31.0}) == [4]


def test_a_fresh_run_forgets_the_best_of_another(tmp_path: Path) -> None:
    run_best_hook(tmp_path, 0, {0: 90.0})
    assert run_best_hook(tmp_path, 0, {0: 10.0}) == [0]


class Classifier(nn.Module):
    """A body and a head for some classes."""

    def __init__(self, classes: int):
        super().__init__()
        self.body = nn.Linear(3, 4)
        self.head = nn.Linear(4, classes)


def test_a_head_for_other_classes_may_start_at_random(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained, model = Classifier(19), Classifier(3)
    SafeCheckpointer(trained, str(tmp_path)).save("model_final")
    file, before = str(tmp_path / "model_final.pth"), model.head.weight.clone()
    with pytest.raises(InputError, match=r"head\.weight: \(19, 4\).*\n.*\nTo start a training"):
        SafeCheckpointer(model).load(file)
    with pytest.raises(InputError, match="1 tensors differ"):
        SafeCheckpointer(model, skip_mismatches=["head.weight"]).load(file)
    SafeCheckpointer(model, skip_mismatches=["head"]).load(file)
    assert torch.equal(model.body.weight, trained.body.weight)
    assert torch.equal(model.head.weight, before)
    assert "as MODEL.SKIP_MISMATCHES says: head.weight, head.bias" in caplog.text
    # What fits is loaded, and a resumed training never skips.
    same = Classifier(19)
    SafeCheckpointer(same, skip_mismatches=["head"]).load(file)
    assert torch.equal(same.head.weight, trained.head.weight)
    with pytest.raises(InputError, match="2 tensors differ"):
        SafeCheckpointer(model, str(tmp_path), skip_mismatches=["head"]).resume_or_load("")


def test_skipped_names_are_checked() -> None:
    for wrong in ([""], [3]):
        with pytest.raises(InputError, match="skip_mismatches is"):
            SafeCheckpointer(Classifier(3), skip_mismatches=wrong)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "module._orig_mod.", "a.module."])
@pytest.mark.parametrize("ending", ["pth", "pkl"])
def test_names_of_wrapped_models_load_whole(tmp_path: Path, prefix: str, ending: str) -> None:
    trained, model = Classifier(3), nn.ModuleDict({"a": Classifier(3)})
    start = prefix if prefix.startswith("a.") else f"{prefix}a."
    named = {start + name: value for name, value in trained.state_dict().items()}
    file = tmp_path / f"wrapped.{ending}"
    if ending == "pkl":
        arrays = {name: value.numpy() for name, value in named.items()}
        file.write_bytes(pickle.dumps({"model": arrays, "__author__": "a test"}))
    else:
        torch.save({"model": named}, file)
    SafeCheckpointer(model, for_inference=True).load(str(file))
    assert torch.equal(model["a"].head.weight, trained.head.weight)


def test_a_compiled_model_loads_and_saves(tmp_path: Path) -> None:
    trained = Classifier(3)
    SafeCheckpointer(torch.compile(trained), str(tmp_path)).save("model_final")
    for model in (Classifier(3), torch.compile(Classifier(3))):
        SafeCheckpointer(model, for_inference=True).load(str(tmp_path / "model_final.pth"))
        assert torch.equal(model.head.weight, trained.head.weight)


def test_in_inference_a_checkpoint_is_exactly_the_model(tmp_path: Path) -> None:
    tensors = Classifier(3).state_dict()
    file = str(tmp_path / "model.pth")
    less = {name: value for name, value in tensors.items() if name != "head.bias"}
    for content, reason in (
        (less, "head.bias: missing"),
        (tensors | {"x": torch.ones(1)}, "x: not"),
    ):
        torch.save({"model": content}, file)
        SafeCheckpointer(Classifier(3)).load(file)  # trainings may start so
        with pytest.raises(InputError, match=reason):
            SafeCheckpointer(Classifier(3), for_inference=True).load(file)


def test_integers_do_not_become_weights(tmp_path: Path) -> None:
    tensors = Classifier(3).state_dict()
    torch.save(
        {"model": tensors | {"head.bias": torch.ones(3, dtype=torch.int8)}}, tmp_path / "q.pth"
    )
    with pytest.raises(InputError, match=r"head\.bias: torch\.int8 in the file, torch\.float32"):
        SafeCheckpointer(Classifier(3)).load(str(tmp_path / "q.pth"))


def test_a_tensor_of_two_names_may_have_one_in_the_file(tmp_path: Path) -> None:
    model = Classifier(4)
    model.head.weight = nn.Parameter(torch.zeros(4, 4))
    model.again = model.head
    names = [name for name in model.state_dict() if not name.startswith("again")]
    tensors = {name: torch.rand_like(model.state_dict()[name]) for name in names}
    save_file(tensors, tmp_path / "shared.safetensors")
    SafeCheckpointer(model, for_inference=True).load(str(tmp_path / "shared.safetensors"))
    assert torch.equal(model.again.weight, tensors["head.weight"])


@pytest.mark.parametrize("damage", ["truncated", "flipped", "gone"])
def test_a_damaged_last_checkpoint_says_how_to_go_back(tmp_path: Path, damage: str) -> None:
    checkpointer = SafeCheckpointer(Classifier(3), str(tmp_path))
    for name in ("model_0000009", "model_0000019", "model_best", "model_0000029"):
        checkpointer.save(name)
    last, tag = tmp_path / "model_0000029.pth", tmp_path / "last_checkpoint"
    content = bytearray(last.read_bytes())
    if damage == "truncated":
        last.write_bytes(content[:-50])
    elif damage == "flipped":
        content[content.index(checkpointer.model.head.weight.detach().numpy().tobytes())] ^= 1
        last.write_bytes(content)
    else:
        last.unlink()
    with pytest.raises(InputError, match=r"model_0000029\.pth") as error:
        checkpointer.resume_or_load("")
    assert f"write model_0000019.pth into {tag}" in str(error.value)
    tag.write_text("model_0000019.pth")
    SafeCheckpointer(Classifier(3), str(tmp_path)).resume_or_load("")


def test_without_another_checkpoint_one_starts_again(tmp_path: Path) -> None:
    checkpointer = SafeCheckpointer(Classifier(3), str(tmp_path))
    checkpointer.save("model_0000009")
    (tmp_path / "model_0000009.pth").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(InputError, match="no other checkpoint can be resumed"):
        checkpointer.resume_or_load("")


def test_in_inference_the_model_takes_over_the_tensors_of_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No copy is made; types and frozen weights stay the model's."""
    weights = {"weight": torch.rand(2, 3), "bias": torch.rand(2).half()}
    torch.save(weights, tmp_path / "a.pth")
    read: dict[str, torch.Tensor] = {}

    def remembered(file: str) -> dict:
        read.update(torch.load(file))
        return {"model": dict(read)}

    monkeypatch.setattr("metaprompt_d2.engine.checkpointer.read_weights", remembered)
    model = nn.Linear(3, 2)
    model.weight.requires_grad_(False)
    SafeCheckpointer(model, for_inference=True).load(str(tmp_path / "a.pth"))
    assert model.weight.data_ptr() == read["weight"].data_ptr()
    assert model.bias.dtype == torch.float32
    assert torch.equal(model.bias, weights["bias"].float())
    assert (model.weight.requires_grad, model.bias.requires_grad) == (False, True)
    assert "load_state_dict" not in vars(model)


@pytest.mark.parametrize("ending", [".pth", ".safetensors"])
def test_a_loaded_model_doesnt_depend_on_its_file(tmp_path: Path, ending: str) -> None:
    weights = {"weight": torch.rand(2, 3), "bias": torch.rand(2)}
    file = tmp_path / f"a{ending}"
    (save_file if ending == ".safetensors" else torch.save)(weights, file)
    model = nn.Linear(3, 2)
    SafeCheckpointer(model, for_inference=True).load(str(file))
    with file.open("r+b") as stream:
        stream.truncate(0)
    assert torch.equal(model.weight, weights["weight"])


def test_tied_weights_stay_tied_in_inference(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    expected = torch.rand(3, 3)
    state = {"0.weight": expected, "0.bias": torch.rand(3), "1.bias": torch.rand(3)}
    torch.save(state, tmp_path / "a.pth")
    SafeCheckpointer(model, for_inference=True).load(str(tmp_path / "a.pth"))
    assert model[0].weight is model[1].weight
    assert torch.equal(model[1].weight, expected)
