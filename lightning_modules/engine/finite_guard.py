"""Stops a run before NaN reaches its weights."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor

from trellis.lightning_modules.engine.sharding import all_finite, local, total_of_parts

DIVERGED = 1e6  # times the first score: no run comes back from there


class FiniteGuard(L.Callback):
    """Raise before the optimiser step that would write NaN or infinity into the weights.

    On a CPU each step is checked. On an accelerator reading the answer would stall it, so the
    checks are gathered on the device and read every ``every_n_steps``; checkpoints are guarded
    there too, so that no file ever holds weights of a step that failed. Under ``16-mixed`` the
    gradient scaler itself leaves such steps out, and nothing is checked.

    Weights and running statistics are looked at before each checkpoint and at the end, for a
    momentum or a learning rate can break them where no gradient is wrong.

    Args:
        every_n_steps: how often the answer is read on an accelerator.
    Raises:
        FloatingPointError: a gradient is not finite; names the step and the parameters.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._total: Tensor | None = None
        self._first_score: float | None = None

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [
            local(grad) if grad.layout == torch.strided else grad.coalesce().values()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if (grad := parameter.grad) is not None and grad.numel()
        ]
        if not gradients or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        # A sum is finite only if all entries are; of squares it would overflow sooner, and on a
        # CPU the largest entry takes 20 times as long to find.
        sums = [grad.sum(dtype=_wide(grad.dtype)) for grad in gradients]
        if self._on_cpu(sums[0]):
            number = sum(each.item() for each in sums)
            self._raise_unless_finite(total_of_parts(trainer, number), trainer, pl_module)
            return
        total = torch.stack(sums).sum()
        self._total = total if self._total is None else self._total + total
        if trainer.global_step % self.every_n_steps == 0:
            self.check(trainer, pl_module)

    @staticmethod
    def _on_cpu(value: Tensor) -> bool:
        return value.device.type == "cpu"

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.check(trainer, pl_module)
        _require_finite_state(trainer, pl_module)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # The last step has no next one whose gradients would show what it did to the weights.
        self.check(trainer, pl_module)
        _require_finite_state(trainer, pl_module)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._first_score = None

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        monitor = getattr(pl_module, "monitor", None)
        score = trainer.callback_metrics.get(monitor) if monitor else None
        if score is None or getattr(pl_module, "monitor_mode", "min") != "min":
            return
        if self._first_score is None or trainer.sanity_checking:
            self._first_score = abs(float(score))
        elif float(score) > DIVERGED * max(self._first_score, 1.0):
            raise FloatingPointError(
                f"step {trainer.global_step}: the run has diverged, {monitor} went from "
                f"{self._first_score:.4g} to {float(score):.4g}; lower the learning rate"
            )

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read what was gathered since the last reading."""
        total, self._total = self._total, None
        if total is not None:
            self._raise_unless_finite(total_of_parts(trainer, total.item()), trainer, pl_module)

    def _raise_unless_finite(
        self, total: float, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        if math.isfinite(total):
            return
        named = dict(pl_module.named_parameters())
        bad = [
            name
            for name, parameter in named.items()
            if parameter.grad is not None and not all_finite(parameter.grad)
        ]
        # Weights that an earlier step broke show in the gradients of another network first.
        broken = [name for name, value in named.items() if not all_finite(value)]
        weights = f", nor are the weights of {_some(broken)}" if broken else ""
        raise FloatingPointError(
            f"step {trainer.global_step}: the gradient is not finite in {_some(bad)}{weights}; "
            f"best.ckpt and last.ckpt hold no such weights. Check the data for NaN, or lower the "
            f"learning rate"
        )


def _require_finite_state(trainer: L.Trainer, pl_module: L.LightningModule) -> None:
    """Refuse to keep weights or running statistics that a step has made NaN or infinite."""
    if getattr(trainer.precision_plugin, "scaler", None) is not None:
        return
    state = pl_module.state_dict().items()
    numbers = [(name, v) for name, v in state if torch.is_tensor(v) and v.is_floating_point()]
    bad = [name for name, value in numbers if not all_finite(value)]
    if bad:
        raise FloatingPointError(
            f"step {trainer.global_step}: {_some(bad)} became NaN or infinite in the step itself; "
            f"no checkpoint holds it. Lower the learning rate, the momentum or the weight decay"
        )


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _wide(dtype: torch.dtype) -> torch.dtype:
    """A type in which a sum of finite numbers of ``dtype`` does not overflow."""
    return torch.promote_types(dtype, torch.float32)
