"""Each objective learns something with a known optimum, and nothing from noise."""

from functools import partial

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from torch_geometric.data import Data

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.vector.digits import Digits
from trellis.lightning_modules.graph.node_classification import NodeClassification
from trellis.lightning_modules.vector.classification import Classification
from trellis.lightning_modules.vector.regression import Regression
from trellis.networks.graph.gnn import GCN
from trellis.networks.vector.mlp import MLP
from trellis.spec import NodeSpec, TensorSpec


def adam(lr: float):
    return partial(torch.optim.Adam, lr=lr)


linear = partial(MLP, hidden_channels=())


@pytest.fixture(autouse=True)
def _seed():
    L.seed_everything(0, verbose=False)


def fit(objective, data, root, epochs: int) -> dict[str, float]:
    trainer = quiet_trainer(root, max_epochs=epochs, check_val_every_n_epoch=epochs)
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    return tested


class ShuffledDigits(Digits):
    """Digits with random labels."""

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        self.y = self.y[torch.randperm(len(self.y), generator=torch.Generator().manual_seed(1))]


def test_classification_reads_digits(tmp_path):
    network = partial(MLP, hidden_channels=(64,))
    learned = fit(Classification(network, adam(0.003)), Digits(), tmp_path, epochs=6)
    control = fit(Classification(network, adam(0.003)), ShuffledDigits(), tmp_path, epochs=6)
    assert learned["test/accuracy"] > 0.9
    assert control["test/accuracy"] < 0.2


class Communities(DataModule):
    """Two communities of 40 nodes with more edges inside than between them.

    Features are noise around zero: only the edges tell the communities apart.
    """

    def __init__(self, shuffled: bool = False) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        generator = torch.Generator().manual_seed(0)
        y = torch.arange(80) // 40
        same = y[:, None] == y
        edges = torch.rand(80, 80, generator=generator) < torch.where(same, 0.3, 0.02)
        edge_index = (edges.triu(1) | edges.triu(1).t()).nonzero().t()
        if shuffled:
            y = y[torch.randperm(80, generator=generator)]
        data = Data(x=torch.randn(80, 16, generator=generator), edge_index=edge_index, y=y)
        part = torch.randperm(80, generator=generator)
        data.train_mask, data.val_mask, data.test_mask = part < 20, part >= 20, part >= 20
        self.data, self.spec = data, NodeSpec(16, 2)

    def loader(self, split: str) -> Loader:
        return Loader(30 if split == "train" else 1, lambda _: self.data)


def test_node_classification_finds_communities(tmp_path):
    def accuracy(shuffled: bool) -> float:
        objective = NodeClassification(partial(GCN, dropout=0.2), adam(0.01))
        return fit(objective, Communities(shuffled), tmp_path, epochs=3)["test/accuracy"]

    learned, control = accuracy(False), accuracy(True)
    assert learned > 0.9
    assert control < 0.65


class Sample(DataModule):
    """Tensors in memory, the same for every split, as one batch."""

    def __init__(self, x: torch.Tensor, y: torch.Tensor) -> None:
        super().__init__()
        self.x, self.y = x, y
        self.spec = TensorSpec(x.size(1), y.size(1), targets="real")

    def loader(self, split: str) -> Loader:
        return tensor_loader(self.x, self.y, batch_size=len(self.x), train=False)


def linear_sample() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(400, 3, generator=generator)
    weight = torch.tensor([[1.0, -2.0], [0.5, 0.0], [0.0, 3.0]])
    noise = torch.randn(400, 2, generator=generator) * torch.tensor([0.5, 0.1])
    return x, x @ weight + torch.tensor([0.3, -1.0]) + noise


def least_squares(x: torch.Tensor, y: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Coefficients with the intercept last, and the residuals."""
    design = torch.cat([x, torch.ones(len(x), 1)], dim=1)
    solution = torch.linalg.lstsq(design, y).solution
    return solution, y - design @ solution


def coefficients(objective: Regression) -> torch.Tensor:
    layer = objective.network.layers[-1]
    return torch.cat([layer.weight.t(), layer.bias[None]]).detach()


def test_gaussian_regression_is_least_squares(tmp_path):
    x, y = linear_sample()
    objective = Regression(linear, adam(0.05))
    metrics = fit(objective, Sample(x, y), tmp_path, epochs=300)
    solution, residuals = least_squares(x, y)
    torch.testing.assert_close(coefficients(objective), solution, atol=1e-3, rtol=0)
    assert metrics["test/rmse"] == pytest.approx(residuals.square().mean().sqrt().item(), rel=1e-3)
    # Targets that have nothing to do with x are best predicted by their mean.
    control = Regression(linear, adam(0.05))
    shuffled = y[torch.randperm(400, generator=torch.Generator().manual_seed(3))]
    spread = (shuffled - shuffled.mean(0)).square().mean().sqrt().item()
    assert fit(control, Sample(x, shuffled), tmp_path, 300)["test/rmse"] > 0.95 * spread


@pytest.mark.long
def test_heteroscedastic_regression_recovers_the_scale_of_each_target(tmp_path):
    x, y = linear_sample()
    objective = Regression(linear, adam(0.03), likelihood="heteroscedastic")
    fit(objective, Sample(x, y), tmp_path, epochs=800)
    solution, residuals = least_squares(x, y)
    found = coefficients(objective)
    torch.testing.assert_close(found[:, :2], solution, atol=0.02, rtol=0)
    # The scale does not depend on x: its intercept is the log standard deviation of residuals.
    torch.testing.assert_close(
        found[-1, 2:], residuals.square().mean(0).sqrt().log(), atol=0.02, rtol=0
    )
    assert found[:-1, 2:].abs().max() < 0.1


def gumbel_mle(x: torch.Tensor) -> tuple[float, float]:
    """Zeros of both derivatives, the second by bisection."""
    x = x.double()

    def excess(beta: float) -> float:
        weights = (-x / beta).softmax(0)
        return float(x.mean() - (weights * x).sum() - beta)

    low, high = 1e-3, 1e3
    for _ in range(200):
        middle = (low + high) / 2
        low, high = (middle, high) if excess(middle) > 0 else (low, middle)
    return float(-low * ((-x / low).logsumexp(0) - torch.tensor(len(x)).log())), low


def test_gumbel_regression_is_its_maximum_likelihood(tmp_path):
    torch.manual_seed(2)
    maxima = torch.distributions.Gumbel(2.0, 0.7).sample((500, 1))
    location, scale = gumbel_mle(maxima)
    assert (location, scale) == (pytest.approx(2.0, abs=0.1), pytest.approx(0.7, abs=0.1))
    objective = Regression(linear, adam(0.05), likelihood="gumbel")
    fit(objective, Sample(torch.zeros(500, 1), maxima), tmp_path, epochs=400)
    bias = objective.network.layers[-1].bias
    assert bias[0].item() == pytest.approx(location, abs=2e-3)
    assert bias[1].exp().item() == pytest.approx(scale, abs=2e-3)
