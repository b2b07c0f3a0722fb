"""Two estimators of one gradient: equal means, unequal variances, both by closed form."""

from itertools import product

import pytest
import torch
from torch.distributions import Bernoulli, Normal

from trellis.functional.estimators import leave_one_out, reparameterize, score_function

COUNT = 200_000


def gradients(kind: str, baseline: float | None = None) -> torch.Tensor:
    """One estimate a sample of the gradient of E[z^2], z ~ N(1, 1), by the mean."""
    noise = torch.randn(COUNT, generator=torch.Generator().manual_seed(0)).double()
    mean = torch.ones(COUNT).double().requires_grad_()
    if kind == "reparameterized":
        value = reparameterize(mean, torch.zeros(1), noise).square().sum()
    else:
        z = 1 + noise
        constant = None if baseline is None else torch.full((1, COUNT), baseline).double()
        log_prob = Normal(mean, 1.0).log_prob(z)
        value = score_function(z.square()[None], log_prob[None], constant).sum()
    return torch.autograd.grad(value, mean)[0]


@pytest.mark.parametrize(
    ("kind", "baseline", "variance"),
    [
        # With z = 1 + e the estimates are 2 z = 2 + 2 e and ((1 + e)^2 - b) e, whose variances
        # follow from E[e^2, e^4, e^6] = 1, 3, 15.
        ("reparameterized", None, 4.0),
        ("score", None, 30.0),
        ("score", 2.0, 18.0),  # the mean of z^2
        ("score", 4.0, 14.0),  # E[z^2 e^2] / E[e^2], the best constant
        ("score", 1000.0, 992050.0),
    ],
)
def test_means_agree_and_variances_differ(kind, baseline, variance) -> None:
    found = gradients(kind, baseline)
    error = (variance / COUNT) ** 0.5
    assert float(found.mean()) == pytest.approx(2.0, abs=4 * error)
    assert float(found.var()) == pytest.approx(variance, rel=0.05)


def test_both_give_the_gradient_of_the_scale() -> None:
    """The gradient of E[z^2] = mean^2 + scale^2 by ln scale is 2 scale^2."""
    noise = torch.randn(COUNT, generator=torch.Generator().manual_seed(1)).double()
    log_scale = torch.tensor(-0.5).double().requires_grad_()
    pathwise = reparameterize(torch.tensor(0.3), log_scale, noise).square().mean()
    [first] = torch.autograd.grad(pathwise, log_scale)
    z = (0.3 + log_scale.exp() * noise).detach()
    log_prob = Normal(0.3, log_scale.exp()).log_prob(z)
    surrogate = score_function(z.square(), log_prob, leave_one_out(z.square()))
    [second] = torch.autograd.grad(surrogate, log_scale)
    expected = 2 * log_scale.exp().item() ** 2
    assert float(first) == pytest.approx(expected, rel=0.02)
    assert float(second) == pytest.approx(expected, rel=0.02)
    assert surrogate.item() == pytest.approx(float(z.square().mean()))


def outcomes(theta: torch.Tensor, samples: int):
    """Every possible draw of some bits, with its probability."""
    for bits in product([0.0, 1.0], repeat=samples):
        z = torch.tensor(bits).double()
        log_prob = Bernoulli(logits=theta).log_prob(z)
        yield z, log_prob, log_prob.sum().exp().detach()


@pytest.mark.parametrize("baseline", [None, "constant", "others"])
def test_without_bias_on_discrete_samples(baseline) -> None:
    """Averaged over all draws of three bits it is the gradient exactly: f has a parameter too."""
    theta = torch.tensor(0.7).double().requires_grad_()

    def f(z: torch.Tensor) -> torch.Tensor:
        return (z - 0.3) ** 2 * theta.exp() + 5

    exact = sum(f(z)[0] * log_prob.exp()[0] for z, log_prob, _ in outcomes(theta, 1))
    [expected] = torch.autograd.grad(exact, theta)
    mean, total = 0.0, 0.0
    for z, log_prob, weight in outcomes(theta, 3):
        value = f(z)
        choices = {"constant": torch.tensor(5.0).double(), "others": leave_one_out(value)}
        surrogate = score_function(value, log_prob, choices.get(baseline))
        total += (weight * surrogate).item()
        mean += float(weight * torch.autograd.grad(surrogate, theta)[0])
    assert mean == pytest.approx(float(expected))
    assert total == pytest.approx(exact.item())


def test_a_baseline_of_its_own_sample_would_be_biased() -> None:
    """What ``leave_one_out`` is careful about: the plain mean of all is not independent."""
    theta = torch.tensor(0.7).double().requires_grad_()
    exact = torch.autograd.grad(theta.sigmoid(), theta)[0]
    mean = 0.0
    for z, log_prob, weight in outcomes(theta, 2):
        surrogate = score_function(z, log_prob, z.mean())
        mean += float(weight * torch.autograd.grad(surrogate, theta)[0])
    assert mean == pytest.approx(float(exact) / 2)  # (K - 1) / K of it


def test_others_leave_out_their_own() -> None:
    value = torch.rand(5, 3).double()
    expected = torch.stack([torch.cat([value[:k], value[k + 1 :]]).mean(0) for k in range(5)])
    torch.testing.assert_close(leave_one_out(value), expected)
    with pytest.raises(ValueError, match="give at least 2 samples"):
        leave_one_out(value[:1])


def test_shapes_must_agree() -> None:
    with pytest.raises(ValueError, match=r"value \[4\] and log_prob \[4, 1\]: give both for each"):
        score_function(torch.zeros(4), torch.zeros(4, 1))


def test_no_gradient_reaches_the_baseline() -> None:
    """Not even one of value zero, which would keep the graph of a learned baseline alive."""
    value, log_prob, baseline = (torch.randn(4, 3).requires_grad_() for _ in range(3))
    surrogate = score_function(value, log_prob, baseline).sum()
    found = torch.autograd.grad(surrogate, [value, log_prob, baseline], allow_unused=True)
    torch.testing.assert_close(found[0], torch.full((4, 3), 1 / 4))
    torch.testing.assert_close(found[1], (value - baseline).detach() / 4)
    assert found[2] is None
