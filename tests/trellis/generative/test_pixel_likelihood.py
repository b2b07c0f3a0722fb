"""Likelihoods of pixels against torch.distributions, sums over all levels, and samples."""

import math

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Independent, Normal

from trellis.generative.pixel_likelihood import (
    LIKELIHOODS,
    bernoulli,
    categorical,
    discretized_logistic,
    gaussian,
    unit_gaussian,
)

SHAPE = (2, 3, 3)
NAMES = list(LIKELIHOODS)
LEVELS = torch.arange(256) / 255


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def examples(name: str, *leading: int) -> tuple[Tensor, Tensor]:
    """Four examples that the likelihood takes, and parameters for them."""
    parameters = torch.randn(*leading, 4, LIKELIHOODS[name].num_parameters, *SHAPE)
    return torch.randint(256, (4, *SHAPE)) / 255, parameters


def test_bernoulli_is_that_of_torch() -> None:
    _, parameters = examples("bernoulli", 5)
    x = torch.randint(2, (4, *SHAPE)).float()
    expected = Independent(Bernoulli(logits=parameters[:, :, 0]), 3).log_prob(x)
    torch.testing.assert_close(bernoulli(x, parameters), expected)


def test_grey_values_are_the_expectation_over_bits() -> None:
    parameters = torch.randn(1, 1, 1)
    black, white = (bernoulli(torch.full((1, 1), bit), parameters) for bit in (0.0, 1.0))
    grey = bernoulli(torch.full((1, 1), 0.3), parameters)
    torch.testing.assert_close(grey, 0.7 * black + 0.3 * white)


def test_gaussians_are_those_of_torch() -> None:
    x, parameters = examples("gaussian", 5)
    mean, log_scale = parameters.unbind(2)
    expected = Independent(Normal(mean, log_scale.exp()), 3).log_prob(x)
    torch.testing.assert_close(gaussian(x, parameters), expected)
    expected = Independent(Normal(mean, 1.0), 3).log_prob(x)
    torch.testing.assert_close(unit_gaussian(x, mean.unsqueeze(2)), expected)


def test_categorical_is_that_of_torch() -> None:
    x, parameters = examples("categorical", 5)
    logits = parameters.movedim(2, -1)
    expected = Independent(Categorical(logits=logits), 3).log_prob(x.mul(255).round())
    torch.testing.assert_close(categorical(x, parameters), expected)


@pytest.mark.parametrize("name", ["discretized_logistic", "categorical"])
@pytest.mark.parametrize("scale", [-7.0, -3.0, 0.0, 3.0])
def test_the_probabilities_of_all_levels_sum_to_one(name: str, scale: float) -> None:
    parameters = torch.randn(1, LIKELIHOODS[name].num_parameters, 1)
    if name == "discretized_logistic":
        parameters[:, 0], parameters[:, 1] = 0.4, scale
    log_probs = LIKELIHOODS[name].log_prob(LEVELS[:, None], parameters.expand(256, -1, -1))
    torch.testing.assert_close(log_probs.exp().sum(), torch.tensor(1.0), rtol=1e-4, atol=0)


def test_a_level_of_the_logistic_has_the_mass_of_its_interval() -> None:
    mean, scale = 0.47, 0.06
    parameters = torch.tensor([mean, math.log(scale)]).view(1, 2, 1).expand(256, 2, 1)
    edges = (torch.arange(257, dtype=torch.double) - 0.5) / 255
    edges[0], edges[-1] = -math.inf, math.inf
    mass = torch.sigmoid((edges - mean) / scale).diff()
    log_probs = discretized_logistic(LEVELS[:, None], parameters)
    torch.testing.assert_close(log_probs.double().exp(), mass, rtol=1e-3, atol=1e-9)


def test_a_narrow_logistic_far_away_stays_finite_and_learns() -> None:
    parameters = torch.tensor([[[0.9], [-9.0]]], requires_grad=True)
    log_prob = discretized_logistic(torch.tensor([[10 / 255]]), parameters)
    log_prob.sum().backward()
    assert -1e5 < log_prob.item() < -1000
    assert parameters.grad is not None
    assert parameters.grad.isfinite().all()
    assert parameters.grad[0, 0] < 0  # towards the darker level


