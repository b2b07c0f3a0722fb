"""Fréchet and kernel distances against scipy, torchmetrics, closed forms and a double loop."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch
from torch import nn
from torchmetrics.image.kid import KernelInceptionDistance

from trellis.metrics.frechet import frechet_distance, kernel_distance, moments


def spread(size: int, rank: int, seed: int) -> torch.Tensor:
    """A random covariance."""
    root = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed))
    return root @ root.T / rank


@pytest.mark.parametrize("rank", [12, 5])
def test_frechet_is_that_of_a_matrix_root(rank: int) -> None:
    """Heusel et al.'s own way; ``sqrtm`` is inexact for the singular matrices of rank 5."""
    one, two = spread(12, 12, 1).double(), spread(12, rank, 2).double()
    mean1, mean2 = torch.randn(2, 12, generator=torch.Generator().manual_seed(3)).double()
    root = scipy.linalg.sqrtm((one @ two).numpy())
    expected = ((mean1 - mean2) ** 2).sum() + one.trace() + two.trace() - 2 * np.trace(root).real
    found = frechet_distance(mean1, one, mean2, two)
    assert found == pytest.approx(float(expected), rel=1e-9 if rank == 12 else 1e-4)


def test_frechet_of_commuting_covariances() -> None:
    """Then it is the sum over the axes of (m1 - m2)^2 + (s1 - s2)^2."""
    generator = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(6, 6, generator=generator).double()).Q
    s1, s2 = torch.rand(2, 6, generator=generator).double()
    s1[0] = 0
    mean = torch.randn(6, generator=generator).double()
    one, two = (turn @ torch.diag(s.square()) @ turn.T for s in (s1, s2))
    expected = mean.square().sum() + (s1 - s2).square().sum()
    assert frechet_distance(mean, one, 0 * mean, two) == pytest.approx(float(expected), rel=1e-7)


def test_frechet_properties() -> None:
    zero, one, two = torch.zeros(8), spread(8, 8, 4), spread(8, 3, 5)
    assert frechet_distance(zero, two, zero, two) == pytest.approx(0, abs=1e-6)
    there, back = frechet_distance(zero, one, zero, two), frechet_distance(zero, two, zero, one)
    assert there == pytest.approx(back)
    assert there > 0.1
    assert math.isnan(frechet_distance(zero, one, zero, two / 0))


def test_frechet_never_falls_below_zero() -> None:
    for seed in range(20):
        cov = spread(20, 4, seed)
        assert 0 <= frechet_distance(torch.zeros(20), cov, torch.zeros(20), cov.clone()) < 1e-5


def test_moments_are_numpys() -> None:
    x = 3 + torch.randn(50, 7, generator=torch.Generator().manual_seed(0))
    mean, cov = moments(x)
    np.testing.assert_allclose(mean, x.double().numpy().mean(0), atol=1e-12)
    np.testing.assert_allclose(cov, np.cov(x.double().numpy().T), atol=1e-12)


def naive_kernel_distance(x: torch.Tensor, y: torch.Tensor) -> float:
    def k(a, b) -> float:
        return (sum(p * q for p, q in zip(a, b, strict=True)) / len(a) + 1) ** 3

    x, y = x.tolist(), y.tolist()
    n, m = len(x), len(y)
    xx = sum(k(x[i], x[j]) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    yy = sum(k(y[i], y[j]) for i in range(m) for j in range(m) if i != j) / (m * (m - 1))
    return xx + yy - 2 * sum(k(a, b) for a in x for b in y) / (n * m)


@pytest.mark.parametrize("rows", [1024, 5])
def test_kernel_distance_is_the_double_loop(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trellis.metrics.frechet.ROWS", rows)
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(12, 4, generator=generator), torch.rand(9, 4, generator=generator)
    assert kernel_distance(x, y) == pytest.approx(naive_kernel_distance(x, y), rel=1e-6)
    assert kernel_distance(y, x) == pytest.approx(kernel_distance(x, y))


@pytest.mark.filterwarnings("ignore:Metric `Kernel Inception Distance`")
def test_kernel_distance_is_torchmetrics_on_one_subset() -> None:
    generator = torch.Generator().manual_seed(1)
    x, y = (
        torch.rand(40, 1, 4, 4, generator=generator),
        torch.rand(40, 1, 4, 4, generator=generator) ** 2,
    )
    metric = KernelInceptionDistance(nn.Flatten(), subsets=1, subset_size=40, normalize=True)
    metric.inception.num_features = 16
    metric.update(x, real=True)
    metric.update(y, real=False)
    expected = float(metric.compute()[0])
    assert kernel_distance(x.flatten(1), y.flatten(1)) == pytest.approx(expected, rel=1e-4)


def test_the_distance_of_samples_of_one_distribution_is_zero_on_average() -> None:
    """The estimate is unbiased: its mean over draws is 0 within its own error."""
    generator = torch.Generator().manual_seed(2)
    found = [
        kernel_distance(*torch.randn(2, 40, 3, generator=generator).unbind()) for _ in range(200)
    ]
    values = torch.tensor(found)
    error = values.std() / math.sqrt(len(values))
    assert values.mean().abs() < 3 * error
    assert (values < 0).any()
    moved = torch.randn(2, 40, 3, generator=generator)
    assert kernel_distance(moved[0], moved[1] + 1) > 10 * values.std()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: moments(torch.zeros(1, 3)), r"features \[1, 3\]: .* N at least 2"),
        (lambda: kernel_distance(torch.zeros(4), torch.zeros(4, 1)), r"x \[4\]"),
        (
            lambda: kernel_distance(torch.zeros(4, 2), torch.zeros(4, 1)),
            "differ in their number of features",
        ),
        (
            lambda: frechet_distance(torch.zeros(2), torch.eye(2), torch.zeros(2), torch.eye(3)),
            r"cov2 \[3, 3\]: give \[2, 2\]",
        ),
    ],
)
def test_shapes_must_fit(call, match) -> None:
    with pytest.raises(ValueError, match=match):
        call()
