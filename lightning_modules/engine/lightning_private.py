"""All that touches private names of Lightning; no other file does.

Each function has a test in ``test_lightning_private.py`` that fails with a sentence saying what a
new release changed.
"""

import inspect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import lightning as L
from lightning.pytorch.cli import LightningCLI
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.strategies.launchers import _MultiProcessingLauncher
from torch.optim import Optimizer


def dump_checkpoint(trainer: L.Trainer) -> dict[str, Any]:
    """The whole checkpoint that ``trainer.save_checkpoint`` would write, in memory."""
    return trainer._checkpoint_connector.dump_checkpoint(weights_only=False)


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


def spawns_processes(trainer: L.Trainer) -> bool:
    """Whether the trainer starts its processes from this one, which then only waits."""
    return isinstance(trainer.strategy.launcher, _MultiProcessingLauncher)


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
