"""Mode coverage and class coverage of samples.

Legend: N samples, K modes, C classes, D dimensions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from trellis.checks import does_not_fit

LEAST_SHARE = 0.25  # of its expected share of the samples, for a mode or class to be covered


class ModesReached(NamedTuple):
    """The result of ``mode_coverage``.

    Args:
        modes: number of modes that are covered.
        high_quality: fraction of the samples that lie near a mode.
    """

    modes: int
    high_quality: float


class ClassesReached(NamedTuple):
    """The result of ``class_coverage``.

    Args:
        classes: number of classes that are covered.
        ratio: largest factor between the frequencies of a class among samples and data, in either
            direction; infinite if a class of the data has no sample.
    """

    classes: int
    ratio: float


def mode_coverage(
    x: Tensor,
    centres: Tensor,
    scale: float | Tensor,
    *,
    radius: float = 3.0,
    least: float = LEAST_SHARE,
) -> ModesReached:
    """Number of modes that samples cover, and the fraction of samples near a mode.

    A sample is of high quality if it lies within ``radius`` standard deviations of the nearest
    centre. A mode is covered if at least ``least * N / K`` samples are of high quality and
    nearest to it.

    Args:
        x: samples; one that is not finite is near no mode.
        centres: of the modes.
        scale: standard deviation of all modes along each axis, or one for each mode.
        radius: in standard deviations.
        least: fraction of the expected N / K samples that a covered mode needs. With 0 a single
            sample suffices, as in Srivastava et al., and a broad smear may cover all modes.
    Shape:
        x ``[N, D]``, centres ``[K, D]``, scale ``[K]`` if it is a tensor
    Raises:
        ValueError: shapes that do not fit, no samples, or a size that is not positive.

    Source: Srivastava et al. 2017 (VEEGAN), section 4.1.
    Deviates: ``least``.

    >>> centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    >>> mode_coverage(torch.tensor([[0.1, 0.0], [0.0, 0.2], [0.9, 0.0]]), centres, 0.1)
    ModesReached(modes=1, high_quality=0.6666666865348816)
    """
    if x.dim() != 2 or centres.dim() != 2 or x.size(1) != centres.size(1):
        owner = f"centres {list(centres.shape)}"
        raise does_not_fit("x", x, owner, "[N, D] and centres [K, D]")
    if len(x) == 0 or len(centres) == 0:
        raise ValueError(f"{len(x)} samples and {len(centres)} centres: give at least one of each")
    scale = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    if scale.dim() > 1 or scale.numel() not in (1, len(centres)) or not bool((scale > 0).all()):
        raise ValueError(f"scale={scale.tolist()}: give a positive number, or one for each mode")
    if not radius > 0:
        raise ValueError(f"radius={radius}: give more than 0 standard deviations")
    # Not cdist, whose matrix products lose precision for small distances far from the origin.
    distance = (x[:, None] - centres.to(x)).square().sum(-1).sqrt()  # [N, K]
    nearest = distance.argmin(1)
    limit = radius * scale.expand(len(centres))[nearest]
    near = distance.gather(1, nearest[:, None])[:, 0] <= limit
    counts = torch.bincount(nearest[near], minlength=len(centres))
    covered = _covered(counts / len(x), torch.ones_like(counts) / len(centres), least)
    return ModesReached(int(covered.sum()), near.float().mean().item())


def class_coverage(
    labels: Tensor, shares: Tensor, *, least: float = LEAST_SHARE
) -> ClassesReached:
    """Number of classes that samples cover, and how much their frequencies differ from the data's.

    A class is covered if its frequency among the samples is at least ``least`` times that in the
    data.

    Args:
        labels: class of each sample, predicted by a classifier.
        shares: frequencies of the classes in the data, or their counts.
        least: fraction of its frequency in the data that a covered class needs.
    Shape:
        labels ``[N]``, shares ``[C]``
    Raises:
        ValueError: no samples, a label outside the classes, or shares that are negative or all 0.

    >>> class_coverage(torch.tensor([0, 0, 0, 1]), torch.tensor([0.5, 0.5]))
    ClassesReached(classes=2, ratio=2.0)
    """
    if labels.dim() != 1 or labels.is_floating_point() or len(labels) == 0:
        raise ValueError(
            f"labels {list(labels.shape)} of {labels.dtype}: give integers [N], N > 0"
        )
    if shares.dim() != 1 or not bool((shares >= 0).all()) or not float(shares.sum()) > 0:
        raise ValueError(f"shares={shares.tolist()}: give shares or counts [C], not negative")
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= len(shares):
        raise ValueError(f"labels lie in [{low}, {high}], shares are of {len(shares)} classes")
    expected = shares.to(labels.device, torch.double)
    expected = expected / expected.sum()
    counts = torch.bincount(labels, minlength=len(shares))
    found = counts.double() / len(labels)
    covered = _covered(found, expected, least)
    present = (found > 0) | (expected > 0)
    factors = (found[present] / expected[present]).log().abs()
    return ClassesReached(int(covered.sum()), math.exp(factors.max().item()))


def _covered(found: Tensor, expected: Tensor, least: float) -> Tensor:
    if not 0 <= least <= 1:
        raise ValueError(f"least={least}: give a fraction of the expected share, 0 to 1")
    return (found > 0) & (found >= least * expected)
