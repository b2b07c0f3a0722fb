"""Random states and loader positions, so that a resumed run equals the uninterrupted one."""

import random
from typing import Any, TypeVar

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightning.pytorch.callbacks.early_stopping import EarlyStoppingReason
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_warn
from torch import nn

from trellis.hyperparameters import PlainHyperparameters
from trellis.lightning_modules.engine.lightning_private import (
    restarts_in_epoch,
    restore_loaders,
    waiting_plateaus,
)
from trellis.lightning_modules.engine.run_config import KEY, saved_run
from trellis.lightning_modules.engine.sharding import as_part, local
from trellis.lightning_modules.engine.upgrade import description
from trellis.processes import of_all_processes

RESULT = "trellis_result"  # in a checkpoint whose weights are the outcome of a run, not its state
Kind = TypeVar("Kind", bound=L.Callback)


class ExactResume(L.Callback):
    """Save what Lightning's checkpoints lack, and restore it on resuming.

    Each rank's random states and half-accumulated gradients; the logged values that schedules and
    early stopping look at; which parameters a ``BaseFinetuning`` has frozen. Together with
    ``Loader`` and Lightning's own states, a run stopped between two batches continues bit-equal on
    a CPU: same world size, batch size, callbacks and versions. A checkpoint of a validation goes
    on with what followed it: the schedules and the end of the epoch. A run that early stopping
    ended does not go on.
    """

    def __init__(self) -> None:
        self._state: dict[str, Any] | None = None  # of this rank, until it is restored
        self._saved: dict[str, Any] = {}
        self._loaders: list[dict[str, Any]] = []

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        self._state, self._saved, self._loaders = None, {}, []

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Objectives write their own, also where Lightning calls no callback.
        datamodule = trainer.datamodule  # type: ignore[attr-defined]
        if not isinstance(pl_module, PlainHyperparameters):
            checkpoint["trellis"] = description(pl_module, datamodule)
        checkpoint[KEY] = saved_run(trainer)
        progress = trainer.fit_loop.epoch_loop.batch_progress
        processed: int = progress.current.processed  # type: ignore[attr-defined]
        mid_epoch = not progress.is_last_batch or progress.current.ready > processed
        own = _random_states()
        if mid_epoch and processed % trainer.accumulate_grad_batches:
            own["gradients"] = {
                name: local(parameter.grad)
                for name, parameter in pl_module.named_parameters()
                if parameter.grad is not None
            }
        checkpoint["trellis_random_states"] = {
            "ranks": of_all_processes(own),
            "mid_epoch": mid_epoch,
            "metrics": {
                name: value.detach().clone()
                for name, value in trainer.callback_metrics.items()
                if isinstance(value, torch.Tensor)
            },
            "plateaus": [] if mid_epoch else waiting_plateaus(trainer),
            **_frozen(trainer, pl_module),
        }
        # A loader has served batches that no step has seen yet, and an epoch may end before it.
        for position in _loader_states(checkpoint):
            if "batches" in position:
                position["batches"] = processed if mid_epoch else 0
        _close_epoch(checkpoint["loops"]["fit_loop"])

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        if trainer.state.fn != "fit":
            return  # evaluations take the weights alone
        if RESULT in checkpoint:
            raise ValueError(
                "the checkpoint holds the result of a run whose callbacks have put other weights "
                "in the place of the trained ones, such as their average: no run goes on from "
                "there. Start a new one with init_from"
            )
        if _callbacks(trainer, ModelPruning):
            raise ValueError(
                "a checkpoint does not hold the masks of ModelPruning: no run goes on exactly "
                "from there. Start a new one with init_from"
            )
        saved = checkpoint.get("trellis_random_states")
        if not saved:
            return
        self._saved = saved
        if len(saved["ranks"]) != trainer.world_size:
            raise ValueError(
                f"the checkpoint was written by {len(saved['ranks'])} processes, this run has "
                f"{trainer.world_size}: each has a share of the data and random numbers of its "
                f"own. Resume with --trainer.devices {len(saved['ranks'])}, or start a new run "
                f"from the weights with --init_from"
            )
        self._state = saved["ranks"][trainer.global_rank]
        self._loaders = _loader_states(checkpoint)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # At the end of an epoch: before the next epoch's iterator exists.
        if self._saved and not self._saved["mid_epoch"]:
            self._restore()
        _freeze(pl_module, self._saved)
        for callback in _callbacks(trainer, EarlyStopping):
            if self._saved and callback.stopping_reason != EarlyStoppingReason.NOT_STOPPED:
                trainer.should_stop = True
                rank_zero_info(
                    f"Early stopping on {callback.monitor} has ended this run: nothing is left to "
                    f"train. Leave EarlyStopping out to train on, or start anew with init_from"
                )

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Lightning gives the loaders nothing back at the end of an epoch, not even their seed, nor
        # where a schedule asked for the number of steps before the checkpoint was read.
        states, self._loaders = self._loaders, []
        restore_loaders(trainer, states)
        saved, self._saved = self._saved, {}
        if not saved:
            return
        for name, value in saved.get("metrics", {}).items():
            trainer.callback_metrics.setdefault(name, value.to(pl_module.device))
        for index, config in enumerate(trainer.lr_scheduler_configs):
            if index in saved.get("plateaus", ()) and config.reduce_on_plateau:
                value = trainer.callback_metrics[str(config.monitor)]
                pl_module.lr_scheduler_step(config.scheduler, value)
        # Lightning calls on_train_epoch_start only where an epoch begins.
        if restarts_in_epoch(trainer):
            for accumulation in _callbacks(trainer, GradientAccumulationScheduler):
                accumulation.on_train_epoch_start(trainer)
            for each in _callbacks(trainer, StochasticWeightAveraging):
                if trainer.current_epoch > each.swa_end:
                    raise ValueError(
                        "the checkpoint lies inside the pass that StochasticWeightAveraging makes "
                        "for the statistics of batch norm: resume from an earlier one"
                    )
                each.on_train_epoch_start(trainer, pl_module)

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        # In mid-epoch: once, after the iterator has been made.
        if self._state is not None:
            for name, gradient in self._state.get("gradients", {}).items():
                parameter = pl_module.get_parameter(name)
                parameter.grad = as_part(gradient, parameter)
            self._restore()

    def _restore(self) -> None:
        state, self._state = self._state, None
        if state is None:
            return
        version, internal, gauss = state["python"]
        random.setstate((version, tuple(internal.tolist()), gauss))
        name, keys, position, has_gauss, cached = state["numpy"]
        np.random.set_state((name, keys.numpy().astype(np.uint32), position, has_gauss, cached))
        torch.set_rng_state(state["torch"])
        if state["cuda"]:
            torch.cuda.set_rng_state_all(state["cuda"])


