"""Adversarial losses against their written formulas, theory on a discrete toy, and gradients."""

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor, nn

from trellis.generative.adversarial import (
    AdversarialLoss,
    HingeLoss,
    LeastSquaresLoss,
    MinimaxLoss,
    NonSaturatingLoss,
    WassersteinLoss,
    clip_weights_,
    gradient_penalty,
    instance_noise,
    interpolates,
)

torch.set_num_threads(1)


def mean(values: list[Tensor]) -> Tensor:
    return sum(values[1:], values[0]) / len(values)


def log_d(logit: Tensor) -> Tensor:
    return torch.log(1 / (1 + torch.exp(-logit)))


def log_not_d(logit: Tensor) -> Tensor:
    return torch.log(1 - 1 / (1 + torch.exp(-logit)))


def classifier(real: Tensor, fake: Tensor) -> Tensor:
    return -mean([log_d(r) for r in real]) - mean([log_not_d(f) for f in fake])


# As the papers write them, one example at a time.
FORMULAS = [
    (MinimaxLoss(), classifier, lambda fake: mean([log_not_d(f) for f in fake])),
    (NonSaturatingLoss(), classifier, lambda fake: -mean([log_d(f) for f in fake])),
    (
        LeastSquaresLoss(),
        lambda real, fake: mean([(r - 1) ** 2 for r in real]) / 2 + mean([f**2 for f in fake]) / 2,
        lambda fake: mean([(f - 1) ** 2 for f in fake]) / 2,
    ),
    (
        LeastSquaresLoss(a=-1.0, b=2.0, c=0.5),
        lambda real, fake: (
            mean([(r - 2) ** 2 for r in real]) / 2 + mean([(f + 1) ** 2 for f in fake]) / 2
        ),
        lambda fake: mean([(f - 0.5) ** 2 for f in fake]) / 2,
    ),
    (
        WassersteinLoss(),
        lambda real, fake: mean(list(fake)) - mean(list(real)),
        lambda fake: -mean(list(fake)),
    ),
    (
        HingeLoss(),
        lambda real, fake: (
            mean([torch.clamp(1 - r, min=0) for r in real])
            + mean([torch.clamp(1 + f, min=0) for f in fake])
        ),
        lambda fake: -mean(list(fake)),
    ),
]
IDS = ["minimax", "non_saturating", "least_squares", "other_labels", "wasserstein", "hinge"]


@pytest.mark.parametrize(("loss", "discriminator", "generator"), FORMULAS, ids=IDS)
def test_values_and_gradients_are_those_of_the_formula(loss, discriminator, generator):
    torch.manual_seed(0)
    real = torch.randn(5, dtype=torch.double, requires_grad=True)  # not as many as generated ones
    # What G moves: its parameter shifts and scales the logits of its examples.
    theta = torch.tensor([0.3, 1.7], dtype=torch.double, requires_grad=True)
    fake = theta[0] + theta[1] * torch.randn(7, dtype=torch.double)

    ours, written = loss.discriminator(real, fake), discriminator(real, fake)
    torch.testing.assert_close(ours, written)
    torch.testing.assert_close(
        torch.autograd.grad(ours, [real, theta], retain_graph=True),
        torch.autograd.grad(written, [real, theta], retain_graph=True),
    )
    ours, written = loss.generator(fake), generator(fake)
    torch.testing.assert_close(ours, written)
    torch.testing.assert_close(
        torch.autograd.grad(ours, theta, retain_graph=True), torch.autograd.grad(written, theta)
    )


@pytest.mark.parametrize("loss", [formula[0] for formula in FORMULAS], ids=IDS)
def test_losses_of_large_logits_are_finite(loss: AdversarialLoss):
    logits = torch.tensor([-500.0, 500.0])
    assert loss.discriminator(logits, logits).isfinite()
    assert loss.generator(logits).isfinite()


COUNTS = [  # of the atoms, among the data and among what is generated
    ((1, 2, 5), (4, 3, 1)),
    ((3, 3, 2), (1, 6, 1)),
    ((2, 2, 4), (2, 2, 4)),
]


@pytest.mark.parametrize(("p", "q"), COUNTS)
def test_the_best_discriminator_measures_jensen_shannon(p, q):
    """V = 2 JS(p, q) - 2 log 2, with D = p / (p + q); Goodfellow et al. 2014, theorem 1."""
    d = [Fraction(a, a + b) for a, b in zip(p, q, strict=True)]
    atom_logits = torch.tensor([math.log(share / (1 - share)) for share in d], dtype=torch.double)
    real = atom_logits.repeat_interleave(torch.tensor(p))
    fake = atom_logits.repeat_interleave(torch.tensor(q))
    value = -MinimaxLoss().discriminator(real, fake)

    def kl(one: list[float], other: list[float]) -> float:
        return sum(a * math.log(a / b) for a, b in zip(one, other, strict=True))

    p, q = ([count / 8 for count in counts] for counts in (p, q))
    middle = [(a + b) / 2 for a, b in zip(p, q, strict=True)]
    jensen_shannon = (kl(p, middle) + kl(q, middle)) / 2
    assert float(value) == pytest.approx(2 * jensen_shannon - 2 * math.log(2), abs=1e-12)
    if p == q:
        assert float(value) == pytest.approx(-1.386294, abs=1e-6)
    # No other D reaches this value.
    for shift in (-0.1, 0.1):
        assert -MinimaxLoss().discriminator(real + shift, fake + shift) < value


