"""Schedules against torch's own and the formulae of the papers."""

import math
from functools import partial
from typing import Any

import lightning as L
import pytest
import torch
from torch import nn
from torch.optim.lr_scheduler import CosineAnnealingLR, LambdaLR

from trellis.datamodules.engine.base import tensor_loader
from trellis.lightning_modules.vector.classification import Classification
from trellis.networks.vector.mlp import MLP
from trellis.optim.schedule import Decay, Schedule
from trellis.spec import TensorSpec


def rates(scheduler: Any, steps: int) -> list[float]:
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr()[0])
        scheduler.optimizer.step()
        scheduler.step()
    return seen


def sgd(lr: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=lr)


def test_cosine_without_warm_up_is_torchs() -> None:
    ours = rates(Schedule(sgd(), total_steps=20, final=0.1), 20)
    torchs = rates(CosineAnnealingLR(sgd(), T_max=20, eta_min=0.05), 20)
    assert ours == pytest.approx(torchs)


def test_inverse_square_root_is_the_transformers() -> None:
    """Vaswani et al. 2017, equation 3, counts steps from 1; its factor d^-.5 is the peak's."""
    width, warmup = 256, 8
    paper = LambdaLR(
        sgd(1.0), lambda k: width**-0.5 * min((k + 1) ** -0.5, (k + 1) * warmup**-1.5)
    )
    ours = Schedule(sgd((width * warmup) ** -0.5), warmup, "inverse_sqrt")
    expected, seen = rates(paper, 30), rates(ours, 30)
    assert seen[:warmup] == pytest.approx(expected[:warmup])
    # Ours holds the peak for one step more: it counts the decay from there.
    assert seen[warmup + 1 :] == pytest.approx(expected[warmup:-1])


def test_linear_falls_by_equal_steps_to_its_final_share() -> None:
    seen = rates(Schedule(sgd(1.0), 2, "linear", total_steps=6, final=0.2), 8)
    assert seen == pytest.approx([0.5, 1, 1, 0.8, 0.6, 0.4, 0.2, 0.2])


def test_constant_stays() -> None:
    assert rates(Schedule(sgd(1.0), 2, "constant"), 4) == pytest.approx([0.5, 1, 1, 1])


def test_groups_keep_their_own_peaks() -> None:
    a, b = nn.Parameter(torch.zeros(1)), nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([{"params": [a], "lr": 1.0}, {"params": [b], "lr": 2.0}])
    assert Schedule(optimizer, 4).get_last_lr() == [0.25, 0.5]


def test_state_continues_but_the_end_is_that_of_the_new_run() -> None:
    first = Schedule(sgd(), 2, total_steps=10)
    rates(first, 5)
    second = Schedule(sgd(), 2, total_steps=20)
    second.load_state_dict(first.state_dict())
    assert second.last_epoch == 5
    assert second.factor(5) == pytest.approx((1 + math.cos(math.pi * 3 / 18)) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": -1}, "warmup_steps=-1"),
        ({"decay": "cubic"}, "decay='cubic': choose from"),
        ({"decay": "inverse_sqrt"}, "inverse_sqrt follows a warm-up"),
        ({"final": 1.5}, "final=1.5"),
        (
            {"warmup_steps": 5, "total_steps": 5},
            "total_steps=5: give at least 6, or the run ends within",
        ),
    ],
)
def test_bad_numbers_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Schedule(sgd(), **options)


def test_a_decay_without_an_end_is_refused_when_it_begins() -> None:
    schedule = Schedule(sgd(), 1)
    with pytest.raises(ValueError, match="total_steps is needed"):
        rates(schedule, 4)


class Rates(L.Callback):
    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_train_batch_start(self, trainer: L.Trainer, *args: Any) -> None:
        self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])


@pytest.mark.parametrize(("decay", "stepwise"), [("linear", True), (None, False)])
def test_an_objective_steps_a_schedule_each_step_and_others_each_epoch(
    decay: Decay | None, stepwise: bool, tmp_path: Any
) -> None:
    scheduler: Any = partial(torch.optim.lr_scheduler.ExponentialLR, gamma=0.5)
    if decay:
        scheduler = partial(Schedule, warmup_steps=1, decay=decay)
    model = Classification(MLP, partial(torch.optim.SGD, lr=1.0), scheduler, TensorSpec(2, 2))
    batches = tensor_loader(torch.randn(12, 2), torch.arange(12) % 2, batch_size=4, train=True)
    seen = Rates()
    trainer = L.Trainer(
        max_epochs=2,
        callbacks=[seen],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        accelerator="cpu",
    )
    trainer.fit(model, batches, batches)
    expected = [1, 1, 0.8, 0.6, 0.4, 0.2] if stepwise else [1, 1, 1, 0.5, 0.5, 0.5]
    assert seen.seen == pytest.approx(expected)
