"""`SafeCheckpointer`: atomic writes and safe loading for Detectron2's checkpointer."""

import logging
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

from detectron2.checkpoint import DetectionCheckpointer
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.file_io import PathManager
from torch import Tensor, nn

from ..checkpoint import (
    AVERAGES,
    TensorFileError,
    find_misfits,
    find_weights,
    load_diffusion_weights,
    match_weights,
    non_finite,
    read_weights,
    write_checkpoint,
)
from ..diffusion import is_adapter
from ..utils.errors import InputError, MissingFileError, NonFiniteError
from ..utils.files import atomic_write

logger = logging.getLogger(__name__)

# Saved next to the periodic checkpoints. `--resume` never starts from it.
BEST_CHECKPOINT = "model_best"

_MISMATCH_ADVICE = (
    "\nTo start a training with its own values for tensors of other shapes, name them in "
    "MODEL.SKIP_MISMATCHES (LazyConfigs: train.skip_mismatches)"
)


class SafeCheckpointer(DetectionCheckpointer):
    """A `DetectionCheckpointer` with atomic writes and safe, strict loading.

    * Without a checkpoint, the model starts from `diffusion_weights`.
    * Files are written atomically: a killed run leaves the last complete checkpoint. A model with
      NaN or infinity is never written. Files hold checksums, which are checked.
    * Files are read by their content, without running code from them: Detectron2's, safetensors and
      official MetaPrompts checkpoints. Names may have what DDP and torch.compile add.
    * Tensors of other shapes, NaN, missing or unknown adapters (LoRA), and files that set none of
      the model's parameters, are errors. Official checkpoints must fit tensor for tensor, and in
      inference so must all.
    * Checkpoints without adapters load into models with adapters.
    """

    def __init__(
        self,
        model: nn.Module,
        save_dir: str = "",
        *,
        diffusion_weights: str = "",
        strict_diffusion: bool = True,
        skip_mismatches: Sequence[str] = (),
        for_inference: bool = False,
        **kwargs: Any,
    ):
        """
        Args:
            model: Model to save and load.
            save_dir: Folder of the checkpoints.
            diffusion_weights: Source for `load_diffusion_weights`, "" for none.
            strict_diffusion: Whether tensors that the source lacks are errors.
            skip_mismatches: Beginnings of names of tensors that a training may start without,
                where the file has them in another shape.
            for_inference: Whether a checkpoint must hold all of the model's tensors, and no others.
            kwargs: Further arguments of `DetectionCheckpointer`.
        """
        super().__init__(model, save_dir, **kwargs)
        self.diffusion_weights = diffusion_weights
        self.strict_diffusion = strict_diffusion
        if not all(isinstance(name, str) and name for name in skip_mismatches):
            raise InputError(
                f"skip_mismatches is {list(skip_mismatches)}, expected beginnings of tensors' names"
            )
        self.skip_mismatches = tuple(skip_mismatches)
        self.for_inference = for_inference
        self._resumes = False

    @classmethod
    def of_config(
        cls, cfg: CfgNode, model: nn.Module, *, for_inference: bool = False
    ) -> "SafeCheckpointer":
        """Build the checkpointer that a config describes."""
        return cls(
            model,
            cfg.OUTPUT_DIR,
            diffusion_weights=cfg.MODEL.DIFFUSION.WEIGHTS,
            strict_diffusion=cfg.MODEL.DIFFUSION.STRICT,
            skip_mismatches=cfg.MODEL.SKIP_MISMATCHES,
            for_inference=for_inference,
        )

    def resume_or_load(self, path: str, *, resume: bool = True) -> dict[str, Any]:
        """Load the last checkpoint of `save_dir`, or `path` where there is none.

        Raises:
            InputError: As in `load`. Where the last checkpoint is damaged or gone, the message says
                how to go back to the one before.
        """
        self._resumes = resume and self.has_checkpoint()
        try:
            return super().resume_or_load(path, resume=resume)
        except (MissingFileError, TensorFileError) as error:
            if not self._resumes:
                raise
            raise TensorFileError(f"{error}; {self._how_to_go_back()}") from error
        finally:
            self._resumes = False

    def _how_to_go_back(self) -> str:
        last, tag = Path(self.get_checkpoint_file()).name, Path(self.save_dir) / "last_checkpoint"
        others = [
            file
            for file in Path(self.save_dir).glob("*.pth")
            if file.name not in (last, f"{BEST_CHECKPOINT}.pth") and zipfile.is_zipfile(file)
        ]
        if not others:
            return "no other checkpoint can be resumed from: start again without --resume"
        newest = max(others, key=lambda file: file.stat().st_mtime)
        return f"to resume from the one before, write {newest.name} into {tag}"

    def load(self, path: str, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Load a checkpoint, or the diffusion weights if `path` is empty.

        Raises:
            InputError: The file does not exist (`MissingFileError`), or doesn't fit the model.
        """
        if not path and self.diffusion_weights:
            source = PathManager.get_local_path(self.diffusion_weights)
            load_diffusion_weights(self.model, source, strict=self.strict_diffusion)
            return {}
        path = find_weights(path) if path else path
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
        write_checkpoint(file, data | kwargs)
        if name != BEST_CHECKPOINT:
            self.tag_last_checkpoint(file.name)

    def tag_last_checkpoint(self, last_filename_basename: str) -> None:
        """Remember the checkpoint that `--resume` starts from."""
        tag = Path(self.save_dir) / "last_checkpoint"
        atomic_write(tag, lambda stream: stream.write(last_filename_basename.encode()))

    def _load_file(self, filename: str) -> dict[str, Any]:
        # Detectron2 itself would unpickle files of these endings.
        of_zoo = filename.endswith((".pkl", ".pyth"))
        loaded = self._torch_load(filename) if of_zoo else super()._load_file(filename)
        if broken := non_finite(loaded["model"]):
            raise TensorFileError(
                f"{filename}: {len(broken)} tensors hold NaN or infinity: {broken}"
            )
        return loaded

    def _torch_load(self, filename: str) -> dict[str, Any]:
        return read_weights(PathManager.get_local_path(filename))

    def _load_model(self, checkpoint: dict[str, Any]) -> Any:
        given = match_weights(self.model, checkpoint["model"])
        if self.for_inference:
            _move_like(given, self.model)
        checkpoint["model"] = copy(given)  # with its versions; the parent class changes it
        with _weights_taken_over(self.model) if self.for_inference else nullcontext():
            incompatible = super()._load_model(checkpoint)
        if self.for_inference:
            _clear_adapters(self.model, incompatible.missing_keys)
        may_differ = () if self._resumes else self.skip_mismatches
        problems = find_misfits(
            self.model,
            given,
            incompatible,
            is_whole=self.for_inference or "official" in checkpoint,
            is_for_inference=self.for_inference,
            may_differ=may_differ,
        )
        if problems:
            advice = "" if self.for_inference or self._resumes else _MISMATCH_ADVICE
            raise InputError(
                f"checkpoint does not fit the model, {len(problems)} tensors differ:\n  "
                + "\n  ".join(problems)
                + advice * bool(incompatible.incorrect_shapes)
            )
        takes_averages = self._resumes and AVERAGES in self.checkpointables
        if AVERAGES in checkpoint and not self.for_inference and not takes_averages:
            logger.warning("The training starts from the checkpoint's weights, not its averages")
        if incompatible.incorrect_shapes:
            names = ", ".join(name for name, *_ in incompatible.incorrect_shapes)
            logger.warning("Not loaded, as MODEL.SKIP_MISMATCHES says: %s", names)
        return incompatible


def _move_like(weights: dict[str, Tensor], model: nn.Module) -> None:
    """Give weights the types, devices and layout of a model's, in place."""
    for name, own in model.state_dict().items():
        if isinstance(weights.get(name), Tensor):
            weights[name] = weights[name].to(own).contiguous()


def _clear_adapters(model: nn.Module, names: Sequence[str]) -> None:
    """Set the adapters that a file lacks to 0: one factor is, and the other may have no values."""
    for name, parameter in model.named_parameters():
        if name in names and is_adapter(name):
            nn.init.zeros_(parameter)


@contextmanager
def _weights_taken_over(model: nn.Module) -> Iterator[None]:
    """Let a model take over the tensors that it loads: a copy needs time and twice the memory.

    A tensor of several names is copied, so that all of them still mean the same one.
    """
    own = list(model.state_dict(keep_vars=True).values())
    if len({id(value) for value in own}) == len(own):
        model.load_state_dict = partial(model.load_state_dict, assign=True)  # type: ignore[method-assign]
    try:
        yield
    finally:
        vars(model).pop("load_state_dict", None)
