import math
from functools import partial
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from learning_cases import quiet_trainer
from scipy.stats import multivariate_normal, norm
from torch import Tensor

from trellis.datamodules.generative.simulated_posteriors import SimulatedPosteriors
from trellis.lightning_modules.generative.density_estimation import DensityEstimation
from trellis.networks.generative.flow_autoregressive import MAF
from trellis.spec import TensorSpec

# Inside, where the circle crosses the fold, and where it leaves the square of the prior.
OBSERVED = [(0.0, 0.0), (0.28, -0.1), (-0.5, -0.65), (0.1, 1.3)]


def drawn(data: SimulatedPosteriors, split: str = "train") -> tuple[Tensor, Tensor]:
    theta, y = zip(*data.loader(split), strict=True)
    return torch.cat(theta), torch.cat(y)


def test_the_linear_posterior_is_that_of_the_joint_gaussian() -> None:
    """The usual formulae of conditioning, from the covariance of the drawn examples' model."""
    data = SimulatedPosteriors("gaussian_linear", num_train=20_000)
    theta, y = drawn(data)
    joint = np.block([[0.1 * np.eye(10), 0.1 * np.eye(10)], [0.1 * np.eye(10), 0.2 * np.eye(10)]])
    found = np.cov(torch.cat([theta, y], 1).numpy().T)
    np.testing.assert_allclose(found, joint, atol=0.01)
    gain = joint[:10, 10:] @ np.linalg.inv(joint[10:, 10:])
    covariance = joint[:10, :10] - gain @ joint[10:, :10]
    for t, o, ours in zip(theta[:5].numpy(), y[:5].numpy(), data.log_prob(theta, y), strict=False):
        assert ours == pytest.approx(multivariate_normal(gain @ o, covariance).logpdf(t), abs=1e-4)


def log_likelihood(theta: np.ndarray, y: np.ndarray) -> float:
    """Of two moons as the paper writes them, by the Jacobian of polar coordinates."""
    middle = np.array(
        [0.25 - abs(theta.sum()) / math.sqrt(2), (theta[1] - theta[0]) / math.sqrt(2)]
    )
    first, second = y - middle
    radius, angle = math.hypot(first, second), math.atan2(second, first)
    if abs(angle) >= math.pi / 2:
        return -math.inf
    return norm(0.1, 0.01).logpdf(radius) - math.log(math.pi * radius)


@pytest.mark.parametrize("observed", OBSERVED)
def test_the_moons_posterior_integrates_to_one(observed: tuple[float, float]) -> None:
    """Over radius and angle, each of which has two parameters that it may come from."""
    y = torch.tensor([observed], dtype=torch.double)
    radius = torch.linspace(0.04, 0.16, 121, dtype=torch.double)
    angle = (torch.arange(4000).double() + 0.5) / 4000 * math.pi - math.pi / 2
    r, a = torch.cartesian_prod(radius, angle).unbind(1)
    middle = y - torch.stack([0.25 + r * a.cos(), r * a.sin()], 1)
    r, middle = r[middle[:, 0] <= 0], middle[middle[:, 0] <= 0]
    data, total = SimulatedPosteriors("two_moons"), 0.0
    for sign in (1, -1):
        added, difference = sign * middle[:, 0], middle[:, 1]
        theta = torch.stack([added - difference, added + difference], 1) / math.sqrt(2)
        total += float((data.log_prob(theta, y).exp() * r).sum())
    assert total * 0.001 * math.pi / 4000 == pytest.approx(1, abs=2e-3)


def test_the_moons_posterior_is_proportional_to_the_likelihood() -> None:
    data = SimulatedPosteriors("two_moons", num_test=200)
    theta, y = (part.double() for part in drawn(data, "test"))
    other = -theta.flip(1) + torch.randn(len(theta), 2, generator=torch.manual_seed(0)) * 0.01
    ours = data.log_prob(other, y) - data.log_prob(theta, y)
    inside = (other.abs() <= 1).all(1)
    assert (ours[~inside] == -math.inf).all()
    for number in inside.nonzero().flatten().tolist():
        one, another, seen = theta[number].numpy(), other[number].numpy(), y[number].numpy()
        expected = log_likelihood(another, seen) - log_likelihood(one, seen)
        assert ours[number].item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("task", "exact"), [("gaussian_linear", -0.807), ("two_moons", -3.793)])
def test_the_exact_posterior_scores_as_documented(task: str, exact: float) -> None:
    data = SimulatedPosteriors(task)
    theta, y = drawn(data, "test")
    surprise = -data.log_prob(theta, y)
    assert surprise.mean().item() == pytest.approx(exact, abs=6e-4)
    if task == "gaussian_linear":
        entropy = multivariate_normal(np.zeros(10), 0.05).entropy()
        assert exact == pytest.approx(entropy, abs=3 * surprise.std().item() / len(theta) ** 0.5)


def test_epochs_bring_new_examples_and_test_examples_stay() -> None:
    small = {"num_train": 40, "num_val": 9, "num_test": 9, "batch_size": 8}
    first, second = (SimulatedPosteriors(seed=seed, **small) for seed in (1, 2))
    loader = first.train_dataloader()
    epochs = []
    for epoch in (0, 1):
        loader.set_epoch(epoch)
        epochs.append(torch.cat([torch.cat([theta, y], 1) for theta, y in loader]))
    rows = [*epochs, torch.cat(drawn(second), 1)]
    for split in ("val", "test"):
        assert torch.equal(drawn(first, split)[0], drawn(second, split)[0])
        rows.append(torch.cat(drawn(first, split), 1))
    assert len(torch.cat(rows).unique(dim=0)) == 3 * 40 + 2 * 9
    assert first.spec == TensorSpec(2, 2, targets="real")


def test_a_flow_comes_near_the_exact_posterior(tmp_path: Path) -> None:
    """And far below the prior, which it would learn without the observations."""
    L.seed_everything(0, verbose=False)
    data = SimulatedPosteriors("gaussian_linear", num_train=10_000, num_val=10, num_test=4000)
    flow = partial(MAF, num_transforms=1, hidden_channels=(32,))
    objective = DensityEstimation(flow, partial(torch.optim.Adam, lr=0.01), conditional=True)
    trainer = quiet_trainer(tmp_path, max_epochs=4, enable_checkpointing=False)
    trainer.fit(objective, datamodule=data)
    [metrics] = trainer.test(objective, datamodule=data, verbose=False)
    theta, y = drawn(data, "test")
    exact = -data.log_prob(theta, y).mean().item()
    prior = -multivariate_normal(np.zeros(10), 0.1).logpdf(theta.numpy()).mean()
    assert exact - 0.01 < metrics["test/nll_nats"] < exact + 0.25
    assert prior > exact + 3
    draws = objective.sample(4000, y[:1].expand(4000, -1)).double()
    torch.testing.assert_close(draws.mean(0), y[0].double() / 2, atol=0.08, rtol=0)
    torch.testing.assert_close(
        draws.std(0), torch.full((10,), 0.05).double().sqrt(), atol=0.04, rtol=0
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"task": "moons"}, "task='moons': choose from gaussian_linear, two_moons"),
        ({"num_test": 0}, "num_test=0: give at least 1"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
    ],
)
def test_arguments_are_checked_at_once(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SimulatedPosteriors(**options)
