"""Stops a run before NaN reaches its weights."""

import math
from typing import Any

import lightning as L
import torch
from torch import Tensor


class FiniteGuard(L.Callback):
    """Raise before the optimiser step that would write NaN or infinity into the weights.

    On a CPU each step is checked. On an accelerator reading the answer would stall it, so the
    checks are gathered on the device and read every ``every_n_steps``; checkpoints are guarded
    there too, so that no file ever holds weights of a step that failed. Under ``16-mixed`` the
    gradient scaler itself leaves such steps out, and nothing is checked.

    Args:
        every_n_steps: how often the answer is read on an accelerator.
    Raises:
        FloatingPointError: a gradient is not finite; names the step and the parameters.
    """

    def __init__(self, every_n_steps: int = 50) -> None:
        self.every_n_steps = every_n_steps
        self._largest: Tensor | None = None

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        gradients = [
            grad if grad.layout == torch.strided else grad._values()
            for group in optimizer.param_groups
            for parameter in group["params"]
            if (grad := parameter.grad) is not None and grad.numel()
        ]
        if not gradients or getattr(trainer.precision_plugin, "scaler", None) is not None:
            return
        # The largest entry is finite only if all are; a sum of squares would overflow first.
        largest = torch.stack(torch._foreach_norm(gradients, math.inf)).amax()
        if self._on_cpu(largest):
            self._raise_unless_finite(largest, trainer, pl_module)
            return
        self._largest = largest if self._largest is None else self._largest.maximum(largest)
        if trainer.global_step % self.every_n_steps == 0:
            self.check(trainer, pl_module)

    @staticmethod
    def _on_cpu(value: Tensor) -> bool:
        return value.device.type == "cpu"

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self.check(trainer, pl_module)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Read what was gathered since the last reading."""
        largest, self._largest = self._largest, None
        if largest is not None:
            self._raise_unless_finite(largest, trainer, pl_module)

    def _raise_unless_finite(
        self, largest: Tensor, trainer: L.Trainer, pl_module: L.LightningModule
    ) -> None:
        if math.isfinite(largest.item()):
            return
        bad = [
            name
            for name, parameter in pl_module.named_parameters()
            if parameter.grad is not None and not torch.isfinite(parameter.grad).all()
        ]
        more = f" and {len(bad) - 5} more" if len(bad) > 5 else ""
        raise FloatingPointError(
            f"step {trainer.global_step}: the gradient is not finite in "
            f"{', '.join(bad[:5])}{more}; best.ckpt and last.ckpt hold no such weights. Check the "
            f"data for NaN, or lower the learning rate"
        )
