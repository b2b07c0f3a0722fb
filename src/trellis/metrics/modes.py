"""Which modes or classes of the data the samples reach.

Legend: N samples, K modes, C classes, D dimensions.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

LEAST_SHARE = 0.25  # of its fair share of the samples, for a mode or class to count as reached


class ModesReached(NamedTuple):
    """What ``mode_coverage`` finds.

    Args:
        modes: how many modes the samples reach.
        high_quality: share of the samples that lie near a mode.
    """

    modes: int
    high_quality: float


class ClassesReached(NamedTuple):
    """What ``class_coverage`` finds.

    Args:
        classes: how many classes the samples reach.
        ratio: largest factor between a class's share of the samples and of the data, at least 1;
            infinite where a class of the data has no sample.
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
    """Modes that samples reach, and the share of samples near any mode.

    A sample is of high quality if it lies within ``radius`` standard deviations of the nearest
    centre. A mode is reached if at least ``least`` times its fair share N / K of all samples are
    of high quality and nearest to it.

    Args:
        x: samples; one that is not finite lies near no mode.
        centres: of the modes.
        scale: standard deviation of every mode along each axis, or one for each mode.
        radius: how many standard deviations are near.
        least: share of a fair share that counts; 0 counts a mode with any sample, as Srivastava
            et al. do, for whom a smear that brushes each mode has found all of them.
    Shape:
        x ``[N, D]``, centres ``[K, D]``, scale ``[K]`` if it is a tensor
    Raises:
        ValueError: shapes that do not fit, no samples, or a size that is not positive.

    Source: Srivastava et al. 2017 (VEEGAN), section 4.1. Deviates: the least share.

    >>> centres = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    >>> mode_coverage(torch.tensor([[0.1, 0.0], [0.0, 0.2], [0.9, 0.0]]), centres, 0.1)
    ModesReached(modes=1, high_quality=0.6666666865348816)
    """
    if x.dim() != 2 or centres.dim() != 2 or x.size(1) != centres.size(1):
        raise ValueError(
            f"x {list(x.shape)} does not fit centres {list(centres.shape)}: give x [N, D] and "
            f"centres [K, D]"
        )
    if len(x) == 0 or len(centres) == 0:
        raise ValueError(f"{len(x)} samples and {len(centres)} centres: give at least one of each")
    scale = torch.as_tensor(scale, dtype=x.dtype, device=x.device)
    if scale.dim() > 1 or scale.numel() not in (1, len(centres)) or not bool((scale > 0).all()):
        raise ValueError(f"scale={scale.tolist()}: give a positive number, or one for each mode")
    if not radius > 0:
        raise ValueError(f"radius={radius}: give more than 0 standard deviations")
    # Not cdist, whose matrix products blur small distances far from the origin.
    distance = (x[:, None] - centres.to(x)).square().sum(-1).sqrt()  # [N, K]
    nearest = distance.argmin(1)
    reach = radius * scale.expand(len(centres))[nearest]
    near = distance.gather(1, nearest[:, None])[:, 0] <= reach
    counts = torch.bincount(nearest[near], minlength=len(centres))
    reached = _reached(counts / len(x), torch.ones_like(counts) / len(centres), least)
    return ModesReached(int(reached.sum()), near.float().mean().item())


def class_coverage(
    labels: Tensor, shares: Tensor, *, least: float = LEAST_SHARE
) -> ClassesReached:
    """Classes that samples reach, and how far their shares are from those of the data.

    A class is reached if the samples hold at least ``least`` times its share of the data.

    Args:
        labels: class of each sample, as a classifier sees it.
        shares: of the classes among the data, or their counts.
        least: share of a class's share that counts.
    Shape:
        labels ``[N]``, shares ``[C]``
    Raises:
        ValueError: no samples, a label outside the classes, or shares that are none.

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
    reached = _reached(found, expected, least)
    known = (found > 0) | (expected > 0)  # a class of neither differs in nothing
    factors = (found[known] / expected[known]).log().abs()
    return ClassesReached(int(reached.sum()), math.exp(factors.max().item()))


def _reached(found: Tensor, shares: Tensor, least: float) -> Tensor:
    if not 0 <= least <= 1:
        raise ValueError(f"least={least}: give a share of the fair share, 0 to 1")
    return (found > 0) & (found >= least * shares)
