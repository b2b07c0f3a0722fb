"""Runs with callbacks and schedules that remember: resumed from any file, they go on bit-equal."""

import math
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import lightning as L
import pytest
import torch
from learning_cases import CASES, Case, Points, adam, assert_equal_weights, mlp, run
from lightning.pytorch.callbacks import (
    BaseFinetuning,
    EarlyStopping,
    EMAWeightAveraging,
    GradientAccumulationScheduler,
    StochasticWeightAveraging,
    WeightAveraging,
)
from lightning.pytorch.cli import ReduceLROnPlateau

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


@pytest.fixture
def always_due(monkeypatch) -> None:
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)


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


@pytest.mark.filterwarnings("ignore:You're using the WeightAveraging callback with a model")
@pytest.mark.parametrize("name", SETTINGS)
def test_from_every_file_that_a_killed_run_may_leave(name, tmp_path, always_due):
    whole, keeper = fit(name, tmp_path), Keeper()
    # Only this schedule depends on the length of the run, the others may be prolonged.
    fixed = name == "stochastic weight averaging"
    part = fit(name, tmp_path, keeper, max_epochs=EPOCHS if fixed else EPOCHS - 1)
    assert whole.error is part.error is None
    kinds = [copy.name.split(".")[0] for copy in keeper.copies]
    assert kinds.count("best") >= 2
    assert kinds.count("last") >= 10  # each step, and the end of each epoch
    for copy in keeper.copies:
        content = torch.load(copy, weights_only=True)
        if "trellis_result" in content:
            assert fixed
            resumed = fit(name, tmp_path, seed=99, ckpt_path=copy)
            assert "no run goes on from there" in str(resumed.error)
        else:
            resumed = fit(name, tmp_path, seed=99, ckpt_path=copy)
            assert_goes_on(whole, resumed)
