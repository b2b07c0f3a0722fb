"""A learning-rate schedule with one update per optimizer step."""

import math
from typing import Any, Literal

from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from trellis.checks import at_least, choose_from, not_negative

Decay = Literal["constant", "linear", "cosine", "inverse_sqrt"]


class Schedule(LRScheduler):
    r"""Linear warm-up, then a decay; objectives update it after every optimizer step.

    The learning rate of step k (from 0) is the optimizer's own times

    .. math:: (k + 1) / w \text{ while } k < w, \quad \text{then }
        1, \; 1 - p + f p, \; f + (1 - f)(1 + \cos \pi p) / 2 \text{ or } \sqrt{w / k}

    for constant, linear, cosine and inverse_sqrt, with w = ``warmup_steps``, f = ``final`` and
    p = (k - w) / (total_steps - w), at most 1.

    Args:
        optimizer: its learning rates are the peak.
        warmup_steps: steps until the peak; 0 starts there.
        decay: after the warm-up.
        total_steps: where linear and cosine end; ``None`` means with the run.
        final: fraction of the peak at the end of linear and cosine.
    Raises:
        ValueError: a number out of range, or inverse_sqrt without a warm-up.

    Source: Vaswani et al. 2017, section 5.3 (inverse_sqrt); Loshchilov and Hutter 2017 (cosine).

    >>> schedule = Schedule(torch.optim.SGD([torch.zeros(1)], lr=8.0), warmup_steps=4)
    >>> schedule.get_last_lr()
    [2.0]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        warmup_steps: int = 0,
        decay: Decay = "cosine",
        total_steps: int | None = None,
        final: float = 0.0,
    ) -> None:
        not_negative("warmup_steps", warmup_steps)
        choose_from("decay", decay, Decay)
        if decay == "inverse_sqrt" and warmup_steps == 0:
            raise ValueError("warmup_steps=0: inverse_sqrt follows a warm-up, give at least 1")
        if not 0 <= final <= 1:
            raise ValueError(f"final={final}: give a fraction of the peak, 0 to 1")
        self.warmup_steps, self.decay, self.final = warmup_steps, decay, final
        self.total_steps: int | None = None
        if total_steps is not None:
            self.plan(total_steps)
        super().__init__(optimizer)

    def plan(self, total_steps: int) -> None:
        """Set the step at which linear and cosine end.

        Raises:
            ValueError: the warm-up ends no earlier.
        """
        if self.decay in ("linear", "cosine"):
            reason = f", or the run ends within warmup_steps={self.warmup_steps}"
            at_least(self.warmup_steps + 1, "total_steps", total_steps, reason)
        self.total_steps = total_steps

    def factor(self, step: int) -> float:
        """Fraction of the peak at ``step``."""
        if step < self.warmup_steps:
            return (step + 1) / self.warmup_steps
        if self.decay == "constant" or step == self.warmup_steps:
            return 1.0
        if self.decay == "inverse_sqrt":
            return math.sqrt(self.warmup_steps / step)
        if self.total_steps is None:
            raise ValueError(
                f"total_steps is needed for decay={self.decay!r} outside an objective"
            )
        passed = (step - self.warmup_steps) / (self.total_steps - self.warmup_steps)
        passed = min(passed, 1.0)
        left = 1 - passed if self.decay == "linear" else (1 + math.cos(math.pi * passed)) / 2
        return self.final + (1 - self.final) * left

    def get_lr(self) -> list[float | Tensor]:
        """Learning rates of the current step, one for each parameter group."""
        factor = self.factor(self.last_epoch)
        return [rate * factor for rate in self.base_lrs]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from ``state_dict``, but end with the current run."""
        super().load_state_dict({k: v for k, v in state_dict.items() if k != "total_steps"})
