"""Mixtures of discretized logistics against the formula of the paper, sums, and samples."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from trellis.generative.pixel_distribution import LevelLogits, LogisticMixture


def parameters_of(mixture: LogisticMixture, *shape: int, seed: int = 0) -> Tensor:
    """Narrow enough that levels differ, and coefficients that are not small."""
    torch.manual_seed(seed)
    parameters = torch.randn(shape[0], mixture.num_parameters, *shape[1:])
    rest = parameters[:, mixture.num_components :].unflatten(1, (mixture.num_components, -1))
    rest[:, :, mixture.channels : 2 * mixture.channels] -= 1.5
    return parameters


def every_pixel(channels: int, num_levels: int) -> Tensor:
    levels = torch.arange(num_levels) / (num_levels - 1)
    return torch.cartesian_prod(*[levels] * channels).view(-1, channels)


def sigmoid(x: float) -> float:
    return 1 / (1 + np.exp(-x)) if x > -700 else 0.0


def papers_probability(levels: list[int], given: np.ndarray, count: int, num_levels: int) -> float:
    """Salimans et al. 2017, eq. 2 and 3, of a pixel of three colours.

    Args:
        levels: of red, green and blue.
        given: parameters, logits of all components first.
        count: of components.
    """
    red, green, blue = x = [2 * level / (num_levels - 1) - 1 for level in levels]
    weights = np.exp(given[:count]) / np.exp(given[:count]).sum()
    total = 0.0
    for weight, part in zip(weights, given[count:].reshape(count, 9), strict=True):
        alpha, beta, gamma = np.tanh(part[6:])
        means = [part[0], part[1] + alpha * red, part[2] + beta * red + gamma * green]
        product = weight
        for value, level, mean, log_scale in zip(x, levels, means, part[3:6], strict=True):
            scale, half = math.exp(max(log_scale, -7)), 1 / (num_levels - 1)
            upper = 1.0 if level == num_levels - 1 else sigmoid((value + half - mean) / scale)
            lower = 0.0 if level == 0 else sigmoid((value - half - mean) / scale)
            product *= upper - lower
        total += product
    return total


@pytest.mark.parametrize("num_levels", [4, 256])
def test_colours_have_the_probability_of_the_paper(num_levels: int) -> None:
    mixture = LogisticMixture(3, num_levels, 5)
    parameters = parameters_of(mixture, 12, 2).double()
    levels = torch.randint(num_levels, (12, 3, 2))
    levels[0], levels[1] = 0, num_levels - 1
    found = mixture.log_prob(levels / (num_levels - 1), parameters)
    assert found.shape == (12, 2)
    for example, place in itertools.product(range(12), range(2)):
        seen = levels[example, :, place].tolist()
        given = parameters[example, :, place].numpy()
        expected = papers_probability(seen, given, 5, num_levels)
        assert found[example, place].exp().item() == pytest.approx(expected, rel=1e-8, abs=1e-14)


@pytest.mark.parametrize(("channels", "num_levels"), [(1, 256), (1, 2), (2, 6), (3, 4)])
def test_the_probabilities_of_all_levels_sum_to_one(channels: int, num_levels: int) -> None:
    mixture = LogisticMixture(channels, num_levels, 3)
    assert mixture.num_parameters == {1: 9, 2: 18, 3: 30}[channels]
    x = every_pixel(channels, num_levels)
    parameters = parameters_of(mixture, 1).expand(len(x), -1)
    assert mixture.log_prob(x, parameters).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(("channels", "num_levels"), [(1, 9), (2, 5), (3, 3)])
def test_samples_are_as_frequent_as_they_are_likely(channels: int, num_levels: int) -> None:
    mixture, x = LogisticMixture(channels, num_levels, 2), every_pixel(channels, num_levels)
    parameters = parameters_of(mixture, 1, seed=1)
    likely = mixture.log_prob(x, parameters.expand(len(x), -1)).exp()
    generator = torch.Generator().manual_seed(0)
    drawn = mixture.sample(parameters.expand(40_000, -1), generator)
    assert drawn.shape == (40_000, channels)
    equal = (drawn[:, None] - x).abs().amax(2) < 1e-5
    assert equal.any(1).all(), "each is a level"
    often = equal.float().mean(0)
    error = (likely * (1 - likely) / 40_000).sqrt()
    assert ((often - likely).abs() < 4 * error + 1e-4).all()
    assert likely.max() < 0.9


def test_a_far_narrow_component_stays_finite_and_learns() -> None:
    mixture = LogisticMixture(3, 256, 1)
    parameters = torch.zeros(1, 10)
    parameters[:, 1:4], parameters[:, 4:7] = 0.9, -20.0
    parameters.requires_grad_()
    log_prob = mixture.log_prob(torch.tensor([[0.0, 10 / 255, 1.0]]), parameters)
    log_prob.sum().backward()
    assert -1e5 < log_prob.item() < -1000
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()
    assert (parameters.grad[0, 1:3] < 0).all(), "towards the darker levels"


def test_half_precision_is_for_the_network_alone() -> None:
    mixture = LogisticMixture(3, 256, 2)
    rounded = parameters_of(mixture, 50).bfloat16()
    x = torch.randint(256, (50, 3)) / 255
    expected = mixture.log_prob(x, rounded.float())
    assert mixture.log_prob(x, rounded).equal(expected)
    drawn = mixture.sample(rounded, torch.Generator().manual_seed(0)) * 255
    torch.testing.assert_close(drawn, drawn.round(), atol=1e-4, rtol=0)


def test_levels_by_logits_are_a_softmax() -> None:
    levels, logits = LevelLogits(4), torch.randn(6, 4, 2)
    x = torch.randint(4, (6, 1, 2))
    expected = logits.log_softmax(1).gather(1, x).squeeze(1)
    torch.testing.assert_close(levels.log_prob(x / 3, logits), expected)
    with pytest.raises(ValueError, match="x holds 0.5, which is none of the 4 levels"):
        levels.log_prob(torch.full((6, 1, 2), 0.5), logits)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((0, 4, 1), "channels=0"), ((1, 1, 1), "num_levels=1"), ((1, 4, 0), "num_components=0")],
)
def test_sizes_are_checked(sizes: tuple[int, int, int], message: str) -> None:
    with pytest.raises(ValueError, match=f"{message}: give at least"):
        LogisticMixture(*sizes)
