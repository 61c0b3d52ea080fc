"""One training iteration: accumulation, mixed precision, clipping, and a guard against NaN."""

import math
import time
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NoReturn

import torch
from detectron2.engine import SimpleTrainer
from detectron2.modeling.meta_arch.dense_detector import DenseDetector
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..utils.errors import InputError, NonFiniteError
from ..utils.precision import autocast
from .ema import WeightAverage
from .optimizer_state import parameter_names, take_moments
from .stop import StopSignals

# The running mean by which RetinaNet and FCOS scale their losses; their state dict lacks it.
_NORMALIZER = "loss_normalizer"


class NonFiniteLossError(NonFiniteError):
    """A loss became NaN or infinite; the model is as it was before the iteration."""


class TrainLoop(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with its own iteration.

    The losses of an iteration are averaged over processes in one collective. They travel to the
    host while the device already runs the backward pass, so checking them for NaN before the update
    doesn't make the host wait.

    A forward pass overwrites BatchNorm's running statistics before its losses are known, and they
    can't be recovered from the new ones once NaN is in them. So each iteration copies those of the
    last finished one into memory that is allocated once. Checkpoints don't hold them: the last one
    may be thousands of iterations old.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable[list[dict]],
        optimizer: torch.optim.Optimizer,
        *,
        seed: int,
        accumulation_steps: int = 1,
        amp_dtype: torch.dtype | None = None,
        max_grad_norm: float | None = None,
        average: WeightAverage | None = None,
    ):
        """
        Args:
            model: Model in training mode that returns a dict of losses.
            data_loader: Endless iterable of batches.
            optimizer: Optimizer of the model.
            seed: Seed of random numbers such as dropout. A resumed run draws the same ones.
            accumulation_steps: Number of the loader's batches per update.
            amp_dtype: Autocast type; float16 also scales the loss. None for float32.
            max_grad_norm: Norm to which the gradient of the whole model is clipped.
            average: Averages of the weights, updated with them.
        """
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self.accumulation_steps = accumulation_steps
        self.amp_dtype = amp_dtype
        self.max_grad_norm = max_grad_norm
        self.average = average
        self.signals = StopSignals()
        self.must_stop = False
        self.device = next(model.parameters()).device
        scales = amp_dtype == torch.float16
        self.grad_scaler = torch.amp.GradScaler(self.device.type, enabled=scales)
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]
        self._kept_buffers = [torch.empty_like(buffer) for buffer in self._buffers]

    def run_step(self) -> None:
        """Run one iteration and update the model.

        Raises:
            NonFiniteLossError: A loss isn't finite. Raised before the update on all processes; the
                message names the images.
            InputError: Parameters have no gradient, which DistributedDataParallel refuses.
        """
        assert self.model.training, "the model was changed to eval mode"
        _copy(self._buffers, self._kept_buffers)
        data_time, file_names, pending = 0.0, [], []
        for part in range(self.accumulation_steps):
            start = time.perf_counter()
            data = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            file_names += [item.get("file_name", "(no file name)") for item in data]
            torch.manual_seed(self._seed_of(part))
            with self._exchange_gradients(part):
                with autocast(self.device, self.amp_dtype):
                    losses = self.model(data)
                pending.append(_PendingLosses(losses, self.signals.requested))
                total = sum(losses.values()) / self.accumulation_steps
                self.grad_scaler.scale(total).backward()
        self._refuse_unused_parameters()
        self.after_backward()
        values = _mean_losses(pending)
        self.must_stop = any(part.stops for part in pending)
        if not all(math.isfinite(value) for value in values.values()):
            self._stop(values, file_names)
        self._update()
        self._write_losses(values, data_time)

    def save_last_finished(self) -> None:
        """Save the last finished iteration, in a trainer with a checkpointer."""

    def state_dict(self) -> dict[str, Any]:
        names = parameter_names(self._bare_model, self.optimizer)
        state = super().state_dict() | {"seed": self.seed, "parameter_names": names}
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        if self._normalizer is not None:
            state[_NORMALIZER] = self._normalizer
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state. The settings of the optimizer stay as they are (`take_moments`)."""
        names = parameter_names(self._bare_model, self.optimizer)
        given = state_dict.get("parameter_names")
        optimizer = take_moments(self.optimizer, state_dict["optimizer"], names, given)
        super().load_state_dict(state_dict | {"optimizer": optimizer})
        self.seed = state_dict.get("seed", self.seed)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        if _NORMALIZER in state_dict:
            setattr(self._bare_model, _NORMALIZER, state_dict[_NORMALIZER])

    def _seed_of(self, part: int) -> int:
        batch = self.iter * self.accumulation_steps + part
        return (self.seed * 1_000_003 + batch * comm.get_world_size() + comm.get_rank()) % 2**63

    def _exchange_gradients(self, part: int) -> AbstractContextManager:
        """Let processes exchange gradients in the last part of an accumulated batch only."""
        is_last = part + 1 == self.accumulation_steps
        if isinstance(self.model, DistributedDataParallel) and not is_last:
            return self.model.no_sync()
        return nullcontext()

    def _refuse_unused_parameters(self) -> None:
        """Explain before the first update what DDP would only say in the second iteration."""
        if not isinstance(self.model, DistributedDataParallel):
            return
        if self.model.find_unused_parameters or self.iter > self.start_iter:
            return
        named = self._bare_model.named_parameters()
        if unused := [name for name, p in named if p.requires_grad and p.grad is None]:
            raise InputError(
                f"{len(unused)} parameters had no gradient, such as {unused[:3]}: the head reads "
                "only some of the backbone's features. Leave the others out "
                "(MODEL.META_PROMPT.OUT_FEATURES, MODEL.FPN.IN_FEATURES), or set "
                "SOLVER.FIND_UNUSED_PARAMETERS True (in a LazyConfig "
                "train.ddp.find_unused_parameters)"
            )

    def _stop(self, values: dict[str, float], file_names: list[str]) -> NoReturn:
        _copy(self._kept_buffers, self._buffers)
        names = [name for others in comm.all_gather(file_names) for name in others]
        self.save_last_finished()
        raise NonFiniteLossError(
            f"loss became NaN or infinite at iteration {self.iter}: {values}; images of the "
            f"batch: {', '.join(names)}"
        )

    def _update(self) -> None:
        if self.max_grad_norm is not None or self.grad_scaler.is_enabled():
            self.grad_scaler.unscale_(self.optimizer)  # clipping needs true gradients
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self.average is not None:
            # Also after a step that the scaler skipped: checking would force a GPU sync.
            self.average.update()
        self.optimizer.zero_grad()  # frees the gradients' memory for an evaluation

    def _write_losses(self, values: dict[str, float], data_time: float) -> None:
        storage = get_event_storage()
        storage.put_scalar("data_time", data_time)
        storage.put_scalar("total_loss", sum(values.values()))
        if len(values) > 1:
            storage.put_scalars(**values)

    @property
    def _bare_model(self) -> nn.Module:
        wrapped = isinstance(self.model, DistributedDataParallel)
        return self.model.module if wrapped else self.model

    @property
    def _normalizer(self) -> float | None:
        """The model's `loss_normalizer`; a `DenseDetector` has one from its first loss on."""
        model = self._bare_model
        return getattr(model, _NORMALIZER, None) if isinstance(model, DenseDetector) else None


class _PendingLosses:
    """Losses of one batch, averaged over processes, on their way to the host.

    With them travels whether a process was asked to stop, so that all stop after one iteration.
    """

    def __init__(self, losses: dict[str, Tensor], stops: bool):
        self.names = list(losses)
        self.stops = stops
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if comm.get_world_size() > 1:
            values = torch.cat([values, values.new_full((1,), float(stops))])
            torch.distributed.all_reduce(values)
            values /= comm.get_world_size()
        self._values = values.to("cpu", non_blocking=True)
        self._copied = torch.cuda.current_stream().record_event() if values.is_cuda else None

    def wait(self) -> dict[str, float]:
        if self._copied is not None:
            self._copied.synchronize()
        values = self._values.tolist()
        if len(values) > len(self.names):
            self.stops = values.pop() > 0
        return dict(zip(self.names, values, strict=True))


def _mean_losses(parts: list[_PendingLosses]) -> dict[str, float]:
    values = [part.wait() for part in parts]
    return {name: sum(value[name] for value in values) / len(values) for name in values[0]}


def _copy(sources: list[Tensor], targets: list[Tensor]) -> None:
    for source, target in zip(sources, targets, strict=True):
        target.copy_(source)
