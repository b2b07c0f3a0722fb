"""All that touches private names of Lightning; no other file does.

Each function has a test in ``test_lightning_private.py`` that fails with a sentence saying what a
new release changed.
"""

import inspect
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import lightning as L
import torch
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.loops.optimization.automatic import ClosureResult
from lightning.pytorch.plugins.environments import SLURMEnvironment
from lightning.pytorch.plugins.precision import Precision
from lightning.pytorch.profilers import PassThroughProfiler
from lightning.pytorch.strategies import DDPStrategy, ModelParallelStrategy, SingleDeviceStrategy
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from lightning.pytorch.trainer.call import (
    _call_callback_hooks,
    _call_configure_model,
    _call_lightning_module_hook,
)
from torch import Tensor
from torch.optim import Optimizer


def dump_checkpoint(trainer: L.Trainer) -> dict[str, Any]:
    """The whole checkpoint that ``trainer.save_checkpoint`` would write, in memory."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


def dump_between_steps(trainer: L.Trainer) -> dict[str, Any]:
    """The same in ``on_boundary``, in the form in which Lightning resumes it exactly.

    In mid-epoch that is the form of ``on_train_batch_end``, where the last batch is not yet
    counted as completed: else Lightning would step the schedules of that batch again.
    """
    checkpoint = dump_checkpoint(trainer)
    loop = checkpoint["loops"]["fit_loop"]
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    if epochs["current"]["processed"] < epochs["current"]["ready"]:
        for counts in (batches["current"], batches["total"]):
            counts["completed"] -= 1
        if not trainer.fit_loop._should_accumulate():
            loop["epoch_loop.state_dict"]["_batches_that_stepped"] -= 1
    return checkpoint


def announce_boundaries(trainer: L.Trainer) -> None:
    """From now on call ``on_boundary(trainer, pl_module)`` of all callbacks that have it.

    It is called after each batch and after each epoch (not after its last batch), once all that
    follows has been done: validation, early stopping, learning rate schedules. Lightning has no
    hook there, and a checkpoint made in its last hooks lacks what comes after them.
    """
    for loop in (trainer.fit_loop, trainer.fit_loop.epoch_loop):
        if "on_advance_end" not in vars(loop):
            loop.on_advance_end = partial(_advance_end, trainer, loop)  # type: ignore[method-assign]


def _advance_end(trainer: L.Trainer, loop: Any, *fetcher: Any) -> None:
    type(loop).on_advance_end(loop, *fetcher)
    if loop is trainer.fit_loop or not trainer.is_last_batch:
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if (hook := getattr(callback, "on_boundary", None)) is not None:
                hook(trainer, trainer.lightning_module)


def is_over(trainer: L.Trainer) -> bool:
    """Whether no further step follows, in ``on_boundary``."""
    loop = trainer.fit_loop
    limit = loop.max_epochs
    epochs: int = loop.epoch_progress.current.processed  # type: ignore[attr-defined]
    return (
        (limit not in (None, -1) and epochs >= limit)
        or (loop.max_steps != -1 and trainer.global_step >= loop.max_steps)
        or (trainer.should_stop and loop._can_stop_early)
    )


def waiting_plateaus(trainer: L.Trainer) -> list[int]:
    """Which schedulers are still to see what the epoch under way, or just over, has logged.

    Lightning steps them as the very last thing of an epoch, and leaves it out on resuming.
    """
    epochs = trainer.fit_loop.epoch_progress.current
    if epochs.completed == epochs.ready:
        return []
    return [
        index
        for index, config in enumerate(trainer.lr_scheduler_configs)
        if config.reduce_on_plateau
        and config.interval == "epoch"
        and (trainer.current_epoch + 1) % config.frequency == 0
        and config.monitor in trainer.callback_metrics
    ]


def restarts_in_epoch(trainer: L.Trainer) -> bool:
    """Whether the run goes on inside an epoch that had begun, in ``on_train_start``."""
    return trainer.fit_loop.restarted_mid_epoch or trainer.fit_loop.restarted_on_epoch_end


def forget_earlier_data(trainer: L.Trainer) -> None:
    """Leave the trainer the data module of the call under way, if it was given one.

    Lightning keeps the one of an earlier call, sets it up again and saves its state.
    """
    attached: Any = trainer._data_connector._datahook_selector
    trainer.datamodule = attached.datamodule  # type: ignore[attr-defined]


def build_model(trainer: L.Trainer) -> None:
    """Call ``configure_model`` with the devices and precision that Lightning calls it with."""
    _call_configure_model(trainer)


def logs_this_step(trainer: L.Trainer) -> bool:
    """Whether what is logged in this training step reaches a logger."""
    return trainer._logger_connector.should_update_logs


def logged_step(trainer: L.Trainer) -> int:
    """The x-axis on which Lightning logs metrics: batches that made a step."""
    return trainer.fit_loop.epoch_loop._batches_that_stepped


def restore_loaders(trainer: L.Trainer, states: Sequence[dict[str, Any]]) -> None:
    """Give the training loaders the states of a checkpoint.

    Lightning itself does so only in mid-epoch, and not where a schedule asked for the number of
    steps before the checkpoint was read.
    """
    if states and (combined := trainer.fit_loop._combined_loader) is not None:
        combined._load_state_dicts(list(states))


def do_not_count(optimizer: LightningOptimizer) -> None:
    """From now on leave the steps of ``optimizer`` out of ``trainer.global_step``."""
    optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure


@contextmanager
def counted_as_one(optimizers: Sequence[LightningOptimizer]) -> Iterator[None]:
    """Count all steps that the optimisers take in here as one of ``trainer.global_step``."""
    hooks = [(each._on_before_step, each._on_after_step) for each in optimizers]
    for each in optimizers:
        do_not_count(each)
    try:
        yield
    finally:
        for each, (before, after) in zip(optimizers, hooks, strict=True):
            each._on_before_step, each._on_after_step = before, after
    before, after = hooks[0]
    before()
    after()


def take_step(module: L.LightningModule, optimizer: LightningOptimizer) -> None:
    """``optimizer.step()`` by its shortest way: the hooks, then the step.

    Lightning's own passes through a strategy, a precision plugin and two closures. It is taken
    where one of these, or a profiler, has something to do. Call it in ``counted_as_one``: the
    short way counts nothing.
    """
    trainer, own = module.trainer, optimizer.optimizer
    plain = (
        type(trainer.strategy) is SingleDeviceStrategy
        and type(trainer.precision_plugin).optimizer_step is Precision.optimizer_step
        and isinstance(trainer.profiler, PassThroughProfiler)  # type: ignore[attr-defined]
    )
    if not plain:
        optimizer.step()
        return
    _call_callback_hooks(trainer, "on_before_optimizer_step", own)
    _call_lightning_module_hook(trainer, "on_before_optimizer_step", own)
    own.step()


def spawns_processes(trainer: L.Trainer) -> bool:
    """Whether the trainer starts its processes from this one, which then only waits."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


