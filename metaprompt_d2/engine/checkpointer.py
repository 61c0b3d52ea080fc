"""`SafeCheckpointer`: atomic writes and safe loading for Detectron2's checkpointer."""

from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import nn

from ..checkpoint import (
    TensorFileError,
    find_state_dict,
    from_official,
    is_official,
    load_checkpoint,
    load_diffusion_weights,
    non_finite,
)
from ..diffusion import base_names, is_adapter
from ..utils.errors import InputError, MissingFileError, NonFiniteError
from ..utils.files import atomic_write

# Saved next to the periodic checkpoints. `--resume` never starts from it.
BEST_CHECKPOINT = "model_best"

_ADAPTER_ADVICE = (
    " (see MODEL.DIFFUSION.LORA in the config.yaml of the file's training, or merge adapters into "
    "the weights with tools/convert_checkpoint.py --to plain)"
)


class SafeCheckpointer(DetectionCheckpointer):
    """A `DetectionCheckpointer` with atomic writes and safe, strict loading.

    * Without a checkpoint, the model starts from `diffusion_weights`.
    * Files are written atomically: a killed run leaves the last complete checkpoint. A model with
      NaN or infinity is never written.
    * Files are read without running code from them. Safetensors and official MetaPrompts
      checkpoints load too.
    * Tensors of other shapes, NaN, missing or unknown adapters (LoRA), and files of which no
      tensor fits, are errors. Official checkpoints must fit tensor for tensor.
    * Checkpoints without adapters load into models with adapters.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        diffusion_weights: str = "",
        strict_diffusion: bool = True,
        **kwargs: Any,
    ):
        """
        Args:
            model: Model to save and load.
            save_dir: Folder of the checkpoints.
            diffusion_weights: Source for `load_diffusion_weights`, "" for none.
            strict_diffusion: Whether tensors that the source lacks are errors.
            kwargs: Further arguments of `DetectionCheckpointer`.
        """
        super().__init__(model, save_dir, **kwargs)
        self.diffusion_weights = diffusion_weights
        self.strict_diffusion = strict_diffusion

    @classmethod
    def of_config(cls, cfg: CfgNode, model: nn.Module) -> "SafeCheckpointer":
        """Build the checkpointer that a config describes."""
        node, folder = cfg.MODEL.DIFFUSION, cfg.OUTPUT_DIR
        return cls(model, folder, diffusion_weights=node.WEIGHTS, strict_diffusion=node.STRICT)

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, or the diffusion weights if `path` is empty.

        Raises:
            InputError: The file does not exist (`MissingFileError`), or doesn't fit the model.
        """
        if not path and self.diffusion_weights:
            source = PathManager.get_local_path(self.diffusion_weights)
            load_diffusion_weights(self.model, source, strict=self.strict_diffusion)
            return {}
        file = path.split("?")[0]
        is_local = bool(file) and "://" not in file
        if is_local and comm.is_main_process() and not Path(file).is_file():
            raise MissingFileError(f"checkpoint {file} does not exist")
        return super().load(path, *args, **kwargs)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `<name>.pth` atomically, with further data.

        Raises:
            NonFiniteError: A parameter or buffer is NaN or infinite. Nothing was written.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        data: dict[str, Any] = {"model": self.model.state_dict()}
        if broken := non_finite(data["model"]):
            raise NonFiniteError(
                f"checkpoint not written: {len(broken)} tensors hold NaN or infinity: {broken}"
            )
        data |= {key: value.state_dict() for key, value in self.checkpointables.items()}
        file = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", file)
        atomic_write(file, lambda stream: torch.save(data | kwargs, stream))
        if name != BEST_CHECKPOINT:
            self.tag_last_checkpoint(file.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Remember the checkpoint that `--resume` starts from."""
        tag = Path(self.save_dir) / "last_checkpoint"
        atomic_write(tag, lambda stream: stream.write(last_filename_basename.encode()))

    def _load_file(self, filename: str) -> dict[str, Any]:
        is_pickle = filename.endswith(".pkl")
        loaded = _load_pickle(filename) if is_pickle else super()._load_file(filename)
        tensors = {name: torch.as_tensor(value) for name, value in loaded["model"].items()}
        if broken := non_finite(tensors):
            raise TensorFileError(
                f"{filename}: {len(broken)} tensors hold NaN or infinity: {broken}"
            )
        return loaded

    def _torch_load(self, filename: str) -> dict[str, Any]:
        loaded = load_checkpoint(filename)
        state_dict = find_state_dict(loaded, filename)
        if is_official(state_dict):
            try:
                weights = from_official(state_dict)
            except InputError as error:
                raise TensorFileError(f"{filename}: {error}") from error
            return {"model": weights.model, "official": weights.task}
        return (loaded if "model" in loaded else {}) | {"model": state_dict}

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        own = base_names({name: name for name in self.model.state_dict()})
        given = {own.get(name, name): value for name, value in checkpoint["model"].items()}
        checkpoint["model"] = given.copy()  # the parent class changes it
        incompatible = super()._load_model(checkpoint)
        is_official_file = "official" in checkpoint
        has_adapters = any(map(is_adapter, given))
        problems = [
            f"{name}: {tuple(in_file)} in the file, {tuple(in_model)} in the model"
            for name, in_file, in_model in incompatible.incorrect_shapes
        ]
        # A model may have adapters that the file lacks, but all or none of them.
        problems += [
            f"{name}: missing in the file"
            for name in incompatible.missing_keys
            if (has_adapters if is_adapter(name) else is_official_file)
        ]
        problems += [
            f"{name}: not in the model" + _ADAPTER_ADVICE * is_adapter(name)
            for name in incompatible.unexpected_keys
            if is_official_file or is_adapter(name)
        ]
        if problems:
            raise InputError(
                f"checkpoint does not fit the model, {len(problems)} tensors differ:\n  "
                + "\n  ".join(problems)
            )
        if given and given.keys() == set(incompatible.unexpected_keys):
            raise InputError(
                f"none of the checkpoint's {len(given)} tensors belongs to the model; "
                f"its first is {min(given)!r}"
            )
        return incompatible


def _load_pickle(filename: str) -> dict[str, Any]:
    """Read a pickle of Detectron2's model zoo, Detectron 1 or Caffe2."""
    loaded = load_checkpoint(PathManager.get_local_path(filename))
    if not isinstance(loaded, dict):
        raise TensorFileError(f"{filename} holds no state dict: {type(loaded).__name__}")
    if "model" in loaded and "__author__" in loaded:  # Detectron2's model zoo
        return loaded
    blobs = loaded.get("blobs", loaded)  # Detectron 1 and ImageNet models of Caffe2
    model = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
    return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}
