"""A run stops before NaN reaches its weights, and says where it came from."""

import math
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import lightning as L
import pytest
import torch
from learning_cases import Points, mlp, quiet_trainer
from torch import nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.engine import checkpointing
from trellis.lightning_modules.engine.finite_guard import FiniteGuard
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.vector.mlp import MLP
from trellis.spec import TensorSpec

torch.set_num_threads(1)


class Poison(L.Callback):
    """Puts ``value`` into one gradient at one step."""

    def __init__(self, value: float, step: int = 3) -> None:
        self.value, self.step = value, step

    def on_before_optimizer_step(self, trainer, pl_module, optimizer) -> None:
        if trainer.global_step == self.step:
            pl_module.network.layers[0].weight.grad[1, 2] = self.value


def trainer_in(root, *callbacks, **options) -> Trainer:
    return Trainer(
        default_root_dir=root, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=list(callbacks), max_epochs=1,
        num_sanity_val_steps=0, **options,
    )  # fmt: skip


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_the_run_stops_at_the_step_and_can_be_resumed(value, tmp_path, monkeypatch):
    monkeypatch.setattr(checkpointing, "_is_due", lambda time_allowed, trainer: True)
    trainer = trainer_in(tmp_path, Poison(value))
    with pytest.raises(
        FloatingPointError, match=r"step 3:.*not finite in network.layers.0.weight"
    ):
        trainer.fit(Classification(), datamodule=Digits())
    last = Path(trainer.checkpoint_callback.last_model_path)
    content = torch.load(last, weights_only=True)
    assert content["global_step"] == 3
    assert all(weight.isfinite().all() for weight in content["state_dict"].values())
    resumed = trainer_in(tmp_path)
    resumed.fit(Classification(), datamodule=Digits(), ckpt_path=last)
    assert resumed.global_step == 41  # 1,297 examples in batches of 32


def test_large_gradients_are_finite(tmp_path):
    # The sum of their squares is not.
    trainer = trainer_in(tmp_path, Poison(1e30), limit_train_batches=4)
    trainer.fit(Classification(), datamodule=Digits())
    assert trainer.global_step == 4


class BrokenWeight(L.Callback):
    """Puts NaN into one weight before one step."""

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx) -> None:
        if trainer.global_step == 2:
            with torch.no_grad():
                pl_module.network.layers[0].weight[1, 2] = math.nan


def test_weights_that_are_broken_already_are_named(tmp_path):
    with pytest.raises(
        FloatingPointError, match=r"step 2:.*, nor are the weights of network.layers.0.weight;"
    ):
        trainer_in(tmp_path, BrokenWeight()).fit(Classification(), datamodule=Digits())


class NanFeatures(DataModule):
    """A feature that is missing in one example."""

    def __init__(self, split: str) -> None:
        super().__init__()
        self.split, self.spec = split, TensorSpec(4, 2)

    def loader(self, split: str):
        x = torch.randn(8, 4, generator=torch.Generator().manual_seed(0))
        if split == self.split:
            x[5, 1] = math.nan
        return tensor_loader(x, torch.arange(8) % 2, batch_size=8, train=split == "train")


def test_nan_features_in_training_name_the_parameters(tmp_path):
    with pytest.raises(FloatingPointError, match="step 0:.*network.layers.0.weight.*and 1 more"):
        trainer_in(tmp_path).fit(Classification(), datamodule=NanFeatures("train"))
    assert not list(tmp_path.rglob("*.ckpt"))


def test_nan_features_in_validation_are_seen_and_never_the_best(tmp_path):
    trainer = trainer_in(tmp_path)
    trainer.fit(Classification(), datamodule=NanFeatures("val"))
    assert math.isnan(trainer.callback_metrics["val/loss"])
    assert trainer.checkpoint_callback.best_model_path == ""


