"""Divergences against torch.distributions, scipy, the courses' identities and brute force."""

import math

import numpy as np
import pytest
import scipy.optimize
import scipy.stats
import torch
from scipy.spatial.distance import jensenshannon
from torch.distributions import Categorical
from torch.distributions import kl_divergence as torch_kl

from trellis.functional.divergence import (
    adversarial,
    bregman_divergence,
    chi2_divergence,
    f_divergence,
    js_divergence,
    kl_divergence,
    negative_entropy,
    optimal_transport,
    squared_deviation,
    wasserstein_1d,
)


def two(*shape: int, seed: int = 0) -> torch.Tensor:
    logits = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed)).double()
    return logits.softmax(-1)


P, Q = two(5, 7)


def test_kl_both_ways_is_torchs() -> None:
    for p, q in ((P, Q), (Q, P)):
        torch.testing.assert_close(kl_divergence(p, q), torch_kl(Categorical(p), Categorical(q)))
    assert not torch.allclose(kl_divergence(P, Q), kl_divergence(Q, P))


def test_js_is_scipys_squared_distance() -> None:
    expected = jensenshannon(P.numpy(), Q.numpy(), axis=1) ** 2
    np.testing.assert_allclose(js_divergence(P, Q), expected)
    torch.testing.assert_close(js_divergence(P, Q), js_divergence(Q, P))


def test_chi2_is_scipys() -> None:
    for p, q in zip(P, Q, strict=True):
        expected = scipy.stats.chisquare(p.numpy(), q.numpy()).statistic
        assert float(chi2_divergence(p, q)) == pytest.approx(expected)


def test_nothing_shared_and_nothing_apart() -> None:
    """The courses' note says 0 for the first; it is ln 2."""
    left, right = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.0, 1.0])
    assert float(js_divergence(left, right)) == pytest.approx(math.log(2))
    assert kl_divergence(left, right) == chi2_divergence(left, right) == math.inf
    wide = torch.tensor([0.5, 0.25, 0.25])
    assert float(kl_divergence(left, wide)) == pytest.approx(0.5 * math.log(2))
    assert kl_divergence(wide, left) == math.inf
    assert float(chi2_divergence(left, wide)) == pytest.approx(0.5)
    for divergence in (kl_divergence, js_divergence, chi2_divergence):
        assert divergence(left, left) == 0


def test_the_optimal_discriminators_value_is_2_js_less_2_ln_2() -> None:
    """V = E_p ln D + E_q ln (1 - D) at D = p / (p + q), Goodfellow et al. 2014, theorem 1."""
    best = P / (P + Q)
    value = (P * best.log() + Q * (1 - best).log()).sum(-1)
    torch.testing.assert_close(value, 2 * js_divergence(P, Q) - 2 * math.log(2))
    assert float(2 * js_divergence(P[0], P[0]) - 2 * math.log(2)) == pytest.approx(-1.386294)


def test_bregman_of_entropy_is_the_generalised_kl() -> None:
    p, q = 3 * torch.rand(2, 4, 6, generator=torch.Generator().manual_seed(1)).double()
    expected = (p * (p / q).log() + (q - p)).sum(-1)
    torch.testing.assert_close(bregman_divergence(p, q, negative_entropy), expected)
    torch.testing.assert_close(bregman_divergence(P, Q, negative_entropy), kl_divergence(P, Q))


def test_bregman_of_squares_is_the_squared_distance() -> None:
    expected = (P - Q).square().sum(-1)
    torch.testing.assert_close(bregman_divergence(P, Q, squared_deviation), expected)
    torch.testing.assert_close(bregman_divergence(P, Q, lambda p: p**2 + 5 * p - 2), expected)


def test_bregman_is_the_gap_to_the_tangent() -> None:
    """By finite differences, for the generator of GANs."""
    p, q = torch.tensor([[0.7]]).double(), torch.tensor([[2.5]]).double()
    step = 1e-5
    slope = (adversarial(q + step) - adversarial(q - step)) / (2 * step)
    expected = (adversarial(p) - adversarial(q) - slope * (p - q)).sum(-1)
    torch.testing.assert_close(bregman_divergence(p, q, adversarial), expected)


def test_f_divergences_of_the_courses_generators() -> None:
    torch.testing.assert_close(f_divergence(P, Q, negative_entropy), kl_divergence(P, Q))
    torch.testing.assert_close(f_divergence(P, Q, squared_deviation), chi2_divergence(P, Q))
    torch.testing.assert_close(f_divergence(P, Q, adversarial), 2 * js_divergence(P, Q))
    torch.testing.assert_close(f_divergence(P, Q, lambda u: -u.log()), kl_divergence(Q, P))


def test_generators_are_what_they_say() -> None:
    """The divergences leave out what is linear in them."""
    half = torch.tensor(0.5).double()
    assert float(negative_entropy(half)) == pytest.approx(-0.5 * math.log(2))
    assert float(squared_deviation(half)) == 0.25
    expected = -0.5 * math.log(2) - 1.5 * math.log(1.5)
    assert float(adversarial(half)) == pytest.approx(expected)
    assert negative_entropy(0 * half) == adversarial(0 * half) == 0


