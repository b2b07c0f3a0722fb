"""What every objective shares: networks and optimisers from outside, sizes from the data."""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from types import MappingProxyType
from typing import Any, ClassVar, Literal

import lightning as L
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import LearningRateFinder
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.plugins.precision import MixedPrecision, Precision
from lightning.pytorch.utilities.enums import GradClipAlgorithmType
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR, ReduceLROnPlateau
from torchmetrics import Metric, MetricCollection

from trellis.hyperparameters import PlainHyperparameters, importable_name, to_plain
from trellis.lightning_modules.engine.build_network import build_network
from trellis.lightning_modules.engine.finite_guard import FiniteGuard
from trellis.lightning_modules.engine.grouped_parameters import (
    grouped,
    require_decay,
    require_own_rates,
)
from trellis.lightning_modules.engine.lightning_private import (
    LightStep,
    build_model,
    forget_earlier_data,
    logs_this_step,
    look_for_unused_parameters,
)
from trellis.lightning_modules.engine.resume import ExactResume, compare_options
from trellis.lightning_modules.engine.sharding import shard
from trellis.lightning_modules.engine.single_values import normalize_single_values
from trellis.lightning_modules.engine.upgrade import description
from trellis.optim.schedule import Schedule
from trellis.random import isolated_rng
from trellis.spec import differences

Stage = Literal["val", "test"]


