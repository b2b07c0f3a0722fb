"""Sampling in proportion to weights that change: a sum tree."""

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one

CHILDREN = 64


class SumTree:
    """Weights as the leaves of a tree whose inner nodes hold the sums below them.

    Each node has 64 children, so that a million weights are four levels deep: fewer and wider
    operations than a binary tree takes, and no loop over the B weights that are changed or found.
    Each change recomputes sums from the children, so that rounding errors do not accumulate.

    Args:
        size: number of weights, all zero at first.
    Raises:
        ValueError: size below 1.

    Source: Schaul et al. 2016, appendix B.2.1. Deviates: theirs is binary.

    >>> tree = SumTree(3)
    >>> tree.set(torch.arange(3), torch.tensor([1.0, 0.0, 2.0]))
    >>> tree.find(torch.tensor([0.5, 1.5, 2.9])), tree.total
    (tensor([0, 2, 2]), 3.0)
    """

    def __init__(self, size: int) -> None:
        self.size = at_least_one("size", size)
        widths = [size]
        while widths[0] > 1:
            widths.insert(0, -(-widths[0] // CHILDREN))
        # From the root to the leaves; the children of node i begin at CHILDREN * i.
        self.levels = [
            torch.zeros(width if depth == 0 else -(-width // CHILDREN) * CHILDREN).double()
            for depth, width in enumerate(widths)
        ]

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.levels[0])

    def get(self, indices: Tensor) -> Tensor:
        """Weights at ``indices [B]``."""
        return self.levels[-1][indices]

    def set(self, indices: Tensor, weights: Tensor) -> None:
        """Change weights.

        Args:
            indices: of leaves; where one comes twice, either weight may be kept.
            weights: at least 0.
        Shape:
            ``[B]`` each
        """
        self.levels[-1][indices] = weights.to(torch.double)
        for parents, children in zip(self.levels[-2::-1], self.levels[:0:-1], strict=True):
            indices = indices // CHILDREN
            parents[indices] = children.view(-1, CHILDREN)[indices].sum(-1)

    def find(self, mass: Tensor) -> Tensor:
        """Leaves at which the cumulative sum of the weights exceeds ``mass``; none of weight 0.

        Args:
            mass: in [0, total).
        Shape:
            ``[B]`` -> ``[B]``
        Raises:
            ValueError: all weights are zero.
        """
        if self.total <= 0:
            raise ValueError("all weights are 0: set one before searching")
        node, mass = torch.zeros(len(mass), dtype=torch.long), mass.to(torch.double)[:, None]
        for level in self.levels[1:]:
            sums = level.view(-1, CHILDREN)[node].cumsum(-1)  # [B, CHILDREN]
            # By rounding a mass can exceed all sums: then take the last child of positive weight.
            child = torch.minimum((sums <= mass).sum(-1), (sums < sums[:, -1:]).sum(-1))
            before = F.pad(sums, (1, 0)).gather(-1, child[:, None])
            node, mass = CHILDREN * node + child, mass - before
        return node
