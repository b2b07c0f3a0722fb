r"""Samples and densities of a diffusion whose network is known: DDPM, DDIM, and its equation.

Legend: B examples, S steps of a sampler. A denoiser is a function ``(x [B, *shape], steps [B]) ->
Denoised``; its steps are those of a ``NoiseSchedule`` and may lie between two of them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from, probability
from trellis.generative.noise_schedule import Denoised, NoiseSchedule
from trellis.generative.probability_flow import (
    Divergence,
    Field,
    Solver,
    flow_log_prob,
    integrate,
    random_directions,
)

Denoiser = Callable[[Tensor, Tensor], Denoised]


class DiffusionSampler(ABC):
    """Base of the ways from noise to samples."""

    @abstractmethod
    def sample(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        x: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Samples ``[B, *shape]`` from standard normal noise ``x [B, *shape]``.

        Args:
            denoiser: see above.
            schedule: of the steps.
            x: noise.
            generator: of further noise.
        """


class DDIM(DiffusionSampler):
    r"""Steps to ever less noise, of which a part is drawn anew.

    .. math:: x_j = \sqrt{\bar\alpha_j}\, \hat x + \sqrt{1 - \bar\alpha_j - \sigma^2}\,
        \hat\epsilon + \sigma z, \quad \sigma^2 = \eta^2 \frac{1 - \bar\alpha_j}{1 - \bar\alpha_k}
        \Bigl(1 - \frac{\bar\alpha_k}{\bar\alpha_j}\Bigr)

    With ``eta=1`` and all steps of the schedule it is DDPM with the variance of the posterior.

    Args:
        num_steps: S, equally spaced among those of the schedule.
        eta: in [0, 1]; 0 draws no noise.
        clip: keep predicted examples in [-1, 1].
    Raises:
        ValueError: a number out of range; or more steps than the schedule has.

    Source: Song et al. 2021a, eq. 12 and 16; Ho et al. 2020, algorithm 2.
    """

    def __init__(self, num_steps: int = 50, eta: float = 0.0, clip: bool = False) -> None:
        self.num_steps = at_least_one("num_steps", num_steps)
        self.eta, self.clip = probability("eta", eta), clip

    def sample(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        x: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        if self.num_steps > schedule.num_steps:
            raise ValueError(
                f"DDIM(num_steps={self.num_steps}): the schedule has {schedule.num_steps}"
            )
        stride = schedule.num_steps // self.num_steps
        for k in range((self.num_steps - 1) * stride, -1, -stride):
            last = k < stride
            now = schedule.alpha_bars[k]
            before = torch.ones_like(now) if last else schedule.alpha_bars[k - stride]
            found = denoiser(x, torch.full((len(x),), k, device=x.device))
            if self.clip:
                example = found.example.clamp(-1, 1)
                found = Denoised(example, (x - now.sqrt() * example) / (1 - now).sqrt())
            variance = self.eta**2 * (1 - before) / (1 - now) * (1 - now / before)
            kept = (1 - before - variance).clamp(min=0).sqrt()
            x = before.sqrt() * found.example + kept * found.noise
            if self.eta > 0 and not last:
                drawn = torch.randn(x.shape, generator=generator, device=x.device)
                x = x + variance.sqrt() * drawn.to(x.dtype)
        return x


class ProbabilityFlow(DiffusionSampler):
    r"""The ordinary differential equation with the same densities at each time as the chain.

    .. math:: \frac{d(x / a)}{ds} = \hat\epsilon, \quad s = b / a

    for a signal a and noise b. Euler's method on it is DDIM at other steps, Heun's the sampler of
    Karras et al. Backwards it gives the likelihood of what it samples.

    Args:
        num_steps: S, from the last step's ratio s to 0 by :math:`s^{1/7}`.
        solver: euler, heun or rk4. 18 steps of Heun's method are enough for samples, but not for
            likelihoods: on two moons 40 of them were .08 nats off, and 40 of rk4 .0002.
        divergence: for likelihoods: ``exact``, at the cost of the number of dimensions, or
            ``hutchinson``, unbiased, by one random direction.
    Raises:
        ValueError: an unknown name, or a number below 1.

    Source: Song et al. 2021b, section 4.3; Song et al. 2021a, eq. 14; Karras et al. 2022, eq. 5
    and algorithm 1.
    """

    def __init__(
        self, num_steps: int = 40, solver: Solver = "rk4", divergence: Divergence = "exact"
    ) -> None:
        self.num_steps = at_least_one("num_steps", num_steps)
        self.solver = choose_from("solver", solver, Solver)
        self.divergence = choose_from("divergence", divergence, Divergence)

    def ratios(self, schedule: NoiseSchedule) -> Tensor:
        """Ratios s of noise to signal, ``[S + 1]``."""
        most, least = schedule.log_ratios[-1].exp(), schedule.log_ratios[0].exp()
        along = torch.linspace(0, 1, self.num_steps, device=most.device)
        start, end = most ** (1 / 7), least ** (1 / 7)
        grid = (start + along * (end - start)) ** 7
        return torch.cat([grid, grid.new_zeros(1)])

    def sample(
        self,
        denoiser: Denoiser,
        schedule: NoiseSchedule,
        x: Tensor,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        ratios = self.ratios(schedule)
        start = x * (1 + ratios[0].square()).sqrt()
        return integrate(_slope(denoiser, schedule), start, ratios, self.solver)

    def log_prob(self, denoiser: Denoiser, schedule: NoiseSchedule, x: Tensor) -> Tensor:
        """Log-density ``[B]`` in nats of examples ``x [B, *shape]``.

        Args:
            denoiser: see above; it may be given more examples than ``x``, in its order and again.
            schedule: of the steps.
            x: examples.
        """
        ratios = self.ratios(schedule)
        # Noise is standard normal where the signal is a, so of scale 1 / a where it is 1.
        log_scale = torch.log1p(ratios[0].square()) / 2
        return flow_log_prob(
            _slope(denoiser, schedule),
            x,
            ratios,
            self.solver,
            random_directions(x) if self.divergence == "hutchinson" else None,
            log_scale,
        )


def _slope(denoiser: Denoiser, schedule: NoiseSchedule) -> Field:
    def slope(x: Tensor, ratio: Tensor) -> Tensor:
        steps = schedule.steps_of(ratio.clamp(min=1e-10).log())
        signal = (1 + ratio.square()).rsqrt().view(-1, *(1 for _ in x.shape[1:]))
        return denoiser(x * signal, steps).noise

    return slope
