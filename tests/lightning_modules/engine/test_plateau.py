"""``ReduceLROnPlateau`` by either name, however often a run validates."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import Points, mlp, quiet_trainer
from lightning.pytorch.cli import ReduceLROnPlateau
from torch.optim import lr_scheduler

from trellis.lightning_modules import cli
from trellis.lightning_modules.vector import Classification

# Nothing is ever so much better: every validation after the first is a plateau.
HALVE = {"patience": 0, "factor": 0.5, "threshold": 1e6, "threshold_mode": "abs"}
TORCHS = partial(lr_scheduler.ReduceLROnPlateau, **HALVE)
LIGHTNINGS = partial(ReduceLROnPlateau, monitor="val/accuracy", mode="max", **HALVE)


class Rates(L.Callback):
    """The learning rate at the end of each epoch."""

    def __init__(self) -> None:
        self.rates: list[float] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])


def rates(root: Path, scheduler: Any, **options: Any) -> list[float]:
    watch = Rates()
    objective = Classification(mlp, partial(torch.optim.SGD, lr=1.0), scheduler)
    quiet_trainer(root, max_epochs=5, callbacks=[watch], **options).fit(
        objective, datamodule=Points()
    )
    return watch.rates


@pytest.mark.parametrize("scheduler", [TORCHS, LIGHTNINGS], ids=["torch", "lightning"])
def test_the_rate_falls_when_a_validation_is_no_better(scheduler: Any, tmp_path: Path) -> None:
    assert rates(tmp_path, scheduler)[-1] < 0.5


def test_it_steps_only_where_there_is_a_new_value(tmp_path: Path) -> None:
    seldom = rates(tmp_path, TORCHS, check_val_every_n_epoch=2)
    assert seldom[-1] == pytest.approx(0.5, abs=0.01), "two validations in five epochs"
    rates(tmp_path, TORCHS, val_check_interval=2)
    rates(tmp_path, TORCHS, val_check_interval=7, check_val_every_n_epoch=None)


def test_without_a_validation_it_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="ReduceLROnPlateau waits for val/loss.*not validate"):
        rates(tmp_path, TORCHS, limit_val_batches=0)


def test_its_short_name_is_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cli.main(["fit", "--model=NodeClassification", "--data=KarateClub", "--trainer.max_epochs=2",
              "--model.lr_scheduler=ReduceLROnPlateau", "--model.lr_scheduler.monitor=val/loss",
              "--trainer.enable_progress_bar=false"])  # fmt: skip
    (text,) = [path.read_text() for path in tmp_path.rglob("config.yaml")]
    assert "lightning.pytorch.cli.ReduceLROnPlateau" in text
