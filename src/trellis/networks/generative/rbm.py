"""Restricted Boltzmann machines.

Legend: B examples of D visible units, H hidden units, N chains.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, num_entries


class RBM(nn.Module):
    r"""Binary units in two layers, with weights between the layers only.

    .. math:: p(v) = \frac{e^{-F(v)}}{Z}, \quad
        F(v) = -b^\top v - \sum_j \ln(1 + e^{c_j + (W v)_j})

    Args:
        shape: of an example; D numbers.
        hidden_units: H.
    Shape:
        x ``[B, *shape]`` of zeros and ones -> free energies F ``[B]``
    Raises:
        ValueError: a size below 1, or an x of another shape.

    Source: Smolensky 1986; Hinton 2002; Hinton 2010, "A practical guide", section 8 (weights begin
    with a standard deviation of 0.01, biases at 0).

    >>> RBM((6,), hidden_units=4)(torch.zeros(2, 6)).round(decimals=2)
    tensor([-2.7700, -2.7700], grad_fn=<RoundBackward1>)
    """

    def __init__(self, shape: Sequence[int], *, hidden_units: int = 500) -> None:
        super().__init__()
        self.shape = tuple(shape)
        at_least_one("hidden_units", hidden_units)
        size = num_entries(self.shape)
        self.weight = nn.Parameter(0.01 * torch.randn(hidden_units, size))
        self.visible_bias = nn.Parameter(torch.zeros(size))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_units))

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "RBM")
        return self.free_energy(x.flatten(1))

    def free_energy(self, visible: Tensor) -> Tensor:
        """F of ``[B, D]``: ``[B]``."""
        hidden = F.linear(visible, self.weight, self.hidden_bias)
        return -(visible @ self.visible_bias) - F.softplus(hidden).sum(1)

    @torch.no_grad()
    def gibbs(self, x: Tensor, num_steps: int, generator: torch.Generator | None = None) -> Tensor:
        """Examples after so many steps of block Gibbs sampling, ``[B, *shape]`` -> the same.

        Args:
            x: where the chains begin.
            num_steps: all hidden units given the visible ones, then the other way round.
            generator: of the random numbers.
        """
        visible = x.flatten(1)
        for _ in range(num_steps):
            hidden = _drawn(F.linear(visible, self.weight, self.hidden_bias), generator)
            visible = _drawn(F.linear(hidden, self.weight.t(), self.visible_bias), generator)
        return visible.view_as(x)

    def tempered(self, base_bias: Tensor, beta: Tensor | float) -> "RBM":
        r"""A machine on the way from independent units to this one.

        .. math:: F_\beta(v) = -((1 - \beta) a + \beta b)^\top v - \sum_j
            \ln(1 + e^{\beta (c_j + (W v)_j)})

        Args:
            base_bias: a of the independent units, ``[D]``.
            beta: 0 for these, 1 for this machine.

        Source: Salakhutdinov and Murray 2008, section 4.1.
        """
        with torch.device("meta"):
            between = RBM(self.shape, hidden_units=len(self.hidden_bias))
        bias = (1 - beta) * base_bias + beta * self.visible_bias
        for name, value in (
            ("weight", beta * self.weight),
            ("visible_bias", bias),
            ("hidden_bias", beta * self.hidden_bias),
        ):
            setattr(between, name, nn.Parameter(value.detach(), requires_grad=False))
        return between


def _drawn(logits: Tensor, generator: torch.Generator | None) -> Tensor:
    uniform = torch.rand(
        logits.shape, generator=generator, device=logits.device, dtype=logits.dtype
    )
    return (uniform < logits.sigmoid()).to(logits.dtype)
