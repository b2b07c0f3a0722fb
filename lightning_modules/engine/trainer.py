"""Lightning's Trainer with trellis's defaults; it takes every option of Lightning's."""

from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
from lightning.fabric.plugins import CheckpointIO
from lightning.pytorch.callbacks import Callback, Checkpoint, ModelCheckpoint, ProgressBar
from lightning.pytorch.loggers import Logger
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.trainer.states import RunningStage

from trellis.lightning_modules.engine.checkpoint_file import AtomicCheckpointIO
from trellis.lightning_modules.engine.checkpointing import BestAndLastCheckpoint
from trellis.lightning_modules.engine.compiling import CompileInPlace
from trellis.lightning_modules.engine.finite_guard import FiniteGuard
from trellis.lightning_modules.engine.gather import GatherPredictions
from trellis.lightning_modules.engine.graceful_stop import GracefulStop
from trellis.lightning_modules.engine.initial_weights import InitialWeights
from trellis.lightning_modules.engine.lightning_private import (
    ShortSteps,
    spawns_processes,
)
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.processes import EndTogether, signals_passed_on
from trellis.lightning_modules.engine.progress import ProgressLine
from trellis.lightning_modules.engine.resume import ExactResume
from trellis.lightning_modules.engine.run_config import plain_options
from trellis.lightning_modules.engine.run_folder import RunFolder, RunLogger
from trellis.lightning_modules.engine.sharding import check_shardable
from trellis.lightning_modules.engine.wandb_run import WandbRun


