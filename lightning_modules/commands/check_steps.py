"""What the first steps of a run show about its health."""

import math
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Literal, NamedTuple

import lightning as L
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.flop_counter import FlopCounterMode

from trellis.lightning_modules.engine.classifier import Classifier
from trellis.lightning_modules.sequence.causal_lm import CausalLM
from trellis.lightning_modules.sequence.sequence_to_sequence import SequenceToSequence

SATURATING = (nn.Tanh, nn.Sigmoid, nn.Softsign, nn.Hardtanh)
SHOWN = 3  # names in a line
STEPS = 8


class Finding(NamedTuple):
    """One line of a health card.

    Args:
        verdict: ``ok``; ``look`` for what is unusual and may be meant; ``FAIL``.
        what: was looked at.
        seen: the numbers, and what they mean.
    """

    verdict: Literal["ok", "look", "FAIL"]
    what: str
    seen: str


def expected_loss(module: nn.Module) -> float | None:
    """The loss, in nats, of a model that finds all classes, or tokens, equally probable.

    ``None`` for an objective that has no such value.
    """
    spec: Any = getattr(module, "spec", None)
    if isinstance(module, Classifier):
        return math.log(spec.out_channels)
    if isinstance(module, SequenceToSequence):
        return math.log(spec.target.num_tokens)
    return math.log(spec.num_tokens) if isinstance(module, CausalLM) else None