def requeues(trainer: L.Trainer) -> bool:
    """Whether SLURM puts the run into its queue again, for which Lightning needs its signals."""
    environment = getattr(trainer.strategy, "cluster_environment", None)
    return isinstance(environment, SLURMEnvironment) and environment.auto_requeue


def share_no_sigterm(trainer: L.Trainer) -> None:
    """Before each step Lightning tells all processes if the first one has got SIGTERM; stop it."""
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = _nothing  # type: ignore[method-assign]


def _nothing() -> None:
    return None


def look_for_unused_parameters(trainer: L.Trainer) -> None:
    """Let DDP accept backward passes that reach some of the parameters only, if it is used.

    DDP waits for a gradient of each parameter, unless it was told to look which ones will have
    none. An option that the user gave stays.
    """
    if isinstance(trainer.strategy, DDPStrategy):
        trainer.strategy._ddp_kwargs.setdefault("find_unused_parameters", True)


def one_group_of_all_processes(strategy: ModelParallelStrategy) -> None:
    """Let all processes share one copy of the weights; Lightning's default is those of a node."""
    strategy._data_parallel_size = strategy.num_nodes * strategy.num_processes


BATCH_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
STEP_HOOKS = (
    "on_train_batch_start",
    "on_before_zero_grad",
    "on_before_backward",
    "on_after_backward",
    "on_before_optimizer_step",
    "on_train_batch_end",
)


