"""Networks and hot functions compiled in place: the keys of a checkpoint stay as they are."""

import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lightning as L
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch import Tensor, nn
from torchmetrics import Metric, MetricCollection

from trellis.index import did_you_mean
from trellis.lightning_modules.engine.recorded import Recorded
from trellis.torch_private import trace_gradients

MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")


class CompileInPlace(L.Callback):
    """Compiles the networks of a module as its training begins.

    Each network is compiled by ``Module.compile``, which wraps nothing: state dicts have the same
    keys, and a checkpoint of a compiled run goes on eagerly and the other way round. So are the
    methods that an objective names in ``compiled``. Those that it names in ``differentiated``, its
    losses for ``AgentObjective.descend``, are compiled in one graph with their gradients, where
    one process computes them and nothing scales them; hooks before and after a backward pass are
    not called there. What it names in ``recorded``, functions of one tensor such as the policy
    that acts, is recorded on a CPU, and asked again after each step; see ``Recorded``.

    What torch cannot compile runs eagerly, and so do methods of a network other than ``forward``,
    such as ``encode`` and ``decode``. Random numbers inside of compiled code, those of dropout,
    may be other ones.

    Args:
        how: a mode of ``torch.compile``, or a backend such as ``aot_eager``; true is the default
            mode.
    Raises:
        ValueError: neither a mode nor a backend.
    """

    def __init__(self, how: bool | str = True) -> None:
        self.options = compile_options(how)
        self._recorded: list[Recorded] = []

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if "mode" in self.options and (missing := missing_compiler()):
            rank_zero_info(
                f"compile: there is no C++ compiler ({missing}); the run is not compiled"
            )
            return
        for network in networks(pl_module):
            network.compile(**self.options)
        losses: Sequence[str] = getattr(pl_module, "differentiated", ())
        for name in (*getattr(pl_module, "compiled", ()), *losses):
            function: Any = getattr(type(pl_module), name).__get__(pl_module)
            if name in losses and _computes_gradients_alone(trainer):
                function = CompiledLoss(function, self.options)
            else:
                function = torch.compile(function, **self.options)
            _hide(pl_module, name, function)
        if pl_module.device.type == "cpu":
            names: Sequence[str] = getattr(pl_module, "recorded", ())
            self._recorded = [Recorded(getattr(pl_module, name)) for name in names]
            for name, recorded in zip(names, self._recorded, strict=True):
                _hide(pl_module, name, recorded)

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._renew()

    def on_train_batch_end(self, *step: Any) -> None:
        self._renew()

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._renew()

    def teardown(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._stop()

    def _renew(self) -> None:
        for recorded in self._recorded:
            recorded.renew()

    def _stop(self) -> None:
        for recorded in self._recorded:
            recorded.stop()


def _hide(module: L.LightningModule, name: str, function: Callable[..., Any]) -> None:
    """Let an attribute of the object hide the method of its class."""
    object.__setattr__(module, name, function)


def _computes_gradients_alone(trainer: L.Trainer) -> bool:
    """Whether gradients are those that one process computes, neither reduced nor scaled."""
    return trainer.world_size == 1 and getattr(trainer.precision_plugin, "scaler", None) is None


class CompiledLoss:
    """A loss compiled in one graph with its gradients.

    A call of two compiled graphs, of the loss and of its backward pass, costs small networks more
    than it saves.

    Args:
        losses: from any inputs to tensors by name, among them ``"loss"``.
        options: of ``torch.compile``.
    """

    def __init__(
        self, losses: Callable[..., dict[str, Tensor]], options: dict[str, Any] | None = None
    ) -> None:
        self._losses = losses
        trace_gradients()
        self._compiled = torch.compile(self._with_gradients, **(options or {}))

    def backward(self, parameters: Sequence[Tensor], *inputs: Any) -> dict[str, Tensor]:
        """Set the gradients of ``parameters``; returns what ``losses`` does, detached."""
        values, gradients = self._compiled(parameters, *inputs)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        # A CUDA graph writes its next results into the same memory.
        return {name: v.clone() if v.is_cuda else v for name, v in values.items()}

    def _with_gradients(
        self, parameters: Sequence[Tensor], *inputs: Any
    ) -> tuple[dict[str, Tensor], Sequence[Tensor]]:
        values = self._losses(*inputs)
        gradients = torch.autograd.grad(values["loss"], parameters, allow_unused=True)
        return {name: value.detach() for name, value in values.items()}, gradients


def compile_options(how: bool | str) -> dict[str, Any]:
    """Arguments of ``torch.compile``.

    Raises:
        ValueError: neither a mode nor a backend.

    >>> compile_options("max-autotune")
    {'mode': 'max-autotune'}
    """
    if isinstance(how, bool) or how in MODES:
        return {"mode": "default" if isinstance(how, bool) else how}
    backends = torch.compiler.list_backends(exclude_tags=())
    if how not in backends:
        hint = did_you_mean(how, [*MODES, *backends])
        raise ValueError(f"compile={how!r}: give true, or one of {', '.join(MODES)}{hint}")
    return {"backend": how}


def networks(module: nn.Module) -> Iterator[nn.Module]:
    """The networks of an objective: its children, those in lists one by one, but no metrics."""
    for child in module.children():
        if isinstance(child, (nn.ModuleList, nn.ModuleDict)) and not isinstance(
            child, MetricCollection
        ):
            yield from networks(child)
        elif not isinstance(child, (Metric, MetricCollection)):
            yield child


def missing_compiler() -> str | None:
    """The C++ compiler that torch would call if it is not there, else ``None``."""
    compiler = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if sys.platform == "win32":
        compiler = os.environ.get("CXX") or "cl"
    return None if shutil.which(compiler) else compiler
