"""``best.ckpt`` and ``last.ckpt`` of a run, at a bounded share of its time."""

import errno
import math
import time
from pathlib import Path
from typing import Any, Literal

import lightning as L
import torch
from lightning.pytorch.callbacks import (
    Checkpoint,
    ModelPruning,
    StochasticWeightAveraging,
)
from lightning.pytorch.utilities.exceptions import SIGTERMException
from lightning.pytorch.utilities.rank_zero import rank_zero_info

from trellis.lightning_modules.engine.graceful_stop import Stopped
from trellis.lightning_modules.engine.lightning_private import (
    announce_boundaries,
    dump_between_steps,
    dump_checkpoint,
    is_over,
)
from trellis.lightning_modules.engine.resume import RESULT
from trellis.lightning_modules.engine.sharding import all_finite


class BestAndLastCheckpoint(Checkpoint):
    """Keep the best and the newest state of a run as whole files.

    A full-batch graph network improves every few milliseconds, faster than a disk can follow.
    So writing may take one twentieth of the run: in between, the best state waits in memory, and
    it is written when its turn comes, at the end, or when the run ends early. ``last.ckpt`` is
    written at the same pace, once a minute at most, and when Ctrl-C or SIGTERM stops the run
    between two steps: it always holds a state from which a run goes on exactly. What a second
    Ctrl-C, an error, or SIGTERM in a validation leaves half done is not written.

    Args:
        monitor: logged value that says which state is best; ``None`` takes the objective's, or
            where it has none the newest state.
        mode: whether lower or higher is better; ``None`` takes the objective's.
    Raises:
        ValueError: ``monitor`` was never logged.
    """

    best_model_path = ""
    best_model_score: float | None = None
    last_model_path = ""

    def __init__(
        self, monitor: str | None = None, mode: Literal["min", "max"] | None = None
    ) -> None:
        self.monitor, self.mode = self._given = monitor, mode
        self._module: L.LightningModule | None = None  # that the best state is one of
        self._waiting: dict[str, Any] | None = None
        self._may_write_best = self._may_write_last = -math.inf
        self._ended = False  # no step follows
        self._weights: dict[str, Any] | None = None  # trained ones, if others take their place

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        if stage == "fit":
            if pl_module is not self._module:  # scores of another one say nothing about it
                self._module, self._waiting = pl_module, None
                self.best_model_path, self.best_model_score, self.last_model_path = "", None, ""
            monitor, mode = self._given
            # A module that is no Objective may name no monitor: its newest state is the best.
            self.monitor = monitor or getattr(pl_module, "monitor", None)
            self.mode = mode or getattr(pl_module, "monitor_mode", "min")
            # Several processes cannot save once one of them fails: so they do it after one step.
            pause = 60 if trainer.world_size == 1 else 0
            self._may_write_last, self._ended = time.monotonic() + pause, False
            announce_boundaries(trainer)

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # A checkpoint from elsewhere has no say in which file is read or overwritten: the best
        # state so far is the one beside the file that the user resumes from.
        if self.best_model_score is not None and not self.best_model_path and trainer.ckpt_path:
            beside = Path(trainer.ckpt_path).with_name("best.ckpt")
            self.best_model_path = str(beside) if beside.is_file() else ""

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking or _is_trial(trainer):
            return
        score = None if self.monitor is None else self._score(trainer)
        if score is not None and not self._is_better(score):
            return
        self.best_model_score = score
        self.best_model_path = str(self._folder(trainer) / "best.ckpt")
        state = dump_checkpoint(trainer)
        if _is_due(self._may_write_best, trainer):
            self._waiting = None
            self._may_write_best = self._write(trainer, state, self.best_model_path)
        else:
            self._waiting = _snapshot(state)

    def _score(self, trainer: L.Trainer) -> float:
        if self.monitor not in trainer.callback_metrics:
            known = ", ".join(sorted(trainer.callback_metrics)) or "nothing"
            raise ValueError(f"monitor={self.monitor!r} was not logged; logged: {known}")
        return float(trainer.callback_metrics[self.monitor])

    def _is_better(self, score: float) -> bool:
        if math.isnan(score):
            return False
        if self.best_model_score is None:
            return True
        sign = -1 if self.mode == "min" else 1
        return sign * score > sign * self.best_model_score

    def on_boundary(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write ``last.ckpt`` when it is due, and where the run ends."""
        if self._ended:  # Lightning ends the epoch of a run that stops within it, others would not
            return
        self._ended = is_over(trainer)
        if self._ended and trainer.is_last_batch and _changes_weights_at_the_end(trainer):
            self._weights = _snapshot(pl_module.state_dict())
            return
        # Several processes have to agree, which costs a message: so they ask now and then.
        step, several = trainer.global_step, trainer.world_size > 1
        quiet = several and step > 1 and step % 50 and not trainer.is_last_batch
        if self._ended or (not quiet and _is_due(self._may_write_last, trainer)):
            self._save_last(trainer, dump_between_steps(trainer))

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        before, self._weights = self._weights, None
        if before is not None and not _equal(before, pl_module.state_dict()):
            self._save_last(trainer, {**dump_checkpoint(trainer), RESULT: True})
        elif before is not None or not self._ended:
            self._save_last(trainer, dump_between_steps(trainer))
        self._write_waiting(trainer)

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        if trainer.state.fn != "fit" or trainer.global_step == 0 or trainer.sanity_checking:
            return
        if getattr(exception, "errno", None) in (errno.ENOSPC, errno.EDQUOT):
            return  # a full disk is not mended by writing again
        stops = isinstance(exception, (KeyboardInterrupt, SIGTERMException))
        between_steps = isinstance(exception, (Stopped, SIGTERMException))
        # Lightning looks for SIGTERM after each batch of a validation, too.
        between_steps = between_steps and not trainer.validating
        if trainer.world_size == 1 or between_steps:  # else the others would not come to it
            self._write_waiting(trainer)
        if between_steps and _is_finite(pl_module):
            self._save_last(trainer, dump_between_steps(trainer))
        rank_zero_info(self._farewell(trainer, "Stopped" if stops else "Failed", between_steps))

    def _farewell(self, trainer: L.Trainer, stopped: str, between_steps: bool) -> str:
        path = self.last_model_path or trainer.ckpt_path
        step = trainer.global_step
        if between_steps:
            stopped = f"{stopped} after step {step}"
        elif trainer.validating:
            stopped = f"{stopped} in the validation after step {step}, which is not saved"
        else:
            stopped = f"{stopped} inside step {step + 1}, which is not saved"
        if not path:
            return f"{stopped}; no checkpoint had been written before"
        return f"{stopped}; to go on: trellis fit --ckpt_path {path}"

    def _save_last(self, trainer: L.Trainer, state: dict[str, Any]) -> None:
        if _is_trial(trainer):
            return
        self.last_model_path = str(self._folder(trainer) / "last.ckpt")
        pause = self._write(trainer, state, self.last_model_path)
        self._may_write_last = max(pause, time.monotonic() + 60)

    def _write_waiting(self, trainer: L.Trainer) -> None:
        if self._waiting is not None:
            state, self._waiting = self._waiting, None
            self._write(trainer, state, self.best_model_path)

    def _write(self, trainer: L.Trainer, state: dict[str, Any], path: str) -> float:
        """Write ``state``; returns the time before which writing again would cost too much."""
        start = time.monotonic()
        trainer.strategy.save_checkpoint(state, path)
        trainer.strategy.barrier("BestAndLastCheckpoint")
        end = time.monotonic()
        return end + 19 * (end - start)

    def _folder(self, trainer: L.Trainer) -> Path:
        folder = getattr(trainer, "run_dir", None) or trainer.log_dir or trainer.default_root_dir
        return Path(folder) / "checkpoints"

    def state_dict(self) -> dict[str, Any]:
        return {"best_model_path": self.best_model_path, "best_model_score": self.best_model_score}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best_model_path = state_dict["best_model_path"]
        self.best_model_score = state_dict["best_model_score"]


def _is_due(time_allowed: float, trainer: L.Trainer) -> bool:
    """Whether the moment has come, by the clock of the first process."""
    return trainer.strategy.broadcast(time.monotonic() >= time_allowed)


def _is_trial(trainer: L.Trainer) -> bool:
    return bool(trainer.fast_dev_run)  # type: ignore[attr-defined]


def _changes_weights_at_the_end(trainer: L.Trainer) -> bool:
    """Whether a callback puts other weights in the place of the trained ones in the end."""
    kinds = (StochasticWeightAveraging, ModelPruning)
    return any(isinstance(each, kinds) for each in trainer.callbacks)  # type: ignore[attr-defined]


def _is_finite(module: torch.nn.Module) -> bool:
    return all(all_finite(value) for value in module.state_dict().values())


def _equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def _snapshot(state: Any) -> Any:
    """A copy that the next step does not change; what is neither container nor tensor is plain."""
    if isinstance(state, torch.Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _snapshot(value) for key, value in state.items()}
    if type(state) in (list, tuple):
        return type(state)(_snapshot(value) for value in state)
    return state
