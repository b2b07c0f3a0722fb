"""Runs with callbacks and schedules that remember: resumed from any file, they go on bit-equal."""

import math
import os
import random
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lightning as L
import numpy as np
import pytest
import torch
from learning_cases import CASES, Case, Points, adam, assert_equal_weights, mlp, run
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    ModelPruning,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.cli import ReduceLROnPlateau

from trellis.lightning_modules.callbacks import MovingAverage
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.engine.checkpointing import BestAndLastCheckpoint
from trellis.lightning_modules.vector.classification import Classification

EPOCHS = 4


class EpochMeans(WeightAveraging):
    """The mean over the ends of epochs, not over steps."""

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        return epoch_idx is not None


class Thaw(BaseFinetuning):
    """The first layer learns from the third epoch on."""

    def freeze_before_training(self, pl_module: L.LightningModule) -> None:
        self.freeze(pl_module.network.layers[0])

    def finetune_function(self, pl_module, epoch, optimizer) -> None:
        if epoch == 2:
            self.unfreeze_and_add_param_group(pl_module.network.layers[0], optimizer, lr=0.1)


class Setting(NamedTuple):
    callbacks: Callable[[], list[L.Callback]]
    case: Case = CASES["classification"]
    options: dict = {}


patient = partial(EarlyStopping, "val/loss", patience=2, min_delta=0.02)
plateau = Case(
    partial(
        Classification, mlp, adam,
        partial(ReduceLROnPlateau, monitor="val/loss", patience=0, threshold=0.05, factor=0.5),
    ),
    Points,
)  # fmt: skip
now_and_then = {"val_check_interval": 2}
SETTINGS = {
    "early stopping": Setting(lambda: [patient()]),
    "early stopping within epochs": Setting(lambda: [patient()], options=now_and_then),
    "early stopping that ends it": Setting(lambda: [patient(patience=1, min_delta=9.0)]),
    "plateau": Setting(list, plateau),
    "plateau, validated within epochs": Setting(list, plateau, now_and_then),
    "plateau and early stopping": Setting(lambda: [patient()], plateau),
    "validation every other epoch": Setting(list, plateau, {"check_val_every_n_epoch": 2}),
    "stochastic weight averaging": Setting(
        lambda: [StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=2, annealing_epochs=3)]
    ),
    "weight averaging": Setting(lambda: [WeightAveraging()], options=now_and_then),
    "averaging of epochs": Setting(lambda: [EpochMeans()]),
    "moving average": Setting(lambda: [EMAWeightAveraging(decay=0.7)]),
    "corrected moving average": Setting(lambda: [MovingAverage(0.7, beside=True)]),
    "accumulation schedule": Setting(lambda: [GradientAccumulationScheduler({0: 1, 1: 2, 2: 3})]),
    "finetuning": Setting(lambda: [Thaw()]),
}


class Keeper(BestAndLastCheckpoint):
    """Every state of a run that a file may hold; each validation is the best so far."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: list[Path] = []

    def _is_better(self, score: float) -> bool:
        return True

    def _write(self, trainer, state, path) -> float:
        super()._write(trainer, state, path)
        self.copies.append(Path(shutil.copy(path, f"{path}.{len(self.copies)}")))
        return -math.inf


@contextmanager
def always_due() -> Iterator[None]:
    """Files are written whenever they may be, however long that takes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
        yield


def fit(name: str, root: Path, *callbacks, **options):
    setting = SETTINGS[name]
    options = {"max_epochs": EPOCHS, **setting.options, **options}
    return run(setting.case, root, callbacks=[*setting.callbacks(), *callbacks], **options)


def assert_goes_on(whole, resumed) -> None:
    assert resumed.error is None
    assert_equal_weights(whole, resumed)
    assert resumed.trainer.global_step == whole.trainer.global_step
    rates = [run.trainer.optimizers[0].param_groups[0]["lr"] for run in (whole, resumed)]
    assert rates[0] == rates[1]
    if resumed.recorder.metrics:
        assert whole.recorder.metrics[-len(resumed.recorder.metrics) :] == resumed.recorder.metrics


def some(copies: list[Path]) -> list[Path]:
    """One after another place of an epoch, its end among them, and one of the best."""
    kinds = {kind: [c for c in copies if c.name.startswith(kind)] for kind in ("best", "last")}
    return kinds["last"][::5] + kinds["best"][-1:]


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model")
@pytest.mark.parametrize("every", [False, pytest.param(True, marks=pytest.mark.long)])
@pytest.mark.parametrize("name", SETTINGS)
def test_from_every_file_that_a_killed_run_may_leave(name, every, tmp_path):
    whole, keeper = fit(name, tmp_path), Keeper()
    # Only this schedule depends on the length of the run, the others may be prolonged.
    fixed = name == "stochastic weight averaging"
    with always_due():
        part = fit(name, tmp_path, keeper, max_epochs=EPOCHS if fixed else EPOCHS - 1)
    assert whole.error is part.error is None
    kinds = [copy.name.split(".")[0] for copy in keeper.copies]
    assert kinds.count("best") >= (1 if "every other" in name else 2)
    assert kinds.count("last") >= 10  # each step, and the end of each epoch
    for copy in keeper.copies if every else some(keeper.copies):
        content = torch.load(copy, weights_only=True)
        if "trellis_result" in content:
            assert fixed
            resumed = fit(name, tmp_path, seed=99, ckpt_path=copy)
            assert "no run goes on from there" in str(resumed.error)
        else:
            resumed = fit(name, tmp_path, seed=99, ckpt_path=copy)
            assert_goes_on(whole, resumed)


