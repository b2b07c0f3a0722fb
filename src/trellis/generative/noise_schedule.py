r"""How diffusion turns examples into noise, and predictions back into examples.

Legend: B examples, K steps. Step k (from 0) has a signal of :math:`\sqrt{\bar\alpha_k}` and noise
of :math:`\sqrt{1 - \bar\alpha_k}`; ``ratio`` is noise over signal, :math:`s_k`.
"""

import math
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import at_least, choose_from

ScheduleName = Literal["linear", "cosine"]
Prediction = Literal["noise", "example", "velocity"]


class NoiseSchedule(nn.Module):
    r"""A chain that adds Gaussian noise in K steps.

    .. math:: q(x_k | x_{k-1}) = \mathcal N(\sqrt{1 - \beta_k}\, x_{k-1}, \beta_k I), \quad
        q(x_k | x) = \mathcal N(\sqrt{\bar\alpha_k}\, x, (1 - \bar\alpha_k) I)

    Args:
        kind: ``linear`` betas from ``first`` to ``last``; or ``cosine``, a squared cosine of
            the signal, which leaves more of it in the middle.
        num_steps: K.
        first: beta of the first step of a linear schedule.
        last: beta of the last.
    Raises:
        ValueError: an unknown kind, fewer than 2 steps, or betas outside (0, 1), by which the
            signal would leave (0, 1].

    Source: Ho et al. 2020, section 4 (linear); Nichol and Dhariwal 2021, eq. 17 (cosine).

    >>> NoiseSchedule("linear", 1000).alpha_bars[-1] < 1e-4
    tensor(True)
    """

    bits: Tensor

    def __init__(
        self,
        kind: ScheduleName = "linear",
        num_steps: int = 1000,
        *,
        first: float = 1e-4,
        last: float = 0.02,
    ) -> None:
        super().__init__()
        self.num_steps = at_least(2, "num_steps", num_steps)
        if choose_from("kind", kind, ScheduleName) == "linear":
            betas = torch.linspace(first, last, num_steps, dtype=torch.double)
        else:
            betas = _cosine_betas(num_steps)
        if not (betas.min() > 0 and betas.max() < 1):
            raise ValueError(
                f"first={first}, last={last}: betas in (0, 1) keep the signal in (0, 1], such as "
                f"0.0001 and 0.02"
            )
        alpha_bars = (1 - betas).cumprod(0)
        log_ratios = ((1 - alpha_bars).log() - alpha_bars.log()) / 2
        # As integers they keep their digits where modules are converted to half precision.
        tables = torch.stack([alpha_bars, log_ratios]).float()
        self.register_buffer("bits", tables.view(torch.int32), persistent=False)

    @property
    def alpha_bars(self) -> Tensor:
        """What is left of the variance of the signal, ``[K]``, in float32."""
        return self.bits[0].view(torch.float32)

    @property
    def log_ratios(self) -> Tensor:
        """Logarithms of s, ``[K]``, increasing, in float32."""
        return self.bits[1].view(torch.float32)

    def scales(self, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """Signal and noise of steps ``[B]``, to be multiplied with ``like [B, *shape]``.

        Steps that are real numbers lie between two others: their log-ratios are interpolated.
        """
        if steps.is_floating_point():
            low = steps.long().clamp(max=self.num_steps - 2)
            ends = self.log_ratios[low], self.log_ratios[low + 1]
            log_ratio = torch.lerp(*ends, (steps - low).to(ends[0]))
        else:
            log_ratio = self.log_ratios[steps]
        log_ratio = log_ratio.to(like.dtype).view(-1, *(1 for _ in like.shape[1:]))
        # 1 / (1 + s^2) and its complement, neither of which loses digits.
        return (-2 * log_ratio).sigmoid().sqrt(), (2 * log_ratio).sigmoid().sqrt()

    def times(self, steps: Tensor) -> Tensor:
        """What a network is told of steps: numbers in (0, 1]."""
        return (steps + 1) / self.num_steps

    def steps_of(self, log_ratio: Tensor) -> Tensor:
        """Steps ``[B]`` as real numbers of any log-ratios ``[B]``, linear between two steps."""
        above = torch.searchsorted(self.log_ratios, log_ratio.contiguous())
        above = above.clamp(1, self.num_steps - 1)
        low, high = self.log_ratios[above - 1], self.log_ratios[above]
        share = ((log_ratio - low) / (high - low)).clamp(0, 1)
        return above - 1 + share

    def decrease(self, steps: Tensor) -> Tensor:
        r"""How much :math:`1 / s^2` falls from the step before, ``[B]``; for steps from 1 on."""
        snr = (-2 * self.log_ratios).exp()
        return snr[(steps - 1).clamp(min=0)] - snr[steps]


class Denoised(NamedTuple):
    """What a prediction says of a noisy example: the example, and the noise in it."""

    example: Tensor
    noise: Tensor


def denoised(
    predicted: Tensor, x: Tensor, signal: Tensor, noise: Tensor, kind: Prediction
) -> Denoised:
    r"""The two parts of :math:`x_k = a x + b \epsilon` by a network's prediction.

    Args:
        predicted: :math:`\epsilon`, :math:`x`, or the velocity :math:`a \epsilon - b x`.
        x: the noisy example.
        signal: a, with :math:`a^2 + b^2 = 1`.
        noise: b.
        kind: which of the three was predicted.
    Shape:
        ``[B, *shape]`` each, or scales that broadcast

    Source: Ho et al. 2020, eq. 15; Salimans and Ho 2022, section 2.4 and appendix D (velocity).
    """
    if choose_from("prediction", kind, Prediction) == "noise":
        return Denoised((x - noise * predicted) / signal, predicted)
    if kind == "example":
        return Denoised(predicted, (x - signal * predicted) / noise)
    return Denoised(signal * x - noise * predicted, noise * x + signal * predicted)


def prediction_target(
    x: Tensor, drawn: Tensor, signal: Tensor, noise: Tensor, kind: Prediction
) -> Tensor:
    """What a network is to predict of the example ``x`` with the noise ``drawn`` in it."""
    if choose_from("prediction", kind, Prediction) == "velocity":
        return signal * drawn - noise * x
    return drawn if kind == "noise" else x


def _cosine_betas(num_steps: int) -> Tensor:
    times = torch.linspace(0, 1, num_steps + 1, dtype=torch.double)
    signal = ((times + 0.008) / 1.008 * math.pi / 2).cos().square()
    return (1 - signal[1:] / signal[:-1]).clamp(max=0.999)