class Objective(PlainHyperparameters, LightStep, ABC):
    """Base of the objectives: builds networks when the data is known, logs, evaluates.

    A subclass takes its networks as factories and defines ``build`` (its networks), ``metrics``
    and ``evaluate`` (what to report); with several optimisers it sets ``automatic_optimization``
    to false and overrides ``configure_optimizers``. Its arguments are kept in ``hparams``, and
    those of this class are documented here alone.

    Args:
        optimizer: from the parameters to an optimiser.
        lr_scheduler: from the optimiser to a learning rate scheduler. ``Schedule``,
            ``OneCycleLR`` and ``CyclicLR`` are stepped after every optimisation step, others
            after every epoch.
        spec: sizes of the data; ``None`` takes those of the data module. They are kept in
            ``hparams``, so that a checkpoint can be rebuilt without its data.
    """

    spec_type: ClassVar[type]
    # Methods to compile beside the networks, where the trainer is to compile.
    compiled: ClassVar[tuple[str, ...]] = ()
    monitor: ClassVar[str] = "val/loss"
    monitor_mode: ClassVar[Literal["min", "max"]] = "min"
    # Whether a backward pass reaches some of the parameters only, as of one network among several.
    partial_losses: ClassVar[bool] = False
    # Of parameters by prefixes of their names, see ``grouped``; ``ParameterGroups`` sets it.
    group_options: Mapping[str, Mapping[str, float]] = MappingProxyType({})
    network_factory: Any  # where there is one network
    network: Any

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: Any = None,
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.optimizer, self.lr_scheduler, self.spec = optimizer, lr_scheduler, spec
        self._built = self._repeats = False

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Elsewhere overriding loss() is how one changes it; here it would be ignored in silence.
        bases = cls.__mro__[1:]
        if "loss" in vars(cls) and not any("loss" in vars(base) for base in bases):
            step = next((base for base in cls.__mro__ if "training_step" in vars(base)), None)
            if step in bases and issubclass(step, Objective):
                raise TypeError(
                    f"{cls.__name__}.loss: {step.__name__}.training_step does not call it; "
                    f"override training_step, and evaluate where it should count in evaluations"
                )

    @abstractmethod
    def build(self, spec: Any) -> None:
        """Create the networks for data of these sizes."""

    @abstractmethod
    def metrics(self, spec: Any) -> Mapping[str, Metric]:
        """Fresh metrics of one evaluation, by name without the split's prefix."""

    @abstractmethod
    def evaluate(self, batch: Any, stage: Stage) -> None:
        """Count one batch in the metrics of ``stage``, which ``evaluated`` gives."""

    def build_network(
        self, sizes: Mapping[str, int], *inputs: str, options: Mapping[str, bool] = {}
    ) -> None:
        """Make ``network`` of these sizes with its factory, to be called with these inputs."""
        self.network = build_network(
            self.network_factory, sizes, *inputs, objective=self, options=options
        )

    def configure_model(self) -> None:
        """Build networks and metrics once; Lightning calls this before anything needs them.

        Raises:
            ValueError: the data are of another kind, or other than those it was built for; see
                also ``shard``.
        """
        spec = self._agreed_spec()
        if not self._built:
            self._build(spec)
        shard(self)

    def _build(self, spec: Any) -> None:
        self.spec = spec
        self.hparams["spec"] = to_plain(self.spec)
        self.build(self.spec)
        normalize_single_values(self)
        self.val_metrics, self.test_metrics = (
            # Their states differ by design: looking for shared ones costs time and finds none.
            MetricCollection(dict(self.metrics(self.spec)), prefix=prefix, compute_groups=False)
            for prefix in ("val/", "test/")
        )
        self._built = True

    def why_not_sharded(self) -> str | None:
        """What keeps it from training in parts, as words after its name; see ``FullySharded``."""
        return None

    def _agreed_spec(self) -> Any:
        datamodule = getattr(self.attached_trainer, "datamodule", None)
        offered = getattr(datamodule, "spec", None)
        name = type(self).__name__
        if offered is None:
            if self.spec is None:
                whose = f" ({type(datamodule).__name__} has no spec)" if datamodule else ""
                raise ValueError(
                    f"{name}: the sizes of the data are unknown{whose}; give spec= "
                    f"(--model.spec), or let setup() of the data set self.spec to a "
                    f"{self.spec_type.__name__}"
                )
            return self.spec
        if not isinstance(offered, self.spec_type):
            raise ValueError(
                f"{name} learns from data with a {self.spec_type.__name__}; "
                f"{type(datamodule).__name__} has a {type(offered).__name__}"
            )
        if self.spec is not None and (wrong := differences(self.spec, offered)):
            said, advice = "spec contradicts", "leave spec out"
            if self._built:
                said, advice = "it was built for other data than", f"take a new {name}"
            raise ValueError(
                f"{name}: {said} {type(datamodule).__name__} ({'; '.join(wrong)}); {advice} or "
                f"use the data it was made for"
            )
        return offered

    @property
    def hparams_initial(self) -> Any:
        """The hyper-parameters for loggers, without vocabularies of 200 kB."""
        return _without_long_texts(super().hparams_initial)

    @property
    def attached_trainer(self) -> L.Trainer | None:
        """The trainer at work; ``self.trainer`` is an error where there is none."""
        try:
            return self.trainer
        except RuntimeError:
            return None

    @property
    def lr(self) -> float:
        """Learning rate of ``optimizer``; ``LearningRateFinder`` sets it."""
        return float(self.optimizer([nn.Parameter(torch.zeros(1))]).defaults["lr"])

    @lr.setter
    def lr(self, value: float) -> None:
        self.optimizer = partial(self.optimizer, lr=value)  # type: ignore[call-arg]
        if "optimizer" in self.hparams:
            self.hparams["optimizer"] = to_plain(self.optimizer)

    def configure_optimizers(self) -> Any:
        optimizer = self.optimizer(grouped(self, self.group_options))
        require_decay(optimizer, self.group_options)
        if self.lr_scheduler is None:
            return optimizer
        scheduler = self.lr_scheduler(optimizer)
        require_own_rates(scheduler, self.group_options)
        config: dict[str, Any] = {"scheduler": scheduler, "interval": "epoch"}
        if steps_often(scheduler):
            config["interval"] = "step"
        plan(scheduler, lambda: int(self.trainer.estimated_stepping_batches))
        if isinstance(scheduler, ReduceLROnPlateau):
            config |= self._plateau(scheduler)
        return {"optimizer": optimizer, "lr_scheduler": config}

    def _plateau(self, scheduler: ReduceLROnPlateau) -> dict[str, Any]:
        """How Lightning is to step a scheduler that waits for a value of the validation."""
        monitor = getattr(scheduler, "monitor", None) or self.monitor  # torch's own names none
        if monitor.startswith("val/") and not self.trainer.enable_validation:
            raise ValueError(
                f"lr_scheduler: ReduceLROnPlateau waits for {monitor}, but this run does not "
                f"validate: let it, or choose another schedule"
            )
        every: int | None = self.trainer.check_val_every_n_epoch
        # Validated by steps, an epoch may end without a new value.
        return {"monitor": monitor, "frequency": every or 1, "strict": every is not None}

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        if not gradient_clip_val:
            return
        precision = self.trainer.precision_plugin
        if isinstance(precision, MixedPrecision) and precision.scaler is None:
            # Without a scaler nothing is unscaled, yet Lightning refuses fused optimisers here.
            algorithm = GradClipAlgorithmType(gradient_clip_algorithm or "norm")
            Precision.clip_gradients(precision, optimizer, gradient_clip_val, algorithm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def configure_callbacks(self) -> list[L.Callback]:
        forget_earlier_data(self.trainer)  # called before Lightning sets data up
        if not self.automatic_optimization:
            self._refuse_trainer_options()
        if self.partial_losses:
            look_for_unused_parameters(self.trainer)
        callbacks: list[L.Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        # One given to the trainer by hand stays; Lightning would replace it by ours.
        given = {type(callback) for callback in callbacks}
        if BuildFirst not in given:
            callbacks.insert(0, BuildFirst())  # those that are returned come last
        return [make() for make in (ExactResume, FiniteGuard) if make not in given]

    def _refuse_trainer_options(self) -> None:
        """The trainer clips and accumulates for one optimiser that steps once a batch."""
        name, clip = type(self).__name__, self.trainer.gradient_clip_val
        batches, callbacks = self.trainer.accumulate_grad_batches, self.trainer.callbacks  # type: ignore[attr-defined]
        if clip:
            own = "max_grad_norm" in self.hparams
            advice = f"give the model max_grad_norm={clip} instead" if own else "leave it out"
            raise ValueError(f"gradient_clip_val={clip}: {name} makes its own steps; {advice}")
        if batches != 1:
            raise ValueError(
                f"accumulate_grad_batches={batches}: {name} steps with every batch; give the data "
                f"a larger batch_size or num_steps instead"
            )
        if any(isinstance(each, LearningRateFinder) for each in callbacks):
            raise ValueError(
                f"LearningRateFinder: {name} makes its own steps, and hands it no loss; try "
                f"learning rates by hand"
            )

    def on_fit_start(self) -> None:
        # trellis.load hands an objective over for use; Lightning would train it without dropout.
        if not self.training:
            self.train()

    def log_train(self, **values: Tensor) -> None:
        """Log ``train/NAME`` on the steps that reach a logger; a call on others costs nothing.

        ``self.log`` takes about a millisecond, also on steps whose values are not kept.
        """
        trainer = self.attached_trainer
        if trainer is not None and trainer.training and logs_this_step(trainer):
            named = {f"train/{name}": value.detach() for name, value in values.items()}
            self.log_dict(named, prog_bar=True)

    def evaluated(self, stage: Stage) -> MetricCollection:
        """Metrics of the evaluation under way, to update batch by batch.

        What several processes evaluate twice, so that each has equally many batches, is counted
        once: then these are metrics that nobody reads.
        """
        metrics = self.val_metrics if stage == "val" else self.test_metrics
        return metrics.clone() if self._repeats else metrics

    # An evaluation draws the same numbers each time, however many processes share it, and none
    # that training would have drawn: else a run that was interrupted before it would not go on
    # like one that was not.
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        with self._batch_of(self.trainer.val_dataloaders, batch_idx):
            self.evaluate(batch, "val")

    def test_step(self, batch: Any, batch_idx: int) -> None:
        with self._batch_of(self.trainer.test_dataloaders, batch_idx):
            self.evaluate(batch, "test")

    @contextmanager
    def _batch_of(self, loader: Any, batch_idx: int) -> Iterator[None]:
        number = batch_idx * self.trainer.world_size + self.trainer.global_rank
        repeats = getattr(loader, "repeats", None)  # of a trellis loader
        self._repeats = bool(repeats and repeats(number))
        with isolated_rng(number, self.device):
            yield

    def on_validation_epoch_start(self) -> None:
        self._begin_evaluation(self.val_metrics)

    def on_test_epoch_start(self) -> None:
        self._begin_evaluation(self.test_metrics)

    def _begin_evaluation(self, metrics: MetricCollection) -> None:
        # Reset at the start, not the end: one that was interrupted leaves counts behind.
        metrics.reset()
        if self.trainer.world_size > 1:  # running statistics are those of each process's data
            for buffer in self.buffers():
                dist.broadcast(buffer, src=0)

    def on_validation_epoch_end(self) -> None:
        self.log_dict(self._computed(self.val_metrics), prog_bar=True, sync_dist=True)

    def on_test_epoch_end(self) -> None:
        self.log_dict(self._computed(self.test_metrics), sync_dist=True)

    def _computed(self, metrics: MetricCollection) -> dict[str, Any]:
        if self.trainer.world_size == 1:
            return metrics.compute()
        with warnings.catch_warnings():
            # One of several processes may have had nothing to count: the others have.
            warnings.filterwarnings("ignore", message="The ``compute`` method of metric")
            return metrics.compute()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        datamodule = getattr(self.attached_trainer, "datamodule", None)
        checkpoint["trellis"] = description(self, datamodule)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        about, saved = checkpoint.get("trellis", {}), checkpoint.get("hyper_parameters", {})
        mine = importable_name(type(self))
        if about.get("objective") not in (None, mine) and mine is not None:
            raise ValueError(f"the checkpoint holds a {about['objective']}, not a {mine}")
        if (trainer := self.attached_trainer) is not None:
            if trainer.state.fn == "fit":
                for name in self.hparams:
                    if name.endswith(("optimizer", "lr_scheduler")):
                        compare_options(name, saved.get(name), self.hparams[name])
            return
        missing = [name for name in about.get("unsaved", ()) if name not in saved]
        if missing:
            raise ValueError(
                f"this checkpoint was saved without {', '.join(missing)}, which had no plain "
                f"form: load it with {missing[0]}=..."
            )


class BuildFirst(L.Callback):
    """Builds the networks before the ``setup`` of other callbacks, which copy or freeze them.

    Lightning calls ``configure_model`` after that, too late for ``StochasticWeightAveraging`` or
    a ``BaseFinetuning``, and earlier the sizes of the data are unknown.
    """

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        build_model(trainer)


def _without_long_texts(plain: Any) -> Any:
    if isinstance(plain, dict):
        return {key: _without_long_texts(value) for key, value in plain.items()}
    return f"({len(plain):,} characters)" if isinstance(plain, str) and len(plain) > 200 else plain


def steps_often(scheduler: Any) -> bool:
    """Whether a scheduler is made to be stepped with each step of its optimiser."""
    return isinstance(scheduler, (Schedule, OneCycleLR, CyclicLR))


def plan(scheduler: Any, total_steps: Callable[[], int]) -> None:
    """Tell a ``Schedule`` that was not given its length how many steps the run has.

    Args:
        scheduler: any; others know their length.
        total_steps: called only if it is needed, for it may load the data.
    """
    if isinstance(scheduler, Schedule) and scheduler.total_steps is None:
        scheduler.plan(total_steps())
