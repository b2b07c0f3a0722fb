"""The average of the weights is that of its formula, and stands where it is said to."""

from functools import partial
from pathlib import Path

import lightning as L
import pytest
import torch
from learning_cases import Points
from torch import Tensor, nn
from torch.optim import Adam

from trellis.lightning_modules.callbacks import MovingAverage
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification

DECAY = 0.9


class Table(nn.Module):
    """A linear layer after batch norm, with a table of large integers."""

    table: Tensor

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(in_channels)
        self.linear = nn.Linear(in_channels, out_channels)
        self.register_buffer("table", torch.tensor([2**30 + 1]))

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(self.norm(x))


class Weights(L.Callback):
    """The weights after every step, and the metrics of every validation."""

    def __init__(self) -> None:
        self.seen: list[Tensor] = []
        self.metrics: list[dict[str, float]] = []

    def on_train_batch_end(self, trainer, pl_module, *args) -> None:
        self.seen.append(pl_module.network.linear.weight.detach().clone())

    def on_validation_end(self, trainer, pl_module) -> None:
        found = trainer.callback_metrics.items()
        self.metrics.append({name: float(value) for name, value in found if "val/" in name})


def fit(root: Path, *callbacks: L.Callback):
    L.seed_everything(0, verbose=False)
    weights = Weights()
    trainer = Trainer(
        default_root_dir=root, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, max_epochs=2, callbacks=[*callbacks, weights],
        num_sanity_val_steps=0,
    )  # fmt: skip
    model = Classification(Table, partial(Adam, lr=0.1))
    trainer.fit(model, datamodule=Points())
    return model, trainer, weights


def test_it_is_adams_corrected_mean_of_the_weights_of_all_steps(tmp_path: Path) -> None:
    model, _, weights = fit(tmp_path, MovingAverage(DECAY))
    # Adam's first moment, without its bias, is the same average of what it takes for gradients.
    mean = torch.zeros_like(weights.seen[0], requires_grad=True)
    adam = Adam([mean], betas=(DECAY, 0.999))
    for weight in weights.seen:
        mean.grad = weight
        adam.step()
    expected = adam.state[mean]["exp_avg"] / (1 - DECAY ** len(weights.seen))
    assert len(weights.seen) == 10
    torch.testing.assert_close(model.network.linear.weight.detach(), expected)
    assert int(model.network.table) == 2**30 + 1
    assert int(model.network.norm.num_batches_tracked) == 10


def test_training_is_as_without_it_and_its_metrics_are_reported_beside(tmp_path: Path) -> None:
    _, _, alone = fit(tmp_path / "alone")
    _, _, both = fit(tmp_path / "both", MovingAverage(DECAY, beside=True))
    assert all(map(torch.equal, alone.seen, both.seen))
    for expected, found in zip(alone.metrics, both.metrics, strict=True):
        for name, value in expected.items():
            assert found[name.replace("val/", "val/raw_")] == value
            assert found[name] != value or "accuracy" in name
        assert len(found) == 2 * len(expected)


def test_a_test_after_the_run_is_of_the_average(tmp_path: Path) -> None:
    model, trainer, _ = fit(tmp_path, MovingAverage(DECAY))
    average = model.network.linear.weight.detach().clone()
    (last,) = tmp_path.rglob("last.ckpt")
    assert torch.equal(torch.load(last)["state_dict"]["network.linear.weight"], average)
    nn.init.zeros_(model.network.linear.weight)
    trainer.test(model, datamodule=Points(), ckpt_path=last, verbose=False)
    assert torch.equal(model.network.linear.weight, average)
    nn.init.zeros_(model.network.linear.weight)
    trainer.validate(model, datamodule=Points(), ckpt_path=last, verbose=False)
    assert torch.equal(model.network.linear.weight, average)


@pytest.mark.parametrize("decay", [0.0, 1.0, -0.1])
def test_a_decay_of_all_or_nothing_is_refused(decay: float) -> None:
    with pytest.raises(ValueError, match=f"decay={decay}: give a number between 0 and 1"):
        MovingAverage(decay)