def _callbacks(trainer: L.Trainer, kind: type[Kind]) -> list[Kind]:
    return [each for each in trainer.callbacks if isinstance(each, kind)]  # type: ignore[attr-defined]


def _frozen(trainer: L.Trainer, module: L.LightningModule) -> dict[str, list[str]]:
    """What a ``BaseFinetuning`` keeps from learning just now; it saves only the optimiser's."""
    if not _callbacks(trainer, BaseFinetuning):
        return {}
    return {
        "frozen": [name for name, each in module.named_parameters() if not each.requires_grad],
        "norms": [name for name, each in _norms(module) if not each.track_running_stats],
    }


def _freeze(module: L.LightningModule, saved: dict[str, Any]) -> None:
    if "frozen" not in saved:
        return
    for name, parameter in module.named_parameters():
        parameter.requires_grad_(name not in saved["frozen"])
    for name, norm in _norms(module):
        norm.track_running_stats = name not in saved["norms"]


def _norms(module: nn.Module) -> list[tuple[str, Any]]:
    return [
        (n, each) for n, each in module.named_modules() if hasattr(each, "track_running_stats")
    ]


def _close_epoch(loop: dict[str, Any]) -> None:
    """Make an epoch that is over look over, and the next one not begun.

    With ``max_steps`` Lightning takes every checkpoint for one of an unfinished epoch: resuming
    at the end of one, it would count that epoch twice and shuffle the next like the one after.
    """
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    if epochs["current"]["processed"] == epochs["current"]["ready"]:
        for counts in (epochs["current"], epochs["total"]):
            counts["completed"] = counts["processed"]
        batches["current"] = dict.fromkeys(batches["current"], 0)
        batches["is_last_batch"] = False


def _random_states() -> dict[str, Any]:
    name, keys, *rest = np.random.get_state()
    version, internal, gauss = random.getstate()
    return {
        "python": [version, torch.tensor(internal, dtype=torch.int64), gauss],
        "numpy": [name, torch.from_numpy(np.asarray(keys).astype(np.int64)), *rest],
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
    }


def _loader_states(checkpoint: dict[str, Any]) -> list[dict[str, Any]]:
    return checkpoint["loops"]["fit_loop"]["state_dict"].get("combined_loader", [])


def compare_options(name: str, saved: Any, mine: Any) -> None:
    """Resuming restores the state of the optimiser, and with it its options: say so."""
    if not isinstance(saved, dict) or not isinstance(mine, dict):
        return
    # The command line writes torch.optim.Adam, Python torch.optim.adam.Adam.
    old, new = (plain["class_path"].rpartition(".")[2] for plain in (saved, mine))
    if old != new:
        raise ValueError(
            f"{name}: the checkpoint was made with {old}, this run has {new}; resume with {old}, "
            f"or take only the weights with init_from"
        )
    given, before = mine.get("init_args", {}), saved.get("init_args", {})
    changed = [key for key in given if key in before and given[key] != before[key]]
    if changed:
        key = changed[0]
        rank_zero_warn(
            f"{name}: resuming keeps {key}={before[key]} of the checkpoint instead of "
            f"{given[key]}; init_from starts anew from its weights"
        )