@pytest.mark.parametrize(
    "divergence",
    [
        kl_divergence,
        js_divergence,
        chi2_divergence,
        lambda p, q: f_divergence(p, q, adversarial),
        lambda p, q: bregman_divergence(p, q, negative_entropy),
    ],
)
def test_gradients_are_those_of_finite_differences(divergence) -> None:
    p, q = P[0].clone().requires_grad_(), Q[0].clone().requires_grad_()
    assert torch.autograd.gradcheck(divergence, (p, q))


@pytest.mark.parametrize("divergence", [kl_divergence, js_divergence, chi2_divergence])
def test_other_outcomes_are_refused(divergence) -> None:
    with pytest.raises(ValueError, match=r"p \[5, 7\] and q \[5, 6\]: give the same outcomes"):
        divergence(P, Q[:, :6])
    # A leading dimension broadcasts.
    torch.testing.assert_close(divergence(P, Q[0])[1], divergence(P[1], Q[0]))


def test_f_divergence_divides_by_no_zero() -> None:
    with pytest.raises(ValueError, match="q has an outcome of probability 0"):
        f_divergence(torch.tensor([0.5, 0.5]), torch.tensor([1.0, 0.0]), negative_entropy)


# --- Wasserstein -----------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_on_the_line_it_is_scipys(weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(9, generator=generator).double(), torch.randn(5, generator=generator)
    y = (2 * y + 1).double()
    y[0] = x[0]
    weights = [None, None]
    if weighted:
        weights = [torch.rand(len(z), generator=generator).double() for z in (x, y)]
        weights = [w / w.sum() for w in weights]
    expected = scipy.stats.wasserstein_distance(x.numpy(), y.numpy(), *weights)
    assert float(wasserstein_1d(x, y, *weights)) == pytest.approx(expected)
    points = x.clone().requires_grad_(), y.clone().requires_grad_()
    if not weighted:
        points[1].data[0] += 0.1  # where two numbers meet there is a kink
    assert torch.autograd.gradcheck(lambda a, b: wasserstein_1d(a, b), points)


def test_on_the_line_transport_agrees() -> None:
    x, y = torch.tensor([0.0, 1.0, 3.0]), torch.tensor([0.5, 4.0])
    p, q = torch.tensor([0.2, 0.5, 0.3]), torch.tensor([0.6, 0.4])
    cost = (x[:, None] - y).abs()
    assert float(wasserstein_1d(x, y, p, q)) == pytest.approx(
        optimal_transport(p, q, cost).distance
    )


def test_transport_of_equal_masses_is_an_assignment() -> None:
    cost = torch.rand(6, 6, generator=torch.Generator().manual_seed(3))
    rows, columns = scipy.optimize.linear_sum_assignment(cost.numpy())
    even = torch.full((6,), 1 / 6)
    found = optimal_transport(even, even, cost)
    assert found.distance == pytest.approx(float(cost[rows, columns].mean()), rel=1e-6)


def test_plan_and_prices_prove_each_other() -> None:
    """Both are feasible and cost the same, so both are optimal (Kantorovich)."""
    p, q = two(4, seed=5)[0], two(6, seed=6)[1]
    cost = torch.rand(4, 6, generator=torch.Generator().manual_seed(7)).double()
    found = optimal_transport(p, q, cost)
    assert (found.plan >= 0).all()
    torch.testing.assert_close(found.plan.sum(1), p)
    torch.testing.assert_close(found.plan.sum(0), q)
    slack = cost - found.x_potential[:, None] - found.y_potential
    assert (slack > -1e-9).all()
    primal = float((found.plan * cost).sum())
    dual = float(found.x_potential @ p + found.y_potential @ q)
    assert found.distance == pytest.approx(primal) == pytest.approx(dual)


def test_it_sees_how_far_apart_strangers_are() -> None:
    """JS is ln 2 at any distance (Arjovsky et al. 2017, example 1)."""
    positions = torch.arange(10.0)
    cost = (positions[:, None] - positions).abs()
    for shift in (1, 4, 9):
        p, q = torch.eye(10)[0], torch.eye(10)[shift]
        assert float(js_divergence(p, q)) == pytest.approx(math.log(2))
        assert optimal_transport(p, q, cost).distance == pytest.approx(shift)


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: wasserstein_1d(P, Q), r"x \[5, 7\]: give numbers \[N\]"),
        (lambda: wasserstein_1d(P[0], Q[0][:0]), r"y \[0\]: .* at least one"),
        (lambda: wasserstein_1d(P[0], Q[0], P[0][:3]), r"x_weights \[3\]: .* each x, \[7\]"),
        (lambda: optimal_transport(P[0], Q[0], torch.zeros(7, 6)), r"cost \[7, 6\]"),
        (lambda: optimal_transport(P[0], 2 * Q[0], torch.zeros(7, 7)), "p adds up to 1, q to 2"),
        (
            lambda: optimal_transport(
                torch.tensor([1.5, -0.5]), torch.tensor([0.5, 0.5]), torch.zeros(2, 2)
            ),
            "give probabilities",
        ),
    ],
)
def test_what_has_no_distance_is_refused(call, match) -> None:
    with pytest.raises(ValueError, match=match):
        call()