@pytest.mark.parametrize("name", NAMES)
def test_leading_dimensions_broadcast(name: str) -> None:
    x, parameters = examples(name, 5)
    log_probs = LIKELIHOODS[name].log_prob(x, parameters)
    assert log_probs.shape == (5, 4)
    for k in range(5):
        torch.testing.assert_close(log_probs[k], LIKELIHOODS[name].log_prob(x, parameters[k]))
        for i in range(4):
            one = LIKELIHOODS[name].log_prob(x[i : i + 1], parameters[k, i : i + 1])
            torch.testing.assert_close(one, log_probs[k, i : i + 1])


@pytest.mark.parametrize("name", NAMES)
def test_samples_follow_the_probabilities_and_have_the_mean(name: str) -> None:
    _, log_prob, mean, sample = LIKELIHOODS[name]
    parameters = torch.randn(1, LIKELIHOODS[name].num_parameters, 2)
    if name == "discretized_logistic":
        parameters = torch.tensor([[[0.95, 0.3], [-2.0, -3.0]]])
    many = parameters.expand(20_000, -1, -1)
    x = sample(many, torch.Generator().manual_seed(1))
    assert x.shape == (20_000, 2)
    torch.testing.assert_close(x.mean(0), mean(parameters)[0], atol=0.05, rtol=0)
    if name in ("discretized_logistic", "categorical"):
        torch.testing.assert_close(x.mean(0), mean(parameters)[0], atol=0.008, rtol=0)
        probs = torch.stack([
            log_prob(LEVELS[:, None], parameters[:, :, i : i + 1].expand(256, -1, -1)).exp()
            for i in range(2)
        ])  # fmt: skip
        counts = torch.stack(
            [torch.bincount(c, minlength=256) for c in x.mul(255).round().long().t()]
        )
        assert (counts / 20_000 - probs).abs().max() < 0.01
    elif name == "gaussian":
        torch.testing.assert_close(x.std(0), parameters[0, 1].exp(), rtol=0.03, atol=0)
    elif name == "unit_gaussian":
        torch.testing.assert_close(x.std(0), torch.ones(2), rtol=0.03, atol=0)
    else:
        assert set(x.unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("name", NAMES)
def test_samples_are_a_function_of_the_generator(name: str) -> None:
    _, parameters = examples(name)
    sample = LIKELIHOODS[name].sample
    first, second = (sample(parameters, torch.Generator().manual_seed(3)) for _ in range(2))
    assert first.shape == (4, *SHAPE)
    assert first.equal(second)
    assert not first.equal(sample(parameters, None))


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["bernoulli", "discretized_logistic", "categorical"])
@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
def test_values_outside_the_unit_interval_are_refused(name: str, wrong: float) -> None:
    x, parameters = examples(name)
    x[2, 0, 1, 1] = wrong
    with pytest.raises(ValueError, match=rf"x lies in .*a {name} likelihood .*pixels='unit'"):
        LIKELIHOODS[name].log_prob(x, parameters)


@pytest.mark.parametrize("name", NAMES)
def test_parameters_of_another_shape_are_refused(name: str) -> None:
    x, parameters = examples(name)
    for wrong in (parameters[:3], parameters[..., :2], parameters[:, :, None], parameters[:, 0]):
        with pytest.raises(ValueError, match=r"parameters \[.* do not fit x \[4, 2, 3, 3\]"):
            LIKELIHOODS[name].log_prob(x, wrong)


@pytest.mark.parametrize("name", ["discretized_logistic", "categorical"])
def test_the_mean_is_that_of_the_levels(name: str) -> None:
    """Half a level off is 0.002: too little for samples to show."""
    _, log_prob, mean, _ = LIKELIHOODS[name]
    parameters = torch.randn(1, LIKELIHOODS[name].num_parameters, 3)
    if name == "discretized_logistic":  # at an end, within one level, and wide
        parameters = torch.tensor([[[0.98, 0.3021, 0.5], [-2.0, -9.0, -1.0]]])
    probs = log_prob(LEVELS[:, None].expand(-1, 3).reshape(-1, 1), columns(parameters)).exp()
    expected = (probs.view(256, 3) * LEVELS[:, None]).sum(0)
    torch.testing.assert_close(mean(parameters)[0], expected, atol=2e-5, rtol=0)


def columns(parameters: Tensor) -> Tensor:
    """Those of three pixels ``[1, K, 3]`` as 256 times three examples of one, ``[768, K, 1]``."""
    return parameters[0].T.repeat(256, 1)[:, :, None]
