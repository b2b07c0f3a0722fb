"""Flow matching: the loss by definition, exact fields, labels, learning, bad input."""

import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor, nn

from trellis.datamodules.generative import SyntheticDensities
from trellis.lightning_modules.generative.flow_matching import FlowMatching
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.spec import TensorSpec

small = partial(MLPDenoiser, hidden_channels=(32, 32))
SPEC = TensorSpec(2, 3)


def ready(**options: Any) -> FlowMatching:
    objective = FlowMatching(**{"network": small, "spec": SPEC, **options})
    objective.configure_model()
    return objective


class GaussianVelocity(nn.Module):
    """The exact velocity from noise to a Gaussian: E[x1 - x0 | x_t], in closed form."""

    mean, scale = torch.tensor([1.0, -2.0]), torch.tensor([0.5, 2.0])

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t[:, None]
        variance = (1 - t).square() + t.square() * self.scale.square()
        gain = (t * self.scale.square() - (1 - t)) / variance
        return self.mean + gain * (x - t * self.mean)


def test_the_loss_is_that_of_the_line_between_noise_and_example() -> None:
    objective = ready()
    x, y = torch.randn(6, 2), torch.zeros(6, dtype=torch.long)
    torch.manual_seed(3)
    loss = objective.loss((x, y))
    torch.manual_seed(3)
    noise, t = torch.randn(6, 2), torch.rand(6)
    at = torch.stack([(1 - t[i]) * noise[i] + t[i] * x[i] for i in range(6)])
    torch.testing.assert_close(loss, (objective(at, t) - (x - noise)).square().mean())


def test_the_exact_velocity_has_the_density_and_the_samples_of_the_gaussian() -> None:
    objective = ready(network=GaussianVelocity, likelihood_steps=60, sample_steps=60)
    exact = torch.distributions.Normal(GaussianVelocity.mean, GaussianVelocity.scale)
    torch.manual_seed(0)
    x = exact.sample((50,))
    torch.testing.assert_close(objective.log_prob(x), exact.log_prob(x).sum(1), rtol=0, atol=1e-3)
    samples = objective.sample(20_000)
    torch.testing.assert_close(samples.mean(0), exact.mean, rtol=0, atol=0.06)
    torch.testing.assert_close(samples.std(0), exact.stddev, rtol=0.03, atol=0)


def test_one_random_direction_is_right_in_the_mean() -> None:
    objective = ready(network=GaussianVelocity, divergence="hutchinson", likelihood_steps=20)
    exact = ready(network=GaussianVelocity, likelihood_steps=20)
    x = torch.zeros(4, 2)
    # The Jacobian is diagonal, and then directions of -1 and 1 have no variance.
    torch.testing.assert_close(objective.log_prob(x), exact.log_prob(x))


def test_labels_reach_the_network_in_every_pass() -> None:
    torch.manual_seed(0)
    objective = ready(conditional=True, likelihood_steps=4, sample_steps=4)
    x, y = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
    together = objective.log_prob(x, y)
    alone = torch.cat([objective.log_prob(x[i : i + 1], y[i : i + 1]) for i in range(5)])
    torch.testing.assert_close(together, alone)
    assert not torch.allclose(together, objective.log_prob(x, y.flip(0)))
    one, other = (
        objective.sample(3, torch.full((3,), k), generator=torch.Generator().manual_seed(0))
        for k in (0, 2)
    )
    assert not torch.allclose(one, other)


@pytest.mark.parametrize(
    "coupling", ["independent", pytest.param("optimal", marks=pytest.mark.long)]
)
def test_it_learns_a_density_it_can_evaluate(coupling: str, tmp_path: Path) -> None:
    data = SyntheticDensities("pinwheel", num_train=256 * 60, num_val=500, seed=0)
    objective = FlowMatching(
        small, partial(torch.optim.Adam, lr=5e-3), coupling=coupling, likelihood_steps=8
    )
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    torch.manual_seed(0)
    [before] = trainer.validate(objective, data, verbose=False)
    trainer.fit(objective, data)
    [after] = trainer.validate(objective, data, verbose=False)
    assert set(after) == {"val/loss", "val/nll_nats"}
    assert after["val/loss"] < before["val/loss"]
    assert after["val/nll_nats"] < before["val/nll_nats"] - 0.3
    assert after["val/nll_nats"] > data.entropy() - 0.02, "no density beats the entropy"
    assert math.isfinite(objective.sample(10).sum().item())


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match=r"divergence='trace'.*hutchinson"):
        FlowMatching(divergence="trace")
    with pytest.raises(ValueError, match="sample_steps=0"):
        FlowMatching(sample_steps=0)
    with pytest.raises(ValueError, match="likelihood_steps=-1"):
        FlowMatching(likelihood_steps=-1)
    with pytest.raises(ValueError, match="likelihood_steps=0"):
        ready(likelihood_steps=0).predict_step((torch.zeros(2, 2), torch.zeros(2)), 0)
    with pytest.raises(ValueError, match="x"):
        ready()(torch.zeros(2, 3), torch.zeros(2))
