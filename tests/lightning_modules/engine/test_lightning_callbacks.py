"""Each callback that ships with Lightning does to an objective what it does to a plain module.

``pytest -s`` prints the table of what was compared.
"""

import os
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from learning_cases import Points, mlp, quiet_trainer
from lightning.pytorch import callbacks as shipped
from lightning.pytorch.loggers.logger import DummyLogger
from torch import Tensor, nn

from trellis.datamodules.engine.base import tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.rl.dqn import DQN
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.vector.mlp import MLP

sgd = partial(torch.optim.SGD, lr=0.1)


class Plain(L.LightningModule):
    """What ``Classification`` does, written by hand, with its network built at once."""

    def __init__(self) -> None:
        super().__init__()
        self.network, self.lr = MLP(6, 3, hidden_channels=(8,), dropout=0.3), 0.1

    @property
    def backbone(self) -> nn.Module:
        return self.network.layers[0]

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return F.cross_entropy(self.network(batch[0]), batch[1])

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        loss = F.cross_entropy(self.network(batch[0]), batch[1])
        self.log("val/loss", loss, batch_size=len(batch[0]))

    def predict_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        return self.network(batch[0]).softmax(-1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Ours(Classification):
    """With the name that ``BackboneFinetuning`` looks for."""

    @property
    def backbone(self) -> nn.Module:
        return self.network.layers[0]


class Sized(Points):
    """Points in batches of a size that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.batch_size = 8

    def loader(self, split: str) -> Loader:
        return tensor_loader(self.x, self.y, batch_size=self.batch_size, train=split == "train")


class Memory(DummyLogger):
    """Remembers the names of what was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.names |= set(metrics)


class Ran(NamedTuple):
    trainer: Trainer
    module: Any
    callback: Any
    data: Sized
    logger: Memory


def fit(module: L.LightningModule, callback: L.Callback | None, root: Path, **options: Any) -> Ran:
    logger, data = Memory(), Sized()
    trainer = quiet_trainer(
        root, callbacks=[callback] if callback else [], logger=logger, log_every_n_steps=1,
        num_sanity_val_steps=0, **{"max_epochs": 4, **options},
    )  # fmt: skip
    try:
        trainer.fit(module, datamodule=data)
    except RuntimeError as error:
        if str(error) != "on purpose":
            raise
    return Ran(trainer, module, callback, data, logger)


def weights(ran: Ran) -> Any:
    return [parameter.tolist() for parameter in ran.module.network.parameters()]


def epochs(ran: Ran) -> Any:
    return ran.trainer.current_epoch, ran.trainer.global_step


def logged(ran: Ran) -> Any:
    own = ("val/", "train/", "epoch")
    return sorted(name for name in ran.logger.names if not name.startswith(own))


def files(ran: Ran) -> Any:
    return sorted(path.name for path in Path(ran.trainer.default_root_dir).rglob("*.ckpt"))


class Thaw(shipped.BaseFinetuning):
    def freeze_before_training(self, pl_module: L.LightningModule) -> None:
        self.freeze(pl_module.network.layers[0])

    def finetune_function(self, pl_module: L.LightningModule, epoch: int, optimizer: Any) -> None:
        if epoch == 2:
            self.unfreeze_and_add_param_group(pl_module.network.layers[0], optimizer, lr=0.1)


class Writer(shipped.BasePredictionWriter):
    def __init__(self) -> None:
        super().__init__("epoch")
        self.written: list[Any] = []

    def write_on_epoch_end(self, trainer, pl_module, predictions, batch_indices) -> None:
        self.written = [batch.tolist() for batch in predictions]


def predicted(ran: Ran) -> Any:
    ran.trainer.predict(ran.module, ran.data.val_dataloader())
    return ran.callback.written


class Counter(shipped.Callback):
    steps = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.steps += 1


class Bar(shipped.ProgressBar):
    shown = 0

    def on_train_batch_end(self, *args: Any) -> None:
        self.shown += 1


class Failing(shipped.OnExceptionCheckpoint):
    def on_train_batch_end(self, trainer: L.Trainer, *args: Any) -> None:
        if trainer.global_step == 3:
            raise RuntimeError("on purpose")


class Summary(shipped.ModelSummary):
    parameters = 0

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        Summary.parameters = 0
        super().on_fit_start(trainer, pl_module)

    @staticmethod
    def summarize(rows: Any, total_parameters: int, *sizes: Any, **options: Any) -> None:
        Summary.parameters = total_parameters


def calls() -> L.Callback:
    seen: list[int] = []
    callback = shipped.LambdaCallback(on_train_batch_end=lambda *args: seen.append(args[-1]))
    callback.seen = seen
    return callback


class Effect(NamedTuple):
    """What a callback is made with, what is compared, and whether a run without it differs."""

    make: Callable[[], L.Callback]
    observe: Callable[[Ran], Any]
    changes: bool = True
    options: dict[str, Any] = {}


def same(make: Callable[[], L.Callback], observe: Callable[[Ran], Any], **options: Any) -> Effect:
    return Effect(make, observe, False, options)


stopping = partial(shipped.EarlyStopping, "val/loss", min_delta=9.0, patience=1)
EFFECTS = {
    "BackboneFinetuning": Effect(partial(shipped.BackboneFinetuning, 2), weights),
    "BaseFinetuning": Effect(Thaw, weights),
    "BasePredictionWriter": same(Writer, predicted),
    "BatchSizeFinder": Effect(
        partial(shipped.BatchSizeFinder, init_val=4, max_trials=3, steps_per_trial=1),
        lambda ran: ran.data.batch_size,
    ),
    "Callback": same(Counter, lambda ran: ran.callback.steps),
    "Checkpoint": same(shipped.Checkpoint, files),
    "DeviceStatsMonitor": same(partial(shipped.DeviceStatsMonitor, cpu_stats=True), logged),
    "EMAWeightAveraging": Effect(partial(shipped.EMAWeightAveraging, decay=0.7), weights),
    "EarlyStopping": Effect(stopping, epochs),
    "GradientAccumulationScheduler": Effect(
        partial(shipped.GradientAccumulationScheduler, {0: 1, 1: 2}), weights
    ),
    "LambdaCallback": same(calls, lambda ran: ran.callback.seen),
    "LearningRateFinder": Effect(
        partial(shipped.LearningRateFinder, num_training_steps=20, min_lr=1e-3),
        lambda ran: (ran.module.lr, ran.trainer.optimizers[0].param_groups[0]["lr"], weights(ran)),
        True,
        {"max_epochs": 8},
    ),
    "LearningRateMonitor": same(shipped.LearningRateMonitor, logged),
    "ModelCheckpoint": same(
        partial(shipped.ModelCheckpoint, monitor="val/loss", filename="{epoch}"), files
    ),
    "ModelPruning": Effect(
        lambda: shipped.ModelPruning("l1_unstructured", amount=0.5), weights, True
    ),
    "ModelSummary": Effect(Summary, lambda ran: ran.callback and Summary.parameters),
    "OnExceptionCheckpoint": same(
        partial(Failing, dirpath=".", filename="failed"),
        lambda ran: torch.load("failed.ckpt", weights_only=True)["global_step"],
    ),
    "ProgressBar": same(Bar, lambda ran: ran.callback.shown, enable_progress_bar=True),
    "RichModelSummary": same(lambda: shipped.RichModelSummary(), epochs),
    "RichProgressBar": same(lambda: shipped.RichProgressBar(), epochs),
    "SpikeDetection": same(lambda: shipped.SpikeDetection(warmup=1), epochs),
    "StochasticWeightAveraging": Effect(
        partial(shipped.StochasticWeightAveraging, swa_lrs=0.05, swa_epoch_start=1), weights
    ),
    "TQDMProgressBar": same(
        shipped.TQDMProgressBar, lambda ran: ran.callback.total_train_batches,
        enable_progress_bar=True,
    ),
    "ThroughputMonitor": same(
        partial(shipped.ThroughputMonitor, batch_size_fn=lambda batch: len(batch[0])), logged
    ),
    "Timer": Effect(partial(shipped.Timer, duration={"seconds": 0}), epochs),
    "WeightAveraging": Effect(shipped.WeightAveraging, weights),
}  # fmt: skip


# ``rich`` is no dependency of trellis.
REFUSED = set() if find_spec("rich") else {"RichModelSummary", "RichProgressBar"}


def outcome(make_module: Callable[[], Any], effect: Effect, root: Path, without: bool) -> Any:
    root.mkdir()
    os.chdir(root)
    L.seed_everything(0, verbose=False)
    module = make_module()
    try:
        callback = None if without else effect.make()
        return effect.observe(fit(module, callback, root, **effect.options))
    except Exception as error:  # noqa: BLE001 - a refusal is compared as well
        return f"{type(error).__name__}: {error}"


def test_every_callback_of_lightning_is_here() -> None:
    assert sorted(EFFECTS) == sorted(shipped.__all__)


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", EFFECTS)
def test_the_effect_is_that_on_a_plain_module(name: str, tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)  # and back, in the end
    effect = EFFECTS[name]
    plain = outcome(Plain, effect, tmp_path / "plain", without=False)
    ours = outcome(lambda: Ours(mlp, sgd), effect, tmp_path / "ours", without=False)
    print(f"{name:32}", ours if isinstance(ours, str) else "same effect")
    assert ours == plain
    assert isinstance(ours, str) == (name in REFUSED), ours
    if effect.changes:
        assert ours != outcome(lambda: Ours(mlp, sgd), effect, tmp_path / "without", without=True)


def test_the_learning_rate_finder_is_refused_where_it_would_see_no_loss(tmp_path) -> None:
    with pytest.raises(ValueError, match="LearningRateFinder: DQN makes its own steps"):
        fit(DQN(), shipped.LearningRateFinder(), tmp_path)


def test_the_learning_rate_is_that_of_the_optimizer() -> None:
    ours = Classification(mlp, sgd)
    assert ours.lr == 0.1
    ours.lr = 0.5
    assert ours.optimizer([nn.Parameter(torch.zeros(1))]).param_groups[0]["lr"] == 0.5
    assert ours.hparams["optimizer"]["init_args"]["lr"] == 0.5
    assert Classification(mlp, torch.optim.Adam).lr == 1e-3
