r"""The variational bound of a diffusion, term by term.

.. math:: -\ln p(x) \le KL(q(x_K | x) \Vert p(x_K)) + E \sum_{k=1}^{K-1} \tfrac12
    (s_{k-1}^{-2} - s_k^{-2}) \lVert x - \hat x_k \rVert^2 - E \ln \mathcal N(x; \hat x_0, s_0^2 I)

with steps k from 0, the ratio s of noise to signal, and the variance of the posterior. Source:
Kingma et al. 2021, eq. 11 to 13; Ho et al. 2020, eq. 5 and 8.
"""

import torch
from torch import Tensor

from trellis.generative.diffusion_sampling import Denoiser
from trellis.generative.gaussian import HALF_LOG_TWO_PI
from trellis.generative.noise_schedule import NoiseSchedule


def diffusion_bound(denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor) -> Tensor:
    """An unbiased estimate of the bound on -log p, ``[B]`` in nats, by two steps an example.

    The sum over steps is that of one at random, drawn evenly over a batch.

    Args:
        denoiser: ``(x, steps) -> Denoised``.
        schedule: of the steps.
        x: examples ``[B, *shape]``.
    """
    steps = even_steps(len(x), schedule.num_steps - 1, x.device) + 1
    errors = squared_errors(denoiser, schedule, x, steps) * schedule.decrease(steps) / 2
    first = squared_errors(denoiser, schedule, x, torch.zeros_like(steps))
    log_scale = schedule.log_ratios[0]
    reconstruction = first * (-2 * log_scale).exp() / 2 + x[0].numel() * (
        log_scale + HALF_LOG_TWO_PI
    )
    return prior_kl(schedule, x) + errors * (schedule.num_steps - 1) + reconstruction


def even_steps(count: int, num_steps: int, device: torch.device | None = None) -> Tensor:
    """Random steps ``[count]``, each alone uniform, together evenly spread.

    Source: Kingma et al. 2021, appendix I.1 (low-discrepancy sampler).
    """
    start = torch.rand((), device=device)
    spread = (start + torch.arange(count, device=device) / count) % 1
    steps = (spread * num_steps).long().clamp(max=num_steps - 1)
    return steps[torch.randperm(count, device=device)]


def squared_errors(
    denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor, steps: Tensor
) -> Tensor:
    """Squared distances of examples from what is predicted at steps ``[B]``: ``[B]``."""
    signal, noise = schedule.scales(steps, x)
    found = denoiser(signal * x + noise * torch.randn_like(x), steps)
    return (x - found.example).square().flatten(1).sum(1)


def prior_kl(schedule: NoiseSchedule, x: Tensor) -> Tensor:
    """KL divergence of the last step from standard normal noise, ``[B]`` in nats."""
    signal = schedule.alpha_bars[-1]
    each = signal * x.square() - signal - torch.log1p(-signal)
    return each.flatten(1).sum(1) / 2
