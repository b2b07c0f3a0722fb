"""The squashed Gaussian beside torch's own composition of transforms."""

import pytest
import torch
from torch.distributions import (
    AffineTransform,
    Categorical,
    Independent,
    Normal,
    TransformedDistribution,
    kl_divergence,
)
from torch.distributions.transforms import TanhTransform

from trellis.rl.distribution import FastCategorical, SquashedGaussian

LOW, HIGH = torch.tensor([-2.0, 0.0, 1.0]).double(), torch.tensor([2.0, 0.5, 7.0]).double()


def pair() -> tuple[SquashedGaussian, TransformedDistribution, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(6, 3, generator=generator).double().requires_grad_()
    log_std = torch.randn(6, 3, generator=generator).double().mul(0.5).requires_grad_()
    transforms = [TanhTransform(), AffineTransform((HIGH + LOW) / 2, (HIGH - LOW) / 2, 1)]
    reference = TransformedDistribution(
        Independent(Normal(mean, log_std.exp()), 1), transforms, validate_args=False
    )
    return SquashedGaussian(mean, log_std, LOW, HIGH), reference, mean, log_std


def test_log_prob_is_torchs() -> None:
    ours, reference, *parameters = pair()
    fractions = torch.rand(6, 3, generator=torch.Generator().manual_seed(1)).double()
    actions = LOW + (HIGH - LOW) * (0.02 + 0.96 * fractions)
    found, expected = ours.log_prob(actions), reference.log_prob(actions)
    assert found.shape == (6,)
    torch.testing.assert_close(found, expected)
    for a, b in zip(
        torch.autograd.grad(found.sum(), parameters),
        torch.autograd.grad(expected.sum(), parameters),
        strict=True,
    ):
        torch.testing.assert_close(a, b)


def test_samples_are_torchs_and_know_their_log_prob() -> None:
    ours, reference, mean, log_std = pair()
    torch.manual_seed(0)
    action, log_prob = ours.rsample_with_log_prob()
    torch.manual_seed(0)
    torch.testing.assert_close(action, reference.rsample())
    torch.testing.assert_close(log_prob, reference.log_prob(action.detach()))
    torch.testing.assert_close(log_prob, ours.log_prob(action))
    # Along the sample, dE/dmean: the gradient goes through the action and through the density.
    torch.manual_seed(0)
    again = reference.rsample()
    loss, expected = (action.square().sum() - log_prob.sum()), again.square().sum()
    expected = expected - reference.log_prob(again).sum()
    for a, b in zip(
        torch.autograd.grad(loss, [mean, log_std]),
        torch.autograd.grad(expected, [mean, log_std]),
        strict=True,
    ):
        torch.testing.assert_close(a, b)
    many = ours.sample((500,))
    assert many.shape == (500, 6, 3)
    assert not many.requires_grad
    assert bool(((many >= LOW) & (many <= HIGH)).all())


def test_the_density_integrates_to_one() -> None:
    one = torch.ones(1).double()
    distribution = SquashedGaussian(0.7 * one, -0.3 * one, -3 * one, 5 * one)
    x = torch.linspace(-3, 5, 200_001).double()[:, None]
    assert float(torch.trapezoid(distribution.log_prob(x).exp(), dx=8 / 200_000)) == (
        pytest.approx(1.0, abs=1e-4)
    )
    assert distribution.mode.item() == pytest.approx(1 + 4 * 0.6043677771171636)


def test_far_out_nothing_overflows() -> None:
    """In float32 tanh(30) is 1, where the naive logarithm is that of zero."""
    mean = torch.full((1, 1), 30.0, requires_grad=True)
    distribution = SquashedGaussian(mean, torch.zeros(1, 1), -torch.ones(1), torch.ones(1))
    torch.manual_seed(0)
    action, log_prob = distribution.rsample_with_log_prob()
    assert action.item() == 1.0
    # ln N(0 +- few) + 2 |u| - 2 ln 2, with u about 30.
    assert 50 < log_prob.item() < 65
    log_prob.backward()
    assert mean.grad is not None
    assert mean.grad.item() == pytest.approx(2.0)
    for edge in (-1.0, 1.0):
        assert torch.isfinite(distribution.log_prob(torch.full((1, 1), edge))).all()


def choices() -> tuple[FastCategorical, Categorical, torch.Tensor]:
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)).mul(3).double()
    logits.requires_grad_()
    return FastCategorical(logits), Categorical(logits=logits), logits


def test_a_choice_is_torchs_categorical() -> None:
    ours, reference, logits = choices()
    numbers = torch.tensor([0, 2, 1, 1, 0])
    other = Categorical(logits=torch.zeros(5, 3).double())
    for found, expected in (
        (ours.log_prob(numbers), reference.log_prob(numbers)),
        (ours.log_prob(numbers[:4, None]), reference.log_prob(numbers[:4, None])),
        (ours.entropy(), reference.entropy()),
        (kl_divergence(ours, other), kl_divergence(reference, other)),
        (ours.probs, reference.probs),
    ):
        torch.testing.assert_close(found, expected)
        weights = torch.arange(1.0, found.numel() + 1).view_as(found).double()
        (mine,) = torch.autograd.grad((weights * found).sum(), logits, retain_graph=True)
        (theirs,) = torch.autograd.grad((weights * expected).sum(), logits, retain_graph=True)
        torch.testing.assert_close(mine, theirs)
    assert torch.equal(ours.mode, reference.mode)
    wide = ours.expand((2, 5))
    assert wide.batch_shape == (2, 5)
    torch.testing.assert_close(wide.entropy()[1], reference.entropy())


@pytest.mark.parametrize("shape", [(), (7,), (2, 3)])
def test_a_choice_draws_what_torch_draws(shape: tuple[int, ...]) -> None:
    ours, reference, _ = choices()
    torch.manual_seed(0)
    found = ours.sample(shape)
    torch.manual_seed(0)
    expected = reference.sample(shape)
    assert found.shape == (*shape, 5)
    assert not found.requires_grad
    if not shape:  # of many at once torch draws all of one choice, then all of the next
        assert torch.equal(found, expected)
    often = ours.sample((4000,))
    shares = torch.stack([(often == number).double().mean(0) for number in range(3)], -1)
    torch.testing.assert_close(shares, reference.probs.detach(), atol=0.03, rtol=0)
