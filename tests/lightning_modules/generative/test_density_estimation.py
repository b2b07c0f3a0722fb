"""Maximum likelihood: training, evaluation, samples, and what is refused."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import adam, quiet_trainer
from torch import Tensor, nn
from torch.distributions import Normal

import trellis
from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.generative.synthetic_densities import SyntheticDensities
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.networks.generative.flow_coupling import RealNVP
from trellis.networks.generative.made import MADE
from trellis.networks.image.cnn import SmallCNN
from trellis.spec import TensorSpec


class Gaussian(nn.Module):
    """Independent Gaussians, one set for each class: the best one is known."""

    def __init__(self, shape: tuple[int, ...], num_classes: int = 0) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.zeros(max(num_classes, 1), *shape))
        self.log_scale = nn.Parameter(torch.zeros(max(num_classes, 1), *shape))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        y = torch.zeros(len(x), dtype=torch.long) if y is None else y
        return Normal(self.mean[y], self.log_scale[y].exp()).log_prob(x).flatten(1).sum(1)

    def sample(self, num_samples: int, y: Tensor | None = None) -> Tensor:
        y = torch.zeros(num_samples, dtype=torch.long) if y is None else y
        return torch.normal(self.mean[y], self.log_scale[y].exp()).detach()


class Given(DataModule):
    """37 given examples and their labels, in batches of 8."""

    def __init__(self, x: Tensor, y: Tensor, spec: TensorSpec) -> None:
        super().__init__()
        self.x, self.y, self.spec = x, y, spec

    def loader(self, split: str) -> Loader:
        return tensor_loader(self.x, self.y, batch_size=8, train=split == "train")


def points() -> Given:
    y = torch.arange(37) % 2
    noise = torch.randn(37, 3, generator=torch.Generator().manual_seed(0))
    x = torch.tensor([[3.0, 0, -1], [-3, 1, 1]])[y] + torch.tensor([0.2, 1.0, 2.0]) * noise
    return Given(x, y, TensorSpec(3, 2))


def bits(values: Any = "binary") -> Given:
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(2, (37, 1, 2, 3), generator=generator).float()
    return Given(x, torch.arange(37) % 3, TensorSpec(1, 3, (2, 3), values=values))


def best(x: Tensor) -> float:
    """Nats of the best Gaussians: those with the mean and the standard deviation of the data."""
    deviation = x.std(0, correction=0)
    return float((deviation.log() + 0.5 * math.log(2 * math.pi * math.e)).sum())


def fitted(
    network: Any, data: DataModule, root: Path, epochs: int = 1, lr: float = 0.05, **options: Any
) -> tuple[DensityEstimation, dict[str, float]]:
    """The objective in evaluation mode, and its metrics of validation and test."""
    L.seed_everything(0, verbose=False)
    objective = DensityEstimation(network, partial(torch.optim.Adam, lr=lr), **options)
    trainer = quiet_trainer(root, max_epochs=epochs, enable_checkpointing=False)
    trainer.fit(objective, datamodule=data)
    objective.eval()
    [validated] = trainer.validate(objective, datamodule=data, verbose=False)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    return objective, {**validated, **tested}


@pytest.mark.parametrize("conditional", [False, True])
def test_training_reaches_the_best_likelihood(conditional: bool, tmp_path: Path) -> None:
    data = points()
    _, metrics = fitted(Gaussian, data, tmp_path, epochs=40, conditional=conditional)
    if conditional:
        shares = [float((data.y == c).float().mean()) for c in (0, 1)]
        bound = sum(s * best(data.x[data.y == c]) for c, s in enumerate(shares))
        assert bound < best(data.x) - 1, "labels tell much"
    else:
        bound = best(data.x)
    assert bound - 1e-4 < metrics["val/nll_nats"] < bound + 0.1
    assert metrics.keys() == {"val/nll_nats", "test/nll_nats"}


def test_moons_are_learnt_no_better_than_their_entropy(tmp_path: Path) -> None:
    """A Gaussian ends at the entropy of one with the moons' standard deviations, far above."""
    data = SyntheticDensities("moons", num_train=4000, num_val=1000, num_test=20_000)
    _, metrics = fitted(Gaussian, data, tmp_path, epochs=4)
    x = torch.cat([x for x, _ in data.test_dataloader()])
    assert metrics["test/nll_nats"] == pytest.approx(best(x), abs=0.03)
    assert metrics["test/nll_nats"] > data.entropy() + 0.8


def test_a_flow_comes_near_the_entropy_that_a_gaussian_misses(tmp_path: Path) -> None:
    data = SyntheticDensities(
        "moons", num_train=12_500, num_val=500, num_test=10_000, batch_size=250
    )
    flow = partial(RealNVP, num_transforms=6, hidden_channels=(32,))
    _, metrics = fitted(flow, data, tmp_path, epochs=3, lr=0.005)
    x = torch.cat([x for x, _ in data.test_dataloader()])
    assert -data.log_prob(x).mean() - 0.02 < metrics["test/nll_nats"] < best(x) - 0.2