class Trainer(L.Trainer):
    """``lightning.Trainer`` whose runs are safe, resumable and cheap per step.

    Adds, unless one of the kind is given: ``BestAndLastCheckpoint``, ``GracefulStop``,
    ``ProgressLine``, atomic checkpoint files, ``metrics.csv`` in a run folder of its own, and what
    a W&B run needs where a ``WandbLogger`` is given.

    Args:
        run_name: the run writes to ``default_root_dir/run_name/VERSION/``.
        default_root_dir: folder of all runs.
        logger: further loggers; ``False`` writes no metrics at all.
        callbacks: further callbacks.
        plugins: see Lightning.
        enable_progress_bar: see Lightning.
        enable_checkpointing: see Lightning.
        compile: compile networks in training: true, a mode of ``torch.compile`` such as
            ``max-autotune``, or a backend; see ``CompileInPlace``.
        options: any other argument of ``lightning.Trainer``.
    """

    def __init__(
        self,
        *,
        run_name: str = "run",
        default_root_dir: str | Path = "runs",
        logger: Logger | Iterable[Logger] | bool | None = None,
        callbacks: list[Callback] | Callback | None = None,
        plugins: Any = None,
        enable_progress_bar: bool = True,
        enable_checkpointing: bool = True,
        compile: bool | str = False,
        **options: Any,
    ) -> None:
        self.run_folder = RunFolder(default_root_dir, run_name)
        self.plain_options = plain_options(options)
        self._validates: bool | None = None
        self.prediction_ids: Sequence[str] | None = None
        callbacks = _listed(callbacks)
        if not any(isinstance(callback, GracefulStop) for callback in callbacks):
            callbacks.append(GracefulStop())
        self._short_steps = ShortSteps()
        callbacks += [self._short_steps, EndTogether(), GatherPredictions()]
        if compile is not False:
            callbacks.append(CompileInPlace(compile))
        if enable_checkpointing and not any(isinstance(c, Checkpoint) for c in callbacks):
            callbacks.append(BestAndLastCheckpoint())
        if enable_progress_bar and not any(isinstance(c, ProgressBar) for c in callbacks):
            callbacks.append(ProgressLine())
        given = [] if isinstance(logger, bool) else _listed(logger)
        if not any(isinstance(callback, WandbRun) for callback in callbacks):
            callbacks += WandbRun.beside(given)
        plugins = _listed(plugins)
        if not any(isinstance(plugin, CheckpointIO) for plugin in plugins):
            plugins.append(AtomicCheckpointIO())
        options["profiler"] = options.get("profiler") or _NoProfiler()
        quiet = logger is False or options.get("fast_dev_run")
        super().__init__(
            default_root_dir=default_root_dir,
            logger=False if quiet else [*given, RunLogger(self.run_folder)],
            callbacks=callbacks,
            plugins=plugins,
            enable_progress_bar=enable_progress_bar,
            enable_checkpointing=enable_checkpointing,
            **options,
        )

    @property
    def run_dir(self) -> Path:
        """The folder of this run, created on first use; every process must ask for it together."""
        path = self.run_folder.path if self.is_global_zero else Path()
        return self.strategy.broadcast(path)

    @property
    def enable_validation(self) -> bool:
        """Whether training validates.

        Lightning asks after each step and looks through the module and its data for it; nothing
        there changes between two steps.
        """
        if self._validates is None or not self.training:
            self._validates = bool(super().enable_validation)
        return self._validates and self.limit_val_batches > 0

    @property
    def training(self) -> bool:
        """Whether it trains; asked 16 times a step, and Lightning compares names to answer."""
        return self.state.stage is RunningStage.TRAINING

    @training.setter
    def training(self, value: bool) -> None:
        L.Trainer.training.fset(self, value)  # type: ignore[attr-defined]

    def fit(
        self,
        model: L.LightningModule,
        train_dataloaders: Any = None,
        val_dataloaders: Any = None,
        datamodule: L.LightningDataModule | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
        init_from: str | Path | None = None,
        init_map: dict[str, str] | None = None,
    ) -> None:
        """Train ``model``.

        Args:
            model: an objective, or any other ``LightningModule``.
            train_dataloaders: see Lightning.
            val_dataloaders: see Lightning.
            datamodule: the data.
            ckpt_path: checkpoint to resume exactly: weights, optimiser, data order, random states.
            weights_only: see Lightning.
            init_from: checkpoint to take the weights from, and nothing else.
            init_map: which of them, prefix there -> prefix here, such as ``{network.body:
                network.body}``; by default all. See ``ParameterGroups`` to freeze them, or to
                give them a learning rate of their own.
        Raises:
            ValueError: both checkpoints are given, the weights do not fit the model, or a prefix
                that nothing has.
        """
        callbacks: list[Callback] = self.callbacks  # type: ignore[attr-defined]
        callbacks += InitialWeights.asked_for(init_from, init_map, ckpt_path)
        given = {type(callback) for callback in callbacks}
        if not isinstance(model, Objective):  # which brings these by itself
            callbacks += [make() for make in (ExactResume, FiniteGuard) if make not in given]
        else:
            check_shardable(self, model)
        for callback in callbacks:
            if isinstance(callback, WandbRun):
                callback.begin(self, ckpt_path)
            elif isinstance(callback, ModelCheckpoint) and callback.dirpath is None:
                callback.dirpath = str(self.run_dir / "checkpoints")
        self._validates = None
        self.datamodule = None  # of an earlier call, which Lightning would set up again
        if spawns_processes(self) and not self.fast_dev_run:  # type: ignore[attr-defined]
            _ = self.run_folder.path  # known here, too
        try:
            with signals_passed_on(self):
                super().fit(
                    model, train_dataloaders, val_dataloaders, datamodule, ckpt_path, weights_only
                )
        except BaseException:
            if self.is_global_zero:
                self.run_folder.discard()
            raise
        finally:
            self._short_steps.end()
            callbacks = self.callbacks  # type: ignore[attr-defined]  # by now Lightning has another list
            callbacks[:] = [c for c in callbacks if not isinstance(c, InitialWeights)]

    def predict(
        self,
        model: L.LightningModule | None = None,
        dataloaders: Any = None,
        datamodule: L.LightningDataModule | None = None,
        return_predictions: bool | None = None,
        ckpt_path: str | Path | None = None,
        weights_only: bool | None = None,
        input: str | None = None,
    ) -> list[Any] | list[list[Any]] | None:
        """Predict the test split, or new examples.

        Args:
            model: an objective, or any other ``LightningModule``.
            dataloaders: see Lightning.
            datamodule: the data.
            return_predictions: see Lightning.
            ckpt_path: checkpoint to take the weights from.
            weights_only: see Lightning.
            input: new examples in place of the test split: a file or folder of the kind that
                ``datamodule`` was trained on, or ``-`` for standard input. The data module is
                not set up: what it was trained on need not be there.

        Afterwards ``prediction_ids`` names the examples, where the data has names for them.

        Raises:
            ValueError: the data module has no reader of new examples, or they do not fit.
        """
        data, ids = datamodule, None
        if input is not None:
            dataloaders, ids = _new_examples(model, datamodule, input)
            data = None
        predictions = super().predict(
            model, dataloaders, data, return_predictions, ckpt_path, weights_only
        )
        self.prediction_ids = getattr(data, "test_ids", ids)
        return predictions


def _new_examples(model: Any, datamodule: Any, path: str) -> tuple[Any, Sequence[str]]:
    read = getattr(datamodule, "inputs", None)
    if read is None:
        name = "no data module" if datamodule is None else type(datamodule).__name__
        raise ValueError(
            f"input={path}: {name} cannot read new examples: give a data module with a method "
            f"inputs(path, spec), see trellis.datamodules.engine.base.DataModule"
        )
    loader, ids = read(path, getattr(model, "spec", None))
    return loader, ids


class _NoProfiler(PassThroughProfiler):
    """Lightning's enters a generator for each hook of each callback, some 60 times a step."""

    nothing = nullcontext()

    def profile(self, action_name: str) -> Any:
        return self.nothing


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, (list, tuple)) else [value]
