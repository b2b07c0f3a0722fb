"""Shared by the tests of networks that compute probabilities of discrete examples."""

import math

import torch
from scipy.stats import chi2
from torch import Tensor


def all_examples(shape: tuple[int, ...], num_levels: int = 2) -> Tensor:
    """Every example of ``shape``, ``[num_levels^D, *shape]``, the first entry slowest."""
    levels = torch.arange(num_levels) / (num_levels - 1)
    return torch.cartesian_prod(*[levels] * math.prod(shape)).view(-1, *shape)


def check_frequencies(samples: Tensor, probabilities: Tensor, num_levels: int = 2) -> None:
    """Frequencies of samples fit their probabilities, by a chi-square test; rare ones are pooled.

    Args:
        samples: ``[N, *shape]``.
        probabilities: of ``all_examples``.
    """
    flat = samples.flatten(1).double() * (num_levels - 1)
    places = float(num_levels) ** torch.arange(flat.size(1) - 1, -1, -1).double()
    number = (flat @ places).long()
    assert torch.equal(all_examples(samples.shape[1:], num_levels)[number], samples)
    expected = len(samples) * probabilities.detach().double()
    counts = number.bincount(minlength=len(expected)).double()
    often = expected > 5
    assert often.sum() > 8, "too few to compare"
    rare = expected[~often].sum()
    statistic = ((counts - expected)[often] ** 2 / expected[often]).sum()
    statistic += (counts[~often].sum() - rare) ** 2 / rare.clamp(min=5)
    assert chi2.sf(float(statistic), int(often.sum())) > 1e-3