STEP_HOOKS = [
    "on_train_batch_start", "on_before_zero_grad", "on_before_backward", "on_after_backward",
    "on_before_optimizer_step", "on_train_batch_end", "on_validation_start",
    "on_validation_batch_end", "on_validation_epoch_end", "on_validation_end",
    "on_train_epoch_end", "on_train_epoch_start", "on_save_checkpoint",
]  # fmt: skip


class PressTwice(L.Callback):
    """Ctrl-C twice in one hook, as soon as ``step`` steps are done."""

    def __init__(self, hook: str, step: int) -> None:
        self.step, self.pressed = step, False
        setattr(self, hook, self._press)

    def _press(self, trainer, *args) -> None:
        if trainer.global_step >= self.step and not self.pressed:
            self.pressed = True
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model")
@pytest.mark.parametrize(
    ("name", "hooks"),
    [
        ("plateau and early stopping", STEP_HOOKS),
        ("weight averaging", [hook for hook in STEP_HOOKS if "validation" in hook]),
    ],
)
def test_a_second_interrupt_leaves_a_state_that_the_run_passed_through(name, hooks, tmp_path):
    whole = fit(name, tmp_path)
    keeper = Keeper()
    with always_due():
        fit(name, tmp_path, keeper)
    states = [torch.load(copy, weights_only=True) for copy in keeper.copies]
    for hook in hooks:
        with always_due():
            stopped = fit(name, tmp_path, PressTwice(hook, 3))
        assert isinstance(stopped.error, SystemExit), hook
        left = torch.load(stopped.last, weights_only=True)
        assert any(_same(left["state_dict"], state["state_dict"]) for state in states), hook
        assert_goes_on(whole, fit(name, tmp_path, seed=99, ckpt_path=stopped.last))


def _same(a: dict, b: dict) -> bool:
    return all(torch.equal(a[name], b[name]) for name in a)


class PressOnce(PressTwice):
    """Ctrl-C once."""

    def _press(self, trainer, *args) -> None:
        if trainer.global_step >= self.step and not self.pressed:
            self.pressed = True
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("hook", ["on_before_backward", "on_validation_start"])
@pytest.mark.parametrize("step", [4, 5])  # the last batch of an epoch and the first
def test_one_interrupt_waits_for_all_that_follows_the_step(step, hook, tmp_path):
    name = "plateau and early stopping"
    whole = fit(name, tmp_path)
    stopped = fit(name, tmp_path, PressOnce(hook, step))
    assert isinstance(stopped.error, SystemExit)
    assert_goes_on(whole, fit(name, tmp_path, seed=99, ckpt_path=stopped.last))


def test_a_run_that_early_stopping_ended_is_over(tmp_path, caplog):
    name = "early stopping that ends it"
    ended = fit(name, tmp_path)
    assert ended.trainer.global_step == 10
    resumed = fit(name, tmp_path, ckpt_path=ended.last, max_epochs=9)
    assert_goes_on(ended, resumed)
    assert "Early stopping on val/loss has ended this run" in caplog.text


def test_pruning_is_refused(tmp_path):
    name = "early stopping"
    stopped = fit(name, tmp_path, max_epochs=1)
    pruning = ModelPruning("l1_unstructured", amount=0.5)
    resumed = fit(name, tmp_path, pruning, ckpt_path=stopped.last)
    assert "does not hold the masks of ModelPruning" in str(resumed.error)


class Dice(L.Callback):
    """What Python, NumPy and torch draw in each step."""

    def __init__(self) -> None:
        self.thrown: list[tuple[float, float, float]] = []

    def on_before_backward(self, *args) -> None:
        self.thrown.append((random.random(), float(np.random.rand()), float(torch.rand(()))))


@pytest.mark.parametrize("step", [4, 5])  # within an epoch and at the end of one
def test_the_generators_of_python_numpy_and_torch_go_on(step, tmp_path):
    name, whole, before, after = "early stopping", Dice(), Dice(), Dice()
    fit(name, tmp_path, whole)
    stopped = fit(name, tmp_path, before, PressOnce("on_before_zero_grad", step))
    fit(name, tmp_path, after, seed=99, ckpt_path=stopped.last)
    assert before.thrown + after.thrown == whole.thrown
