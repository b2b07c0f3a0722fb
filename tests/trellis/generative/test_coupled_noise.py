"""Noise and examples in pairs: the smallest sum of distances of all orders, nothing lost."""

from itertools import permutations

import pytest
import torch

from trellis.generative.coupled_noise import couple


def test_optimal_pairs_are_the_best_of_all_orders() -> None:
    torch.manual_seed(0)
    noise, x = torch.randn(6, 2, 3), torch.randn(6, 2, 3)
    found = couple(noise, x, "optimal")
    best = min((noise[list(order)] - x).square().sum() for order in permutations(range(6)))
    torch.testing.assert_close((found - x).square().sum(), best)
    assert sorted(found.flatten().tolist()) == sorted(noise.flatten().tolist())


def test_independent_noise_stays_as_it_is() -> None:
    noise = torch.randn(4, 2)
    assert couple(noise, torch.randn(4, 2), "independent") is noise
    with pytest.raises(ValueError, match=r"coupling='best'.*optimal"):
        couple(noise, noise, "best")
