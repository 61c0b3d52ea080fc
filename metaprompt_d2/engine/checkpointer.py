"""`SafeCheckpointer`: Detectron2's checkpointer that neither loses nor runs anything."""

import os
import pickle
from pathlib import Path
from typing import Any

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.utils.file_io import PathManager
from torch import nn

from ..checkpoint import (
    from_official_sem_seg,
    is_official_sem_seg,
    load_diffusion_weights,
    load_pickled_arrays,
)

__all__ = ["BEST_CHECKPOINT", "SafeCheckpointer"]

# Kept beside the periodic ones; `--resume` never starts from it.
BEST_CHECKPOINT = "model_best"


class SafeCheckpointer(DetectionCheckpointer):
    """Differences to `DetectionCheckpointer`:

    * without a checkpoint the model starts from `diffusion_weights`;
    * files are written under a temporary name and renamed, so that a killed run leaves the last
      whole checkpoint, and a model with NaN or infinity is not written at all;
    * files are read without running code from them, official segmentation checkpoints too;
    * tensors of other shapes, and a file of which no tensor fits, are errors.
    """

    def __init__(
        self, model: nn.Module, save_dir: str = "", *, diffusion_weights: str = "", **kwargs: Any
    ):
        """
        Args:
            model, save_dir, kwargs: as in `DetectionCheckpointer`.
            diffusion_weights: MODEL.DIFFUSION.WEIGHTS.
        """
        super().__init__(model, save_dir, **kwargs)
        self.diffusion_weights = diffusion_weights

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, or the diffusion weights where `path` is empty."""
        if not path and self.diffusion_weights:
            folder = PathManager.get_local_path(self.diffusion_weights)
            load_diffusion_weights(self.model, folder)
            return {}
        return super().load(path, *args, **kwargs)

    def save(self, name: str, **kwargs: Any) -> None:
        """Write `<name>.pth`, whole or not at all.

        Args:
            name: of the file, without ending.
            kwargs: further data to save.

        Raises:
            FloatingPointError: a parameter or buffer is NaN or infinite; nothing was written.
        """
        if not self.save_dir or not self.save_to_disk:
            return
        model_state = self.model.state_dict()
        self._check_finite(model_state)
        data = {"model": model_state}
        data |= {key: value.state_dict() for key, value in self.checkpointables.items()}
        file = Path(self.save_dir) / f"{name}.pth"
        self.logger.info("Saving checkpoint to %s", file)
        temporary = file.with_suffix(".pth.tmp")
        with temporary.open("wb") as stream:
            torch.save(data | kwargs, stream)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, file)
        if name != BEST_CHECKPOINT:
            self.tag_last_checkpoint(file.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        tag = Path(self.save_dir) / "last_checkpoint"
        temporary = tag.with_suffix(".tmp")
        temporary.write_text(last_filename_basename)
        os.replace(temporary, tag)

    @staticmethod
    def _check_finite(state: dict[str, torch.Tensor]) -> None:
        tensors = {key: value for key, value in state.items() if value.is_floating_point()}
        finite = torch.stack([torch.isfinite(value).all() for value in tensors.values()]).cpu()
        broken = [key for key, ok in zip(tensors, finite.tolist(), strict=True) if not ok]
        if broken:
            raise FloatingPointError(
                f"checkpoint not written: {len(broken)} tensors hold NaN or infinity: {broken}"
            )

    def _load_file(self, filename: str) -> Any:
        if not filename.endswith(".pkl"):
            return super()._load_file(filename)
        with PathManager.open(filename, "rb") as file:
            try:
                data = load_pickled_arrays(file)
            except pickle.UnpicklingError as error:
                raise ValueError(f"{filename} is refused: {error}") from error
        if "model" in data and "__author__" in data:  # Detectron2's model zoo
            return data
        blobs = data.get("blobs", data)  # Detectron 1 and ImageNet models of Caffe2
        model = {key: value for key, value in blobs.items() if not key.endswith("_momentum")}
        return {"model": model, "__author__": "Caffe2", "matching_heuristics": True}

    def _torch_load(self, filename: str) -> Any:
        try:
            loaded = torch.load(filename, map_location="cpu", weights_only=True)
        except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
            reason = str(error).strip().splitlines()[0] if str(error) else "it is truncated"
            raise ValueError(f"{filename} is no readable checkpoint: {reason}") from error
        state = loaded.get("state_dict", loaded)
        if is_official_sem_seg(state):
            return {"model": from_official_sem_seg(state)}
        return loaded

    def _load_model(self, checkpoint: Any) -> Any:
        given = set(checkpoint["model"])
        incompatible = super()._load_model(checkpoint)
        if incompatible.incorrect_shapes:
            lines = [
                f"{name}: {tuple(in_file)} in the file, {tuple(in_model)} in the model"
                for name, in_file, in_model in incompatible.incorrect_shapes
            ]
            raise ValueError(
                f"checkpoint does not fit the model, {len(lines)} shapes differ:\n  "
                + "\n  ".join(lines)
            )
        if given and given == set(incompatible.unexpected_keys):
            raise ValueError(
                f"none of the checkpoint's {len(given)} tensors belongs to the model; "
                f"its first is {min(given)!r}"
            )
        return incompatible