class ShortSteps(L.Callback):
    """Leaves out of each training step what always gives the same, until ``end``."""

    def __init__(self) -> None:
        self._replaced: list[tuple[Any, str]] = []

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning calls only what is callable, and would make up a name for each empty hook of
        # each callback, some 60 times a step.
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            for hook in STEP_HOOKS:
                if getattr(type(callback), hook) is getattr(L.Callback, hook):
                    self._replace(callback, hook, None)
        # It reads the signature of training_step.
        loop = trainer.fit_loop.epoch_loop
        if "batch_idx" in loop._build_kwargs(OrderedDict(), None, 0):
            self._replace(loop, "_build_kwargs", _batch_and_number)
        # It divides a loss by 1, with a gradient.
        self._replace(loop.automatic_optimization, "output_result_cls", _Result)
        # It looks for who moves a batch, the module or the data; a profiler is told.
        if not isinstance(trainer.profiler, PassThroughProfiler):  # type: ignore[attr-defined]
            return
        find = trainer._data_connector._datahook_selector.get_instance  # type: ignore[union-attr]
        before, move, after = (getattr(find(name), name) for name in BATCH_HOOKS)
        self._replace(pl_module, "_on_before_batch_transfer", before)
        moved = partial(_moved, pl_module, move, after)
        self._replace(pl_module, "_apply_batch_transfer_handler", moved)

    def _replace(self, owner: Any, name: str, value: Any) -> None:
        if name not in vars(owner):
            vars(owner)[name] = value
            self._replaced.append((owner, name))

    def end(self) -> None:
        """Let Lightning do everything again."""
        for owner, name in self._replaced:
            vars(owner).pop(name, None)
        self._replaced = []


def _batch_and_number(kwargs: OrderedDict, batch: Any, batch_idx: int) -> OrderedDict:
    kwargs["batch"], kwargs["batch_idx"] = batch, batch_idx
    return kwargs


def _moved(
    module: L.LightningModule,
    move: Callable[..., Any],
    after: Callable[..., Any],
    batch: Any,
    device: torch.device | None = None,
    dataloader_idx: int = 0,
) -> Any:
    return after(move(batch, device or module.device, dataloader_idx), dataloader_idx)


class _Result(ClosureResult):
    @classmethod
    def from_training_step_output(cls, output: Any, normalize: int = 1) -> ClosureResult:
        if normalize == 1 and isinstance(output, Tensor):
            return cls(output)
        return super().from_training_step_output(output, normalize)


def bare_optimizer(optimizer: Optimizer | LightningOptimizer) -> Optimizer:
    """The optimiser that Lightning has wrapped."""
    return optimizer._optimizer if isinstance(optimizer, LightningOptimizer) else optimizer


class LightStep(L.LightningModule):
    """A ``LightningModule`` with less time spent between its steps.

    Only what is done anew in each step and always gives the same is left out; should Lightning
    change, it is at worst in vain.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        # Lightning reads the signature before each step, to see if it takes batch_idx: Python
        # works it out anew each time, unless it finds it here.
        step: Any = vars(cls).get("training_step")
        if inspect.isfunction(step):
            step.__signature__ = inspect.signature(step)  # type: ignore[attr-defined]

    def __setattr__(self, name: str, value: Any) -> None:
        # The name of the current hook, written 40 times a step: torch would check each time
        # whether it is a parameter, a buffer or a module.
        if name == "_current_fx_name":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """``optimizer.zero_grad()`` without torch's entry in a profile."""
        if type(optimizer).zero_grad is not Optimizer.zero_grad:
            optimizer.zero_grad()
            return
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                parameter.grad = None


class TypedBeatsCheckpointCLI(LightningCLI):
    """``LightningCLI`` that leaves the hyper-parameters of ``--ckpt_path`` alone.

    Lightning's own lets them win over what is typed.
    """

    def _parse_ckpt_path(self) -> None:
        """Nothing."""


class WandbSettings:
    """What a ``WandbLogger`` was told, and what it is to use instead before its run begins.

    Args:
        logger: before its run exists.
    """

    def __init__(self, logger: WandbLogger) -> None:
        self.logger = logger
        # An option that W&B has removed; it warns about every use.
        logger._wandb_init.pop("anonymous", None)

    @property
    def has_run(self) -> bool:
        """Whether the run has begun."""
        return self.logger._experiment is not None

    @property
    def uploads_checkpoints(self) -> bool:
        """Whether the logger uploads the files of a ``ModelCheckpoint`` by itself."""
        return bool(self.logger._log_model)

    @property
    def project(self) -> str:
        """Of the run; Lightning's default is ``lightning_logs``."""
        return str(self.logger._project)

    def given(self, option: str) -> Any:
        """An argument of ``wandb.init``, ``None`` if there is none."""
        return self.logger._wandb_init.get(option)

    def use(
        self, *, project: str = "", folder: str = "", name: str = "", run_id: str = ""
    ) -> None:
        """Set what the run begins with; what is empty stays as it is."""
        logger, options = self.logger, self.logger._wandb_init
        if project:
            logger._project = options["project"] = project
        if folder:
            logger._save_dir = options["dir"] = folder
        if name:
            logger._name = options["name"] = name
        if run_id:
            logger._id = options["id"] = run_id
