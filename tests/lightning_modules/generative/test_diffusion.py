"""Diffusion: the loss by definition, exact denoisers, labels, bounds, learning, bad input."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor, nn

from trellis.datamodules.generative import SyntheticDensities
from trellis.generative import DDIM, NoiseSchedule, ProbabilityFlow
from trellis.lightning_modules.generative.diffusion import Diffusion
from trellis.networks.generative.autoencoder import MLPAutoencoder
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.networks.generative.unet import UNet
from trellis.spec import TensorSpec

small = partial(MLPDenoiser, hidden_channels=(32, 32))
SPEC = TensorSpec(2, 3)


def ready(**options: Any) -> Diffusion:
    objective = Diffusion(**{"network": small, "spec": SPEC, **options})
    objective.configure_model()
    return objective


class GaussianNoise(nn.Module):
    """The exact noise in a noisy Gaussian with the mean 1 and the scale 0.5."""

    schedule = NoiseSchedule()

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        signal, noise = self.schedule.scales(t * 1000 - 1, x)
        gain = signal / 4 / (signal.square() / 4 + noise.square())
        return (x - signal * (1 + gain * (x - signal))) / noise


@pytest.mark.parametrize("prediction", ["noise", "example", "velocity"])
def test_the_loss_is_that_of_its_formula(prediction: str) -> None:
    objective = ready(prediction=prediction, schedule=partial(NoiseSchedule, num_steps=7))
    x, y = torch.randn(6, 2), torch.zeros(6, dtype=torch.long)
    seen = []
    objective.network.register_forward_pre_hook(lambda _, inputs: seen.append(inputs))
    torch.manual_seed(3)
    loss = objective.loss((x, y))
    [(noisy, times)] = seen
    bars = (1 - torch.linspace(1e-4, 0.02, 7)).cumprod(0)[(times * 7).round().long() - 1]
    signal, noise = bars.sqrt()[:, None], (1 - bars).sqrt()[:, None]
    drawn = (noisy - signal * x) / noise
    wanted = {"noise": drawn, "example": x, "velocity": signal * drawn - noise * x}[prediction]
    expected = (objective(noisy, times) - wanted).square().mean()
    torch.testing.assert_close(loss, expected, rtol=1e-2, atol=1e-3)


def test_the_exact_denoiser_has_the_density_and_the_samples_of_the_gaussian() -> None:
    torch.manual_seed(0)
    objective = ready(
        network=GaussianNoise,
        sampler=partial(DDIM, num_steps=250),
        likelihood=partial(ProbabilityFlow, num_steps=60, solver="rk4"),
    )
    exact = torch.distributions.Normal(torch.ones(2), torch.full((2,), 0.5))
    x = exact.sample((20,))
    log_prob = objective.predict_step((x, torch.zeros(20)), 0)
    torch.testing.assert_close(log_prob, exact.log_prob(x).sum(1), rtol=0, atol=0.03)
    samples = objective.sample(20_000)
    torch.testing.assert_close(samples.mean(0), exact.mean, rtol=0, atol=0.02)
    torch.testing.assert_close(samples.std(0), exact.stddev, rtol=0.03, atol=0)


def test_labels_reach_the_network_in_every_pass() -> None:
    torch.manual_seed(0)
    objective = ready(
        conditional=True,
        likelihood=partial(ProbabilityFlow, num_steps=4),
        sampler=partial(DDIM, num_steps=4),
    )
    x, y = torch.randn(5, 2), torch.tensor([0, 1, 2, 0, 1])
    together = objective.predict_step((x, y), 0)
    alone = [objective.predict_step((x[i : i + 1], y[i : i + 1]), 0) for i in range(5)]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-3, atol=1e-3)
    assert not torch.allclose(together, objective.predict_step((x, y.flip(0)), 0))
    one, other = (
        objective.sample(3, torch.full((3,), k), generator=torch.Generator().manual_seed(0))
        for k in (0, 2)
    )
    assert not torch.allclose(one, other)


def test_it_learns_a_density_and_bounds_it(tmp_path: Path) -> None:
    data = SyntheticDensities("pinwheel", num_train=256 * 60, num_val=200, seed=0)
    objective = Diffusion(
        small,
        partial(torch.optim.Adam, lr=5e-3),
        likelihood=partial(ProbabilityFlow, num_steps=10),
    )
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    torch.manual_seed(0)
    [before] = trainer.validate(objective, data, verbose=False)
    trainer.fit(objective, data)
    [after] = trainer.validate(objective, data, verbose=False)
    assert set(after) == {"val/loss", "val/nll_nats", "val/bound_nll_nats"}
    assert all(after[name] < before[name] for name in after)
    assert after["val/nll_nats"] > data.entropy() - 0.02, "no density beats the entropy"
    assert after["val/bound_nll_nats"] > data.entropy()


def test_the_likelihood_may_be_that_of_a_few_of_each_batch(tmp_path: Path) -> None:
    data = SyntheticDensities("moons", num_train=8, num_val=1, num_test=24, batch_size=8, seed=0)
    likelihood = partial(ProbabilityFlow, num_steps=3)
    objective = Diffusion(small, likelihood=likelihood, likelihood_examples=3)
    [found] = quiet_trainer(tmp_path).test(objective, data, verbose=False)
    few = [(x[:3], y[:3]) for x, y in data.test_dataloader()]
    expected = -torch.cat([objective.predict_step(batch, 0) for batch in few])
    assert expected.shape == (9,)
    assert found["test/nll_nats"] == pytest.approx(float(expected.mean().detach()), rel=1e-4)
    with pytest.raises(ValueError, match="likelihood_examples=0"):
        Diffusion(likelihood_examples=0)


def test_without_a_likelihood_there_is_the_bound() -> None:
    objective = ready(likelihood=None)
    assert set(objective.val_metrics) == {"val/loss", "val/bound_nll_nats"}
    assert objective.predict_step((torch.randn(4, 2), torch.zeros(4)), 0).shape == (4,)
    with pytest.raises(ValueError, match=r"prediction='score'.*velocity"):
        Diffusion(prediction="score")


@pytest.mark.filterwarnings("ignore:Diffusion.autoencoder=:UserWarning")
def test_latent_diffusion_learns_and_samples_the_data_of_a_trained_autoencoder(
    tmp_path: Path,
) -> None:
    """Two moons in a plane of a space of 6 dimensions; the codes are the coordinates in it."""
    torch.manual_seed(0)
    basis, _ = torch.linalg.qr(torch.randn(6, 2))

    class Plane(nn.Module):
        latent_dim = 2

        def __init__(self, shape: tuple[int, ...]) -> None:
            super().__init__()
            self.basis = nn.Parameter(torch.zeros(6, 2))

        def encode(self, x: Tensor) -> Tensor:
            return x @ self.basis

        def decode(self, code: Tensor) -> Tensor:
            return code @ self.basis.T

        def forward(self, x: Tensor) -> Tensor:
            return self.decode(self.encode(x))

    class Embedded(SyntheticDensities):
        def __init__(self) -> None:
            super().__init__("moons", num_train=256 * 60, num_val=256, seed=0)
            self.spec = TensorSpec(6, 2, classes=self.spec.classes)

        def _points(self, *drawn: Any) -> Tensor:
            return super()._points(*drawn).float() @ basis.T

    objective = Diffusion(small, partial(torch.optim.Adam, lr=5e-3), autoencoder=Plane)
    trainer = quiet_trainer(tmp_path, max_epochs=2)
    objective.spec = Embedded().spec
    objective.configure_model()
    objective.codes.autoencoder.basis.data.copy_(basis)
    trainer.fit(objective, Embedded())
    assert torch.equal(objective.codes.autoencoder.basis, basis)
    assert set(objective.val_metrics) == {"val/loss"}
    torch.manual_seed(0)
    samples = objective.eval().sample(2000) @ basis
    real = torch.cat([x for x, _ in Embedded().train_dataloader()]) @ basis
    torch.testing.assert_close(samples.mean(0), real.mean(0), rtol=0, atol=0.1)
    torch.testing.assert_close(samples.T.cov(), real.T.cov(), rtol=0.15, atol=0.08)
    assert objective.predict_step((real[:4] @ basis.T, torch.zeros(4)), 0).shape == (4,)


def test_a_network_that_does_not_take_the_codes_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape=\(5,\): UNet takes images"):
        ready(network=UNet, autoencoder=partial(MLPAutoencoder, latent_dim=5))