class FirstSteps(L.Callback):
    """Watches gradients, activations, updates, time and memory of each step.

    Source: Karpathy 2019, "A recipe for training neural networks"; Stanford CS231n, "Babysitting
    the learning process" (loss at the start, ratio of updates to weights).
    """

    def __init__(self) -> None:
        self.loss: float | None = None  # before the first step
        self.largest: dict[str, float] = {}  # gradient of each parameter, over all steps
        self.dead_rows: dict[str, Tensor] = {}  # units whose weights have had no gradient yet
        self.ratios: dict[str, float] = {}
        self.outputs: dict[str, tuple[float, float]] = {}  # standard deviation, share saturated
        self.left_over = False  # gradients of an earlier step at a backward pass
        self.inputs: tuple[float, float] | None = None  # mean and standard deviation
        self.seconds: list[float] = []
        self.flops = 0
        self._before: dict[str, Tensor] = {}

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        hold_rates(trainer)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._module = pl_module
        self._before = {name: p.detach().clone() for name, p in _trained(pl_module)}
        self._hooks: list[Any] = []
        self._counter: Any = None
        if not self.seconds:
            self.inputs = _mean_and_deviation(batch)
            self._hooks = [
                part.register_forward_hook(self._seen(name))
                for name, part in pl_module.named_modules()
                if not any(part.children())
            ]
            if pl_module.automatic_optimization:  # it cannot count a gradient of gradients
                self._counter = FlopCounterMode(display=False)
                self._counter.__enter__()
        self._start = time.perf_counter()

    def _seen(self, name: str) -> Any:
        def hook(part: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.is_floating_point() and output.numel() > 1:
                values = output.detach()
                far = (values.abs() > 0.97).float().mean().item()
                saturated = far if isinstance(part, SATURATING) else 0.0
                self.outputs[name] = (values.float().std().item(), saturated)

        return hook

    def on_before_backward(
        self, trainer: L.Trainer, pl_module: L.LightningModule, loss: Tensor
    ) -> None:
        if self.loss is None:
            self.loss = float(loss.detach()) * trainer.accumulate_grad_batches
        if pl_module.automatic_optimization and trainer.accumulate_grad_batches == 1:
            gradients = [p.grad for _, p in _trained(pl_module) if p.grad is not None]
            self.left_over |= any(bool(gradient.any()) for gradient in gradients)

    def on_before_optimizer_step(
        self, trainer: L.Trainer, pl_module: L.LightningModule, optimizer: Optimizer
    ) -> None:
        own = {id(p) for group in optimizer.param_groups for p in group["params"]}
        lookups = {
            id(part.weight) for part in pl_module.modules() if isinstance(part, nn.Embedding)
        }
        for name, parameter in _trained(pl_module):
            if id(parameter) not in own or parameter.grad is None:
                continue
            gradient = parameter.grad.detach().to_dense().abs()
            largest = gradient.max().item() if gradient.numel() else 0.0
            self.largest[name] = max(self.largest.get(name, 0.0), largest)
            if gradient.dim() == 2 and id(parameter) not in lookups:
                dead = gradient.amax(1) == 0
                self.dead_rows[name] = dead & self.dead_rows.get(name, dead)

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, *args: Any
    ) -> None:
        self.seconds.append(time.perf_counter() - self._start)
        trainer.should_stop |= len(self.seconds) == STEPS
        for handle in self._hooks:
            handle.remove()
        if self._counter is not None:
            self._counter.__exit__(None, None, None)
            self.flops = self._counter.get_total_flops()
        for name, parameter in _trained(pl_module):
            size = self._before[name].norm().item()
            if parameter.dim() > 1 and size > 0:
                moved = (parameter.detach() - self._before[name]).norm().item()
                self.ratios[name] = moved / size

    def findings(self) -> Iterator[Finding]:
        """What the steps have shown."""
        yield from self._loss_at_the_start()
        yield from self._inputs()
        yield self._gradients()
        yield from self._zeroed()
        yield from self._units()
        yield from self._activations()
        yield from self._updates()
        yield self._cost()

    def _loss_at_the_start(self) -> Iterator[Finding]:
        expected = expected_loss(self._module)
        if self.loss is None:
            return
        if not math.isfinite(self.loss):
            yield Finding("FAIL", "loss at the start", f"{self.loss}")
        elif expected is None:
            yield Finding("ok", "loss at the start", f"{self.loss:.4g}")
        else:
            far = abs(self.loss - expected) > 0.5 + 0.5 * expected
            near = abs(self.loss - expected) <= 0.3 * expected
            seen = f"{self.loss:.4g}; all classes equally probable: {expected:.4g}"
            if far:
                seen += ": scale the inputs, or initialise the last layer with smaller weights"
            yield Finding("FAIL" if far else "ok" if near else "look", "loss at the start", seen)

    def _inputs(self) -> Iterator[Finding]:
        if self.inputs is None:
            return
        mean, deviation = self.inputs
        seen = f"mean {mean:.3g}, standard deviation {deviation:.3g}"
        large = max(abs(mean), deviation)
        if large > 30:
            yield Finding("FAIL", "inputs", f"{seen}: scale them to about 1")
        else:
            yield Finding("look" if large > 10 else "ok", "inputs", seen)

    def _gradients(self) -> Finding:
        names = [name for name, _ in _trained(self._module)]
        if without := [name for name in names if name not in self.largest]:
            seen = f"{len(without)} of {len(names)} parameters have none: {_named(without)}"
            return Finding("FAIL", "gradients", seen)
        if zero := [name for name in names if self.largest[name] == 0.0]:
            seen = f"{len(zero)} of {len(names)} parameters have 0 in all steps: {_named(zero)}"
            return Finding("look", "gradients", seen)
        every = self._module.named_parameters()
        if held := [n for n, p in every if not (p.requires_grad or n.startswith("target"))]:
            seen = f"{len(held)} parameters are frozen: {_named(held)}"
            return Finding("look", "gradients", seen)
        return Finding("ok", "gradients", f"reach all {len(names)} parameters")

    def _zeroed(self) -> Iterator[Finding]:
        if self.left_over:
            seen = "those of the step before are still there: zero_grad is missing"
            yield Finding("FAIL", "zero_grad", seen)

    def _units(self) -> Iterator[Finding]:
        shares = {n: rows.float().mean().item() for n, rows in self.dead_rows.items()}
        if not shares:
            return
        worst = max(shares, key=lambda name: shares[name])
        seen = f"{shares[worst]:.0%} of the units of {worst} have had no gradient"
        bad = "FAIL" if shares[worst] >= 0.9 else "look" if shares[worst] > 0.4 else "ok"
        yield Finding(bad, "dead units", seen)  # type: ignore[arg-type]

    def _activations(self) -> Iterator[Finding]:
        if not self.outputs:
            return
        full = max(self.outputs, key=lambda name: self.outputs[name][1])
        if (share := self.outputs[full][1]) > 0.5:
            yield Finding("FAIL", "activations", f"{share:.0%} of {full} are saturated")
            return
        widths = {name: deviation for name, (deviation, _) in self.outputs.items()}
        low, high = min(widths, key=widths.__getitem__), max(widths, key=widths.__getitem__)
        seen = f"standard deviations from {widths[low]:.3g} ({low}) to {widths[high]:.3g} ({high})"
        finite = all(map(math.isfinite, widths.values()))
        usual = finite and widths[high] < 100
        yield Finding("ok" if usual else "look" if finite else "FAIL", "activations", seen)

    def _updates(self) -> Iterator[Finding]:
        if not self.ratios:
            return
        middle, most = median(self.ratios.values()), max(self.ratios, key=self.ratios.__getitem__)
        seen = f"{middle:.1e} of the weights a step, at most {self.ratios[most]:.1e} ({most})"
        if not self._module.automatic_optimization:  # several steps of an optimiser are one
            yield Finding("ok", "updates", seen)
        elif middle > 0.3:
            yield Finding("FAIL", "updates", f"{seen}: lower the learning rate")
        else:
            yield Finding("ok" if 1e-6 < middle < 0.1 else "look", "updates", seen)

    def _cost(self) -> Finding:
        count = sum(p.numel() for p in self._module.parameters())
        step = 1000 * median(self.seconds[1:] or self.seconds)
        flops = f"{self.flops / 1e9:.3g} GFLOP and " if self.flops else ""
        seen = f"{count:,} parameters; a step {flops}{step:.1f} ms{_peak_memory()}"
        return Finding("ok", "cost", seen)


def _peak_memory() -> str:
    """Of this process; empty on Windows, where Python does not know it."""
    if sys.platform == "win32":
        return ""
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return f"; {peak / (1 << (30 if sys.platform == 'darwin' else 20)):.2f} GB"


def hold_rates(trainer: L.Trainer) -> None:
    """Leave the schedules out, whose first steps are often small ones."""
    trainer.lr_scheduler_configs.clear()
    for optimizer in trainer.optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.get("initial_lr", group["lr"])


def _trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)


def _named(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (" ..." if len(names) > SHOWN else "")


def _mean_and_deviation(batch: Any) -> tuple[float, float] | None:
    """Of the first tensor of real numbers in a batch."""
    first = getattr(batch, "x", None)
    if not isinstance(first, Tensor):
        parts = batch if isinstance(batch, (tuple, list)) else [batch]
        first = next((part for part in parts if isinstance(part, Tensor)), None)
    if first is None or first.layout != torch.strided or not first.is_floating_point():
        return None
    return first.mean().item(), first.std().item()