@pytest.mark.parametrize("conditional", [False, True])
def test_made_is_reported_in_nats_and_bits(conditional: bool, tmp_path: Path) -> None:
    data = bits()
    made = partial(MADE, hidden_channels=(16,))
    objective, metrics = fitted(made, data, tmp_path, conditional=conditional)
    labels = (data.y,) if conditional else ()
    with torch.no_grad():
        log_prob = objective.network(data.x, *labels)
    for split in ("val", "test"):
        nats = metrics[f"{split}/nll_nats"]
        assert nats == pytest.approx(-log_prob.mean().item(), rel=1e-5)
        assert metrics[f"{split}/bits_per_dim"] == pytest.approx(nats / (6 * math.log(2)))
    predicted = objective.predict_step((data.x, data.y), 0)
    torch.testing.assert_close(predicted.detach(), log_prob)
    loss = objective.training_step((data.x[:5], data.y[:5]), 0)
    torch.testing.assert_close(loss.detach(), -log_prob[:5].mean())
    assert not conditional or not torch.allclose(
        log_prob, objective(data.x, 1 - data.y.clamp(max=1))
    )


@pytest.mark.parametrize(
    ("values", "network", "reported"),
    [
        ("binary", Gaussian, 0.0),
        ("dequantized", Gaussian, 8.0),
        ("logit", Gaussian, None),
        ("unit", partial(MADE, hidden_channels=()), 0.0),
        ("unit", Gaussian, "nothing"),
        ("real", Gaussian, "nothing"),
    ],
)
def test_bits_are_reported_where_there_are_any(
    values: Any, network: Any, reported: Any, tmp_path: Path
) -> None:
    data = bits(values)
    _, metrics = fitted(network, data, tmp_path)
    assert ("val/bits_per_dim" in metrics) == (reported != "nothing")
    if isinstance(reported, float):
        expected = metrics["val/nll_nats"] / (6 * math.log(2)) + reported
        assert metrics["val/bits_per_dim"] == pytest.approx(expected, rel=1e-5)


def test_bits_of_logits_know_alpha(tmp_path: Path) -> None:
    data = bits()
    data.x = 4 * data.x - 1
    data.spec = TensorSpec(1, 3, (2, 3), values="logit", alpha=0.1)
    objective, metrics = fitted(Gaussian, data, tmp_path)
    s = data.x.sigmoid()
    log_derivative = (0.8 / (s * (1 - s))).log().flatten(1).sum(1)  # dl/dx
    with torch.no_grad():
        log_prob = objective(data.x) + log_derivative
    expected = -log_prob.mean().item() / (6 * math.log(2)) + 8
    assert metrics["test/bits_per_dim"] == pytest.approx(expected, rel=1e-5)


def test_samples_have_the_units_of_the_data_and_their_class(tmp_path: Path) -> None:
    data = points()
    objective, _ = fitted(Gaussian, data, tmp_path, epochs=40, conditional=True)
    y = torch.tensor([1, 1, 0]).repeat(100)
    torch.manual_seed(0)
    drawn = objective.sample(300, y)
    assert drawn.shape == (300, 3)
    assert torch.equal(drawn[:, 0] < 0, y == 1)
    in_turn = objective.sample(301)
    assert torch.equal(in_turn[:, 0] < 0, torch.arange(301) % 2 == 1)
    plain, _ = fitted(Gaussian, data, tmp_path)
    assert plain.sample(5).shape == (5, 3)
    with pytest.raises(ValueError, match="y is given, but conditional=False: leave y out"):
        plain.sample(3, y[:3])


def test_the_same_seed_trains_the_same(tmp_path: Path) -> None:
    made = partial(MADE, hidden_channels=(16,), order="random", num_masks=3)
    first, second = (fitted(made, bits(), tmp_path, epochs=2)[1] for _ in range(2))
    assert first == second


def test_a_checkpoint_brings_the_density_back(tmp_path: Path) -> None:
    L.seed_everything(0, verbose=False)
    made = partial(MADE, hidden_channels=(16,), order="random", num_masks=2, seed=4)
    objective = DensityEstimation(made, adam, conditional=True)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    data = bits()
    trainer.fit(objective, datamodule=data)
    loaded = trellis.load(trainer.checkpoint_callback.last_model_path)  # type: ignore[union-attr]
    assert torch.equal(loaded(data.x, data.y), objective.eval()(data.x, data.y))


class Silent(Gaussian):
    """Cannot draw."""

    sample = None  # type: ignore[assignment]


class Entrywise(Gaussian):
    """A likelihood for each entry."""

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return Normal(self.mean, self.log_scale.exp()).log_prob(x)


@pytest.mark.parametrize(
    ("network", "options", "message"),
    [
        (Silent, {}, "draws samples by network.sample.num_samples., which Silent does not have"),
        (SmallCNN, {}, r"DensityEstimation calls network\(shape=...\), but SmallCNN takes"),
        (Gaussian, {"conditional": True}, "conditional=True: out_channels=1: give at least 2"),
    ],
)
def test_networks_that_do_not_fit_are_refused(
    network: Any, options: dict[str, Any], message: str
) -> None:
    objective = DensityEstimation(network, spec=TensorSpec(3, 1), **options)
    with pytest.raises(ValueError, match=message):
        objective.configure_model()


def test_batches_that_do_not_fit_are_refused() -> None:
    spec = TensorSpec(3, 2, values="binary")
    x = torch.zeros(4, 3)
    for network, conditional, y, message in (
        (Entrywise, False, torch.zeros(4), r"Entrywise gave \[4, 3\] for x \[4, 3\]: a density"),
        (MADE, True, torch.tensor([0, 1, 2, 0]), "label 2 is out of range: MADE.* takes 0 to 1"),
        (MADE, True, torch.zeros(4), r"y \[4\] of torch.float32: give labels"),
    ):
        objective = DensityEstimation(network, spec=spec, conditional=conditional)
        objective.configure_model()
        with pytest.raises(ValueError, match=message):
            objective.training_step((x, y), 0)