def test_minimax_saturates_and_its_alternative_does_not():
    """At D(G(z)) = 1e-6 the gradients by the logit are -D and D - 1."""
    logit = torch.tensor([math.log(1e-6 / (1 - 1e-6))], dtype=torch.double, requires_grad=True)
    (minimax,) = torch.autograd.grad(MinimaxLoss().generator(logit), logit)
    (other,) = torch.autograd.grad(NonSaturatingLoss().generator(logit), logit)
    assert float(minimax) == pytest.approx(-1e-6, rel=1e-6)
    assert float(other) == pytest.approx(-(1 - 1e-6), rel=1e-6)


@pytest.mark.parametrize("norm", [1.0, 0.0])
def test_gradient_penalty_of_a_linear_critic(norm):
    """It is w everywhere: the penalty is (|w| - 1)^2, its gradient 2 (|w| - 1) w / |w|."""
    w = torch.tensor([2.0, -1.0, 2.0], requires_grad=True)  # of length 3
    penalty = gradient_penalty(lambda x: x @ w, torch.randn(6, 3), norm)
    assert float(penalty.detach()) == pytest.approx((3 - norm) ** 2)
    (gradient,) = torch.autograd.grad(penalty, w)
    torch.testing.assert_close(gradient, 2 * (3 - norm) * w.detach() / 3)


def test_gradient_penalty_of_a_curved_critic_point_by_point():
    torch.manual_seed(0)
    critic = nn.Sequential(nn.Flatten(), nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 1)).double()
    x = torch.randn(3, 2, 2, dtype=torch.double)
    penalty = gradient_penalty(lambda points: critic(points).squeeze(1), x)
    penalties = []
    for point in x:
        jacobian = torch.func.jacrev(lambda one: critic(one[None])[0, 0])(point)
        penalties.append((jacobian.square().sum().sqrt() - 1) ** 2)
    torch.testing.assert_close(penalty.detach(), torch.stack(penalties).mean().detach())
    # Its gradient by a weight, against a difference quotient.
    (gradient,) = torch.autograd.grad(penalty, critic[1].weight)
    values = []
    for step in (1e-6, -2e-6):
        with torch.no_grad():
            critic[1].weight[0, 1] += step
        values.append(gradient_penalty(lambda points: critic(points).squeeze(1), x).item())
    assert float(gradient[0, 1]) == pytest.approx((values[0] - values[1]) / 2e-6, rel=1e-5)


def test_gradient_penalty_under_no_grad_and_of_a_constant_critic():
    with torch.no_grad():
        flat = gradient_penalty(lambda x: 0 * x.sum(1), torch.ones(2, 3))
    assert float(flat) == 1.0
    bias = torch.zeros(2, requires_grad=True)
    gradient_penalty(lambda x: (x * 0 * bias).sum(1), torch.ones(2, 2)).backward()
    assert bias.grad.isfinite().all()


def test_interpolates_share_one_coefficient_within_an_example():
    torch.manual_seed(0)
    real, fake = torch.zeros(2000, 2, 3), torch.full((2000, 2, 3), 4.0)
    fake[1] = 8.0
    points = interpolates(real, fake)
    shares = (points / fake)[:, 0, 0]
    assert torch.equal(points, shares[:, None, None] * fake)
    assert float(shares.min()) >= 0
    assert float(shares.max()) <= 1
    # Uniform: mean 1/2 and variance 1/12.
    assert float(shares.mean()) == pytest.approx(0.5, abs=0.03)
    assert float(shares.var()) == pytest.approx(1 / 12, abs=0.005)


def test_weights_are_clipped_in_place():
    weight = nn.Parameter(torch.tensor([-3.0, -0.01, 0.005, 2.0]))
    clip_weights_([weight], 0.01)
    torch.testing.assert_close(weight.data, torch.tensor([-0.01, -0.01, 0.005, 0.01]))
    assert weight.requires_grad


def test_instance_noise_has_the_given_scale():
    torch.manual_seed(0)
    x = torch.full((20000,), 5.0)
    noisy = instance_noise(x, 0.3)
    assert float(noisy.mean()) == pytest.approx(5.0, abs=0.01)
    assert float(noisy.std()) == pytest.approx(0.3, abs=0.01)
    assert instance_noise(x, 0.0) is x


def test_slope_sends_nothing_back_to_where_it_is_measured():
    """The generator that made the points is not trained by it, and a caller's leaf stays one."""
    weight = torch.ones(3, requires_grad=True)
    critic = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1))
    penalty = gradient_penalty(lambda points: critic(points).squeeze(1), weight * torch.ones(5, 3))
    assert torch.autograd.grad(penalty, [weight], allow_unused=True) == (None,)
    plain = torch.ones(5, 3)
    gradient_penalty(lambda points: critic(points).squeeze(1), plain)
    assert not plain.requires_grad