class Embedding(nn.Module):
    """A lookup with sparse gradients, and a part that nothing uses."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(17, out_channels, sparse=True)
        self.unused = nn.Linear(in_channels, out_channels)

    def forward(self, x):
        return self.embedding((x * 16).long()).sum(1)


def test_sparse_gradients_and_unused_parameters(tmp_path):
    objective = Classification(Embedding, partial(torch.optim.SGD, lr=0.1))
    trainer = trainer_in(tmp_path, limit_train_batches=3)
    trainer.fit(objective, datamodule=Digits())
    assert trainer.global_step == 3


class Fake:
    """As much of a trainer as the guard looks at."""

    precision_plugin = strategy = None
    global_step = 0


def test_on_an_accelerator_it_is_read_now_and_then(monkeypatch):
    module = MLP(3, 2, hidden_channels=())
    optimizer, guard, trainer = torch.optim.SGD(module.parameters()), FiniteGuard(5), Fake()

    def step(number: int, value: float) -> None:
        trainer.global_step = number
        for parameter in module.parameters():
            parameter.grad = torch.full_like(parameter, value)
        guard.on_before_optimizer_step(trainer, module, optimizer)

    monkeypatch.setattr(FiniteGuard, "_on_cpu", staticmethod(lambda tensor: False))
    step(1, 1.0)
    step(2, math.nan)
    step(3, 1.0)
    with pytest.raises(FloatingPointError, match="step 3"):
        guard.on_save_checkpoint(trainer, module, {})
    guard.on_save_checkpoint(trainer, module, {})  # read once
    step(4, math.nan)
    with pytest.raises(FloatingPointError, match="step 5"):
        step(5, 1.0)


def test_a_gradient_scaler_does_this_itself():
    module, trainer, guard = MLP(3, 2), Fake(), FiniteGuard()
    trainer.precision_plugin = type("Mixed", (), {"scaler": object()})()
    for parameter in module.parameters():
        parameter.grad = torch.full_like(parameter, math.inf)
    guard.on_before_optimizer_step(trainer, module, torch.optim.SGD(module.parameters()))
    assert guard._total is None, "nothing gathered, and nothing was raised"


@pytest.mark.parametrize("written", [True, False])
@pytest.mark.parametrize(
    "optimizer",
    [
        partial(torch.optim.SGD, lr=1e20, weight_decay=1e20),
        partial(torch.optim.Adam, lr=float("inf")),
    ],
    ids=["decay", "infinite"],
)
def test_what_the_step_itself_breaks_is_never_written(optimizer, written, tmp_path):
    """Nor is it the end of a run that writes nothing."""
    options = {"limit_val_batches": 0, "enable_checkpointing": written}
    trainer = quiet_trainer(tmp_path, max_steps=1, **options)
    with pytest.raises(FloatingPointError, match="became NaN or infinite in the step itself"):
        trainer.fit(Classification(mlp, optimizer), datamodule=Points())
    assert not list(tmp_path.rglob("*.ckpt"))


def test_running_statistics_are_looked_at_too(tmp_path):
    class Normalized(nn.Module):
        def __init__(self, in_channels: int, out_channels: int) -> None:
            super().__init__()
            self.layers = nn.Sequential(nn.BatchNorm1d(in_channels), nn.Linear(6, out_channels))

        def forward(self, x):
            if self.training:
                self.layers[0].running_mean.fill_(math.nan)
            return self.layers(x)

    trainer = quiet_trainer(tmp_path, max_steps=1, limit_val_batches=0)
    with pytest.raises(FloatingPointError, match="running_mean became NaN"):
        trainer.fit(Classification(Normalized), datamodule=Points())


def validated(guard: FiniteGuard, *scores: float, mode: str = "min") -> None:
    """Validations of one run that ended with these scores."""
    module = SimpleNamespace(monitor="val/loss", monitor_mode=mode)
    for score in scores:
        metrics = {"val/loss": torch.tensor(score)}
        trainer = SimpleNamespace(callback_metrics=metrics, sanity_checking=False, global_step=7)
        guard.on_validation_end(trainer, module)


def test_a_run_that_diverges_does_not_end_well():
    guard = FiniteGuard()
    validated(guard, 0.7, 5.0, 1e5, 0.6)  # a bad start is not the end
    validated(guard, 1e9, mode="max")
    with pytest.raises(FloatingPointError, match="step 7.*diverged.*from 0.7 to 2.5e"):
        validated(guard, 2.5e20)


@pytest.mark.parametrize("scores", [(1e-9, 0.5), (-100.0, 5e6), (0.0, 9e5)])
def test_a_small_or_negative_first_score_is_no_divergence(scores):
    validated(FiniteGuard(), *scores)
    with pytest.raises(FloatingPointError, match="diverged"):
        validated(FiniteGuard(), scores[0], 2e8)


def test_each_run_has_a_first_score_of_its_own():
    guard = FiniteGuard()
    validated(guard, 0.7)
    guard.on_fit_start(Fake(), nn.Module())
    validated(guard, 1e9, 2e9)
    with pytest.raises(FloatingPointError, match="diverged.*from 1e"):
        validated(guard, 1e16)


def test_the_sum_of_finite_half_precision_gradients_does_not_overflow():
    weight = nn.Parameter(torch.zeros(4, dtype=torch.float16))
    weight.grad = torch.full((4,), 6e4, dtype=torch.float16)
    guard, optimizer = FiniteGuard(), torch.optim.SGD([weight], lr=0.1)
    guard.on_before_optimizer_step(Fake(), nn.ParameterList([weight]), optimizer)
    weight.grad[1] = math.inf
    with pytest.raises(FloatingPointError, match="not finite"):
        guard.on_before_optimizer_step(Fake(), nn.ParameterList([weight]), optimizer)
