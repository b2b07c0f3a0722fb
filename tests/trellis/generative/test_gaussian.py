"""Gaussians against torch.distributions."""

import torch
from torch.distributions import Independent, Normal, kl_divergence

from trellis.generative.gaussian import gaussian_kl, gaussian_log_prob

mean, log_scale, other_mean, other_log_scale, x = torch.randn(
    5, 3, 4, 6, generator=torch.Generator().manual_seed(0), dtype=torch.double
)


def peer(mean: torch.Tensor, log_scale: torch.Tensor) -> Independent:
    return Independent(Normal(mean, log_scale.exp()), 1)


def test_log_prob_is_that_of_torch() -> None:
    torch.testing.assert_close(
        gaussian_log_prob(x, mean, log_scale), peer(mean, log_scale).log_prob(x)
    )
    zeros = torch.zeros_like(x)
    torch.testing.assert_close(gaussian_log_prob(x), peer(zeros, zeros).log_prob(x))
    torch.testing.assert_close(
        gaussian_log_prob(x, log_scale=log_scale), peer(zeros, log_scale).log_prob(x)
    )


def test_kl_is_that_of_torch() -> None:
    zeros = torch.zeros_like(x)
    torch.testing.assert_close(
        gaussian_kl(mean, log_scale), kl_divergence(peer(mean, log_scale), peer(zeros, zeros))
    )
    torch.testing.assert_close(
        gaussian_kl(mean, log_scale, other_mean, other_log_scale),
        kl_divergence(peer(mean, log_scale), peer(other_mean, other_log_scale)),
    )
    torch.testing.assert_close(
        gaussian_kl(mean, log_scale, other_log_scale=other_log_scale),
        kl_divergence(peer(mean, log_scale), peer(zeros, other_log_scale)),
    )


def test_the_divergence_from_itself_is_zero() -> None:
    torch.testing.assert_close(
        gaussian_kl(mean, log_scale, mean, log_scale), torch.zeros(3, 4, dtype=torch.double)
    )
