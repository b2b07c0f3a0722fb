"""Restricted Boltzmann machines.

Legend: B examples of D visible units, H hidden units.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_examples, num_entries
from trellis.generative.boltzmann import BoltzmannUnits


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

    @property
    def units(self) -> BoltzmannUnits:
        """The machine as its weights."""
        return BoltzmannUnits(self.weight, self.visible_bias, self.hidden_bias)

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "RBM")
        return self.units.free_energy(x.flatten(1))

    @torch.no_grad()
    def gibbs(self, x: Tensor, num_steps: int, generator: torch.Generator | None = None) -> Tensor:
        """Examples after so many steps of block Gibbs sampling, ``[B, *shape]`` -> the same."""
        return self.units.gibbs(x.flatten(1), num_steps, generator).view_as(x)
