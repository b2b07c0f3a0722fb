"""Short runs that show whether a model learns: one batch by heart, a range of learning rates."""

import copy
import math
import time
from collections.abc import Iterator
from typing import Any

import lightning as L
import torch
from torch import Tensor, nn

from trellis.lightning_modules.commands.check_steps import Finding, expected_loss, hold_rates
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.rl.agent import AgentObjective

SECONDS = 12.0  # of each run
RATES = (1e-6, 1.0)
ENTRIES = 6  # of the gradient that are checked


class Timed(L.Callback):
    """Base of the short runs: the loss of each step, until there are enough.

    Args:
        steps: at most.
    """

    def __init__(self, steps: int) -> None:
        self.steps = steps
        self.losses: list[float] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._end = time.perf_counter() + SECONDS
        hold_rates(trainer)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, *args: Any
    ) -> None:
        loss = outputs["loss"] if isinstance(outputs, dict) else outputs
        self.losses.append(float(loss) * trainer.accumulate_grad_batches)
        over = time.perf_counter() > self._end or len(self.losses) == self.steps
        trainer.should_stop |= over or not math.isfinite(self.losses[-1])


class TinyBatch(Timed):
    """One batch, over and over: a model that learns at all learns it by heart."""

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._batch, self._module = batch, pl_module
        if not self.losses:
            self._first = self._score()

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._last = self._score()

    def _score(self) -> float | None:
        """What the objective monitors, evaluated on the batch itself."""
        module: Any = self._module
        if not isinstance(module, Objective):
            return None
        metrics, training = module.val_metrics, module.training
        try:
            with torch.no_grad(), torch.random.fork_rng():
                module.eval()
                metrics.reset()
                module.evaluate(self._batch, "val")
                return float(metrics.compute()[module.monitor])
        except (KeyError, RuntimeError, TypeError, ValueError, AttributeError):
            return None  # a batch of training is not always one of evaluation
        finally:
            metrics.reset()
            module.train(training)

    def findings(self) -> Iterator[Finding]:
        """Whether the loss has fallen, and the score of evaluation with it."""
        start, tail = self.losses[0], self.losses[-5:]
        end = sum(tail) / len(tail)
        seen = f"loss {start:.4g} -> {end:.4g} in {len(self.losses)} steps on one batch"
        floored = expected_loss(self._module) is not None
        if floored and min(self.losses) < -1e-6:
            yield Finding("FAIL", "one batch", f"{seen}: it is never negative; is its sign wrong?")
        elif not math.isfinite(end):
            yield Finding("FAIL", "one batch", f"{seen}: lower the learning rate")
        elif end > start - 0.02 * abs(start):
            advice = "it does not fall: do inputs and targets belong together?"
            yield Finding("FAIL", "one batch", f"{seen}: {advice}")
        elif floored and end > 0.4 * start:
            advice = "far from 0: a larger learning rate, or a softmax too many?"
            yield Finding("look", "one batch", f"{seen}: {advice}")
        else:
            yield Finding("ok", "one batch", seen)
        yield from self._evaluation()

    def _evaluation(self) -> Iterator[Finding]:
        before, after = self._first, self._last
        if before is None or after is None or not isinstance(self._module, Objective):
            return
        sign = 1 if self._module.monitor_mode == "min" else -1
        seen = f"{self._module.monitor} of that batch {before:.4g} -> {after:.4g}"
        worse = sign * (after - before) > 0.05 * abs(before) + 1e-3
        advice = ": it gets worse as the loss falls; is the sign of the loss right?"
        yield Finding("FAIL" if worse else "ok", "evaluation", seen + (advice if worse else ""))


