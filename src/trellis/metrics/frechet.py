"""Distances between two sets of features, such as those of real and generated images.

Legend: N and M examples, D features.
"""

import math

import torch
from torch import Tensor

ROWS = 1024  # of the kernel matrix that are in memory at once


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased covariance of features, in double precision.

    Args:
        features: one row for each example.
    Shape:
        ``[N, D]`` -> ``[D]`` and ``[D, D]``
    Raises:
        ValueError: another shape, or fewer than two examples.
    """
    _check("features", features)
    features = features.double()
    mean = features.mean(0)
    centred = features - mean
    return mean, centred.T @ centred / (len(features) - 1)


def frechet_distance(mean1: Tensor, cov1: Tensor, mean2: Tensor, cov2: Tensor) -> float:
    r"""Squared Fréchet distance of two Gaussians: the FID, if fitted to features of Inception.

    .. math:: |\mu_1 - \mu_2|^2
        + \operatorname{tr}\left(C_1 + C_2 - 2 (C_1^{1/2} C_2 C_1^{1/2})^{1/2}\right)

    Its estimate from samples has a positive bias that decreases with their number: compare
    distances of equally many samples only.

    Args:
        mean1: of the first Gaussian.
        cov1: its covariance, which may be singular.
        mean2: of the second one.
        cov2: its covariance.
    Shape:
        means ``[D]``, covariances ``[D, D]``
    Returns:
        The distance; NaN if any input is not finite.
    Raises:
        ValueError: shapes that do not fit.

    Source: Dowson and Landau 1982; Heusel et al. 2017 (FID).

    >>> one, two = torch.tensor([[1.0]]), torch.tensor([[9.0]])
    >>> round(frechet_distance(torch.zeros(1), one, torch.ones(1), two), 6)  # 1 + (3 - 1)^2
    5.0
    """
    size = mean1.numel()
    for name, value, shape in (
        ("mean1", mean1, (size,)),
        ("cov1", cov1, (size, size)),
        ("mean2", mean2, (size,)),
        ("cov2", cov2, (size, size)),
    ):
        if value.shape != shape:
            raise ValueError(f"{name} {list(value.shape)}: give {list(shape)}, to fit mean1")
    given = (mean1, cov1, mean2, cov2)
    if not all(bool(value.isfinite().all()) for value in given):
        return math.nan
    mean1, cov1, mean2, cov2 = (value.double() for value in given)
    # tr (A C2 A)^1/2 is the sum of the singular values of A B, with A and B the square roots.
    cross = torch.linalg.svdvals(_square_root(cov1) @ _square_root(cov2)).sum()
    distance = (mean1 - mean2).square().sum() + cov1.trace() + cov2.trace() - 2 * cross
    return max(distance.item(), 0.0)  # against rounding errors


def _square_root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * values.clamp(min=0).sqrt()) @ vectors.T


def kernel_distance(x: Tensor, y: Tensor) -> float:
    r"""Kernel distance (KID): unbiased squared maximum mean discrepancy with a cubic kernel.

    .. math:: \frac{\sum_{i \ne j} k(x_i, x_j)}{N (N - 1)}
        + \frac{\sum_{i \ne j} k(y_i, y_j)}{M (M - 1)}
        - \frac{2 \sum_{i, j} k(x_i, y_j)}{N M}, \quad k(a, b) = (a^T b / D + 1)^3

    As it is unbiased, it is negative about half of the time for samples of one distribution.

    Args:
        x: features of one set.
        y: features of the other.
    Shape:
        x ``[N, D]``, y ``[M, D]``
    Raises:
        ValueError: shapes that do not fit, or fewer than two examples in a set.

    Source: Bińkowski et al. 2018, section 4.
    Deviates: uses all pairs instead of averaging over random subsets of 1,000 examples.

    >>> kernel_distance(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [-1.0]]))
    0.5
    """
    _check("x", x)
    _check("y", y)
    if x.size(1) != y.size(1):
        raise ValueError(
            f"x {list(x.shape)} and y {list(y.shape)} differ in their number of features: give "
            f"[N, D] and [M, D]"
        )
    x, y = x.double(), y.double()
    within = sum((_kernel_sum(z, z) - _cubic(z.square().sum(1), z).sum()) / (len(z) * (len(z) - 1))
                 for z in (x, y))  # fmt: skip
    return (within - 2 * _kernel_sum(x, y) / (len(x) * len(y))).item()


def _kernel_sum(x: Tensor, y: Tensor) -> Tensor:
    return torch.stack([_cubic(part @ y.T, y).sum() for part in x.split(ROWS)]).sum()


def _cubic(product: Tensor, features: Tensor) -> Tensor:
    return (product / features.size(1) + 1) ** 3


def _check(name: str, features: Tensor) -> None:
    if features.dim() != 2 or len(features) < 2:
        raise ValueError(f"{name} {list(features.shape)}: give features [N, D] with N at least 2")
