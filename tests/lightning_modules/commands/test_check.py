"""The health card: healthy runs pass, and faults that were put into one are named."""

import math
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from config_cases import CONFIGS, NAMES, parsed
from learning_cases import Points, mlp
from torch import nn

from trellis.lightning_modules.commands import check
from trellis.lightning_modules.commands.check import Card
from trellis.lightning_modules.commands.check_steps import Finding, expected_loss
from trellis.lightning_modules.engine.trainer import Trainer
from trellis.lightning_modules.vector.classification import Classification


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(check, "STEPS", 80)
    monkeypatch.setattr(check, "TRIES", 20)


def card(objective: Any, data: Any = Points) -> dict[str, Finding]:
    """Findings about an objective, given by its factory, by what was looked at."""

    def make(words: Any) -> SimpleNamespace:
        torch.manual_seed(0)
        given = [word.removeprefix("--trainer.").split("=") for word in words]
        options = {name: yaml.safe_load(value) for name, value in given}
        trainer = Trainer(accelerator="cpu", **options)
        return SimpleNamespace(trainer=trainer, model=objective(), datamodule=data())

    return {finding.what: finding for finding in Card([], make).findings()}


def learner(network: Any = mlp, lr: float = 0.01, cls: Any = Classification) -> Any:
    return partial(cls, network, partial(torch.optim.Adam, lr=lr))


def test_a_healthy_objective_passes() -> None:
    found = card(learner())
    assert {finding.verdict for finding in found.values()} == {"ok"}
    assert list(found) == [
        "loss at the start", "inputs", "gradients", "dead units", "activations", "updates",
        "cost", "gradient check", "one batch", "evaluation", "learning rate",
    ]  # fmt: skip


def test_cost_counts_parameters_and_the_operations_of_a_step() -> None:
    def layer(in_channels: int, out_channels: int) -> nn.Module:
        return nn.Linear(in_channels, out_channels)

    # Two products of [8, 6] and [6, 3]: the layer, and the gradient of its weights.
    seen = card(learner(layer))["cost"].seen
    assert seen.startswith(f"21 parameters; a step {2 * 2 * 8 * 6 * 3 / 1e9:.3g} GFLOP")


class WrongSign(Classification):
    def training_step(self, batch, batch_idx):
        return -super().training_step(batch, batch_idx)


class NeverZeroed(Classification):
    def optimizer_zero_grad(self, epoch, batch_idx, optimizer):
        """Nothing."""


class Unpaired(Classification):
    """Labels of other examples, others in each step."""

    def training_step(self, batch, batch_idx):
        x, y = batch
        return super().training_step((x, torch.randint_like(y, 2)), batch_idx)


class Scaled(Points):
    def __init__(self) -> None:
        super().__init__()
        self.x = 1000 * self.x + 500


class Network(nn.Module):
    """An MLP with a fault."""

    def __init__(self, in_channels: int, out_channels: int, fault: str) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(in_channels, 32), nn.Linear(32, out_channels)
        self.middle, self.activation, self.fault = nn.Linear(32, 32), nn.ReLU(), fault
        if fault == "dead":
            nn.init.constant_(self.middle.bias, -100.0)
        if fault == "frozen":
            self.first.requires_grad_(False)
        if fault == "saturated":
            self.activation = nn.Tanh()
            nn.init.normal_(self.first.weight, std=50.0)
        if fault == "large":
            nn.init.normal_(self.last.weight, std=30.0)

    def forward(self, x):
        x = self.activation(self.first(x))
        if self.fault == "detached":
            x = x.detach()
        x = self.last(self.activation(self.middle(x)))
        return x.softmax(-1) if self.fault == "softmax" else x


def faulty(fault: str) -> Any:
    return learner(partial(Network, fault=fault))


FAULTS = {
    "wrong sign": (learner(cls=WrongSign), Points, "one batch|evaluation"),
    "frozen layer": (faulty("frozen"), Points, "gradients"),
    "dead ReLU": (faulty("dead"), Points, "dead units|gradients"),
    "unscaled input": (learner(), Scaled, "inputs"),
    "missing zero_grad": (learner(cls=NeverZeroed), Points, "zero_grad"),
    "labels of others": (learner(cls=Unpaired), Points, "one batch"),
    "detached": (faulty("detached"), Points, "gradients"),
    "saturated": (faulty("saturated"), Points, "activations"),
    "large last layer": (faulty("large"), Points, "loss at the start"),
    "rate far too high": (learner(lr=30.0), Points, "updates"),
    "two softmaxes": (faulty("softmax"), Points, "one batch"),
}


# Each takes a second or two: three in `make test`, the others in `make test-all`.
QUICK = ("wrong sign", "detached", "missing zero_grad")


@pytest.mark.parametrize(
    "fault",
    [pytest.param(f, marks=[] if f in QUICK else pytest.mark.long) for f in FAULTS],
)
def test_a_fault_is_named(fault: str) -> None:
    objective, data, where = FAULTS[fault]
    found = card(objective, data)
    named = [what for what, finding in found.items() if finding.verdict != "ok"]
    assert set(named) & set(where.split("|")), {
        w: f"{f.verdict} {f.seen}" for w, f in found.items()
    }


def test_parameters_without_a_gradient_are_named() -> None:
    assert "network.first.weight" in card(faulty("detached"))["gradients"].seen
    assert "network.first.weight" in card(faulty("frozen"))["gradients"].seen


def test_expected_losses_are_entropies_of_uniform_classes() -> None:
    objective = Classification(mlp, spec=Points().spec)
    assert expected_loss(objective) == pytest.approx(math.log(Points().spec.out_channels))
    assert expected_loss(nn.Linear(1, 1)) is None


@pytest.mark.long
def test_a_config_from_the_command_line(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("trellis.lightning_modules.commands.check_runs.SECONDS", 2.0)
    check.main(["check", "gcn_digits", "--picture", "rates.png"])
    printed = capsys.readouterr().out
    assert "FAIL" not in printed
    assert "equally probable: 2.303" in printed
    assert (tmp_path / "rates.png").stat().st_size > 1000
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"]


@pytest.mark.long
@pytest.mark.data
@pytest.mark.parametrize("path", CONFIGS, ids=NAMES)
def test_every_config_is_healthy(path, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("trellis.lightning_modules.commands.check_runs.SECONDS", 4.0)
    found = list(Card([], lambda words: parsed(path, tmp_path, *words)).findings())
    assert not [finding for finding in found if finding.verdict == "FAIL"]


def test_a_failure_is_the_exit_code(monkeypatch, capsys) -> None:
    monkeypatch.setattr(Card, "findings", lambda self: iter([Finding("FAIL", "inputs", "large")]))
    with pytest.raises(SystemExit) as ended:
        check.main(["check", "gcn_digits"])
    assert ended.value.code == 1
    assert capsys.readouterr().out.split() == ["FAIL", "inputs", "large"]