class RateRange(Timed):
    """Learning rates from small to large, one a step.

    Source: Smith 2017, "Cyclical learning rates for training neural networks", section 3.3.
    """

    def __init__(self, steps: int) -> None:
        super().__init__(steps)
        self.rates: list[float] = []
        self.own = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_start(trainer, pl_module)
        self.own = float(_groups(trainer)[0]["lr"])

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        low, high = map(math.log, RATES)
        rate = math.exp(low + (high - low) * len(self.rates) / (self.steps - 1))
        self.rates.append(rate)
        for group in _groups(trainer):
            group["lr"] = rate

    def smoothed(self) -> list[float]:
        """Losses averaged exponentially, so that a trend shows."""
        mean, found = 0.0, []
        for count, loss in enumerate(self.losses, 1):
            mean = 0.8 * mean + 0.2 * loss
            found.append(mean / (1 - 0.8**count))
        return found

    def findings(self) -> Iterator[Finding]:
        """Where the loss falls fastest, and where it diverges."""
        losses = [loss for loss in self.smoothed() if math.isfinite(loss)]
        if len(losses) < 10:
            return
        low = min(losses)
        limit = low + 4 * max(losses[0] - low, 0.1 * abs(losses[0]))
        bad = next((i for i, v in enumerate(losses) if i > 5 and v > limit), len(losses))
        slopes = [b - a for a, b in zip(losses[2 : bad - 1], losses[3:bad], strict=False)]
        if not slopes:
            return
        best = self.rates[3 + slopes.index(min(slopes))]
        end = f", diverges from {self.rates[bad]:.1e}" if bad < len(losses) else ""
        seen = f"the loss falls fastest at {best:.1e}{end}; the config has {self.own:.1e}"
        diverges = bad < len(losses) and self.own > 3 * self.rates[bad]
        yield Finding("look" if diverges else "ok", "learning rate", seen)


class GradientCheck(L.Callback):
    """The largest entries of the gradient beside finite differences, in float64."""

    def __init__(self) -> None:
        self.found: Finding | None = None

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self.found is not None or isinstance(pl_module, AgentObjective):
            return
        state = copy.deepcopy(pl_module.state_dict())
        dtype = next(pl_module.parameters()).dtype
        try:
            with torch.random.fork_rng():
                self.found = _compared(pl_module.double(), _doubled(batch), batch_idx)
        except (RuntimeError, TypeError, ValueError) as error:
            text = str(error).splitlines()[0][:80]
            self.found = Finding("look", "gradient check", f"not in float64: {text}")
        finally:
            pl_module.to(dtype).load_state_dict(state)
            pl_module.zero_grad()

    def findings(self) -> Iterator[Finding]:
        """How far they are apart."""
        if self.found is not None:
            yield self.found


def _compared(module: L.LightningModule, batch: Any, batch_idx: int) -> Finding | None:
    if not module.automatic_optimization:
        return None

    def loss() -> Tensor:
        torch.manual_seed(0)
        found: Any = module.training_step(batch, batch_idx)
        value: Tensor = found["loss"] if isinstance(found, dict) else found
        return value

    module.zero_grad()
    loss().backward()
    given = [p for p in module.parameters() if p.grad is not None and not p.grad.is_sparse]
    chosen = sorted(given, key=lambda p: -p.grad.abs().max().item())[:ENTRIES]  # type: ignore[union-attr]
    worst = 0.0
    for parameter in chosen:
        assert parameter.grad is not None
        entry = int(parameter.grad.abs().argmax())
        exact = parameter.grad.flatten()[entry].item()
        values = [_shifted(loss, parameter, entry, step) for step in (1e-6, -1e-6)]
        worst = max(worst, abs((values[0] - values[1]) / 2e-6 - exact) / max(abs(exact), 1e-6))
    seen = f"{worst:.1e} from finite differences in float64, of {len(chosen)} entries"
    return Finding("FAIL" if worst > 0.05 else "look" if worst > 1e-3 else "ok",
                   "gradient check", seen)  # fmt: skip


@torch.no_grad()
def _shifted(loss: Any, parameter: nn.Parameter, entry: int, step: float) -> float:
    flat = parameter.data.view(-1)
    before = flat[entry].item()
    flat[entry] = before + step
    value = float(loss())
    flat[entry] = before
    return value


def _doubled(batch: Any) -> Any:
    """A batch whose real numbers are float64."""

    def convert(tensor: Tensor) -> Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    if isinstance(batch, Tensor):
        return convert(batch)
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(_doubled, batch))
    if isinstance(batch, (tuple, list)):
        return type(batch)(map(_doubled, batch))
    return copy.copy(batch).apply(convert) if hasattr(batch, "apply") else batch


def _groups(trainer: L.Trainer) -> list[dict[str, Any]]:
    return [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
