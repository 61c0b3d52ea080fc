"""One training iteration: accumulation, mixed precision, clipping, and a guard against NaN."""

import contextlib
import math
import time
from collections.abc import Iterable, Iterator

import torch
from detectron2.engine import SimpleTrainer
from detectron2.utils import comm
from detectron2.utils.events import get_event_storage
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from ..utils.errors import InputError, NonFiniteError
from .ema import WeightAverage

__all__ = ["NonFiniteLossError", "TrainLoop"]

# Where Detectron2's dense detectors (RetinaNet, FCOS) keep a running mean that scales their losses,
# outside of their weights.
_NORMALIZER = "loss_normalizer"


class NonFiniteLossError(NonFiniteError):
    """A loss became NaN or infinite; the model is as it was before the iteration."""


class TrainLoop(SimpleTrainer):
    """Detectron2's `SimpleTrainer` with an iteration of our own.

    The losses of an iteration are averaged over processes in one collective and travel to the
    host while the device already runs the backward pass, so that checking them for NaN before
    the update makes nothing wait.
    """

    def __init__(
        self,
        model: nn.Module,
        data_loader: Iterable,
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
            model, data_loader, optimizer: as in `SimpleTrainer`.
            seed: random numbers of an iteration (dropout) are a function of it, the iteration
                and the process, so that a resumed run goes on as an uninterrupted one.
            accumulation_steps: batches of the loader that one update averages over.
            amp_dtype: autocast to it; float16 scales the loss too. None: float32.
            max_grad_norm: clip the whole model's gradient to it.
            average: of the weights, updated with them.
        """
        super().__init__(model, data_loader, optimizer)
        self.seed = seed
        self.accumulation_steps = accumulation_steps
        self.amp_dtype = amp_dtype
        self.max_grad_norm = max_grad_norm
        self.average = average
        self.device = next(model.parameters()).device
        self.grad_scaler = torch.amp.GradScaler(
            self.device.type, enabled=amp_dtype == torch.float16
        )
        self._buffers = [buffer for buffer in model.buffers() if buffer.is_floating_point()]

    def run_step(self) -> None:
        """
        Raises:
            NonFiniteLossError: before the update, on all processes, naming the images.
        """
        assert self.model.training, "the model was changed to eval mode"
        buffers = [buffer.clone() for buffer in self._buffers]
        data_time, file_names, losses = 0.0, [], []
        for step in range(self.accumulation_steps):
            start = time.perf_counter()
            data = next(self._data_loader_iter)
            data_time += time.perf_counter() - start
            file_names += [item.get("file_name", "(no file name)") for item in data]
            torch.manual_seed(self._step_seed(step))
            with self._gradients_reduced(last=step + 1 == self.accumulation_steps):
                losses.append(self._forward_backward(data))
        values = _mean_losses(losses)
        if not all(math.isfinite(value) for value in values.values()):
            for buffer, before in zip(self._buffers, buffers, strict=True):
                buffer.copy_(before)
            self._raise_non_finite(values, file_names)
        self._update()
        self._write_losses(values, data_time)

    def _forward_backward(self, data: list[dict]) -> "_LossesOnTheWay":
        with torch.autocast(
            self.device.type, dtype=self.amp_dtype, enabled=self.amp_dtype is not None
        ):
            losses = self._losses(data)
        on_the_way = _LossesOnTheWay(losses)
        total = sum(losses.values()) / self.accumulation_steps
        self.grad_scaler.scale(total).backward()
        return on_the_way

    def _losses(self, data: list[dict]) -> dict[str, Tensor]:
        try:
            return self.model(data)
        except RuntimeError as error:
            if "find_unused_parameters" not in str(error):
                raise
        # DDP notices in the second iteration, after an update of all others.
        unused = [
            name
            for name, parameter in self._bare_model.named_parameters()
            if parameter.requires_grad and parameter not in self.optimizer.state
        ]
        raise InputError(
            f"{len(unused)} parameters had no gradient, such as {unused[:3]}: the head reads some "
            "of the backbone's features only. Leave the others out (MODEL.META_PROMPT.OUT_FEATURES,"
            " MODEL.FPN.IN_FEATURES), or set SOLVER.FIND_UNUSED_PARAMETERS True (in a LazyConfig "
            "train.ddp.find_unused_parameters)"
        )

    def _update(self) -> None:
        if self.max_grad_norm is not None or self.grad_scaler.is_enabled():
            self.grad_scaler.unscale_(self.optimizer)  # clipping wants true gradients
        if self.max_grad_norm is not None:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.max_grad_norm)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()
        if self.average is not None:
            # Also where the scaler skipped the step: to know that, the host would have to wait.
            self.average.update()
        self.optimizer.zero_grad()  # now, so that evaluation has the gradients' memory

    @contextlib.contextmanager
    def _gradients_reduced(self, *, last: bool) -> Iterator[None]:
        """Processes exchange gradients in the last part of an accumulated batch only."""
        if not last and isinstance(self.model, DistributedDataParallel):
            with self.model.no_sync():
                yield
        else:
            yield

    def _step_seed(self, step: int) -> int:
        update = self.iter * self.accumulation_steps + step
        return (self.seed * 1_000_003 + update * comm.get_world_size() + comm.get_rank()) % 2**63

    def _raise_non_finite(self, values: dict[str, float], file_names: list[str]) -> None:
        names = [name for others in comm.all_gather(file_names) for name in others]
        raise NonFiniteLossError(
            f"loss became NaN or infinite at iteration {self.iter}: {values}; images of the "
            f"batch: {', '.join(names)}"
        )

    def _write_losses(self, values: dict[str, float], data_time: float) -> None:
        storage = get_event_storage()
        storage.put_scalar("data_time", data_time)
        storage.put_scalar("total_loss", sum(values.values()))
        if len(values) > 1:
            storage.put_scalars(**values)

    def state_dict(self) -> dict:
        state = super().state_dict()
        if self.grad_scaler.is_enabled():
            state["grad_scaler"] = self.grad_scaler.state_dict()
        if hasattr(self._bare_model, _NORMALIZER):
            state[_NORMALIZER] = getattr(self._bare_model, _NORMALIZER)
        return state

    def load_state_dict(self, state_dict: dict) -> None:
        super().load_state_dict(state_dict)
        if self.grad_scaler.is_enabled() and "grad_scaler" in state_dict:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
        if _NORMALIZER in state_dict:
            setattr(self._bare_model, _NORMALIZER, state_dict[_NORMALIZER])

    @property
    def _bare_model(self) -> nn.Module:
        wrapped = isinstance(self.model, DistributedDataParallel)
        return self.model.module if wrapped else self.model


class _LossesOnTheWay:
    """The losses of one forward pass, averaged over processes, being copied to the host."""

    def __init__(self, losses: dict[str, Tensor]):
        self.names = list(losses)
        values = torch.stack([loss.detach().float() for loss in losses.values()])
        if comm.get_world_size() > 1:
            torch.distributed.all_reduce(values)
            values /= comm.get_world_size()
        self._values = values.to("cpu", non_blocking=True)
        self._copied = None
        if values.is_cuda:
            self._copied = torch.cuda.Event()
            self._copied.record()

    def wait(self) -> dict[str, float]:
        if self._copied is not None:
            self._copied.synchronize()
        return dict(zip(self.names, self._values.tolist(), strict=True))


def _mean_losses(parts: list[_LossesOnTheWay]) -> dict[str, float]:
    values = [part.wait() for part in parts]
    return {name: sum(value[name] for value in values) / len(values) for name in values[0]}
