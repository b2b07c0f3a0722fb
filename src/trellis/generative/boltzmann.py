"""Two layers of binary units with weights between them: free energies and Gibbs sampling.

Legend: B examples of D visible units, H hidden units.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class BoltzmannUnits(NamedTuple):
    r"""A restricted Boltzmann machine, as its weights.

    Args:
        weight: W, ``[H, D]``.
        visible_bias: b, ``[D]``.
        hidden_bias: c, ``[H]``.
    """

    weight: Tensor
    visible_bias: Tensor
    hidden_bias: Tensor

    def free_energy(self, visible: Tensor) -> Tensor:
        r""":math:`-b^\top v - \sum_j \ln(1 + e^{c_j + (W v)_j})` of ``[B, D]``: ``[B]``."""
        hidden = F.linear(visible, self.weight, self.hidden_bias)
        return -(visible @ self.visible_bias) - F.softplus(hidden).sum(1)

    def gibbs(
        self, visible: Tensor, num_steps: int, generator: torch.Generator | None = None
    ) -> Tensor:
        """States ``[B, D]`` after so many steps of block Gibbs sampling.

        Args:
            visible: where the chains begin.
            num_steps: all hidden units given the visible ones, then the other way round.
            generator: of the random numbers.
        """
        for _ in range(num_steps):
            hidden = _drawn(F.linear(visible, self.weight, self.hidden_bias), generator)
            visible = _drawn(F.linear(hidden, self.weight.t(), self.visible_bias), generator)
        return visible

    def tempered(self, base_bias: Tensor, beta: float) -> "BoltzmannUnits":
        r"""A machine on the way from independent units to this one.

        .. math:: F_\beta(v) = -((1 - \beta) a + \beta b)^\top v - \sum_j
            \ln(1 + e^{\beta (c_j + (W v)_j)})

        Args:
            base_bias: a of the independent units, ``[D]``.
            beta: 0 for these, 1 for this machine.

        Source: Salakhutdinov and Murray 2008, section 4.1.
        """
        bias = (1 - beta) * base_bias + beta * self.visible_bias
        return BoltzmannUnits(beta * self.weight, bias, beta * self.hidden_bias)


def _drawn(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(
        logits.shape, generator=generator, device=logits.device, dtype=logits.dtype
    )
    return (uniform < logits.sigmoid()).to(logits.dtype)
