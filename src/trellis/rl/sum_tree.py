"""Drawing in proportion to weights that change: a binary tree of sums."""

import torch
from torch import Tensor

from trellis.nn.checks import at_least_one


class SumTree:
    """Weights as the leaves of a tree whose inner nodes hold the sums below them.

    Changing B weights and finding B of them takes O(B log size), without a loop over B. Sums are
    made anew from their two children at each change, so rounding does not add up.

    Args:
        size: number of weights, all zero at first.
    Raises:
        ValueError: size below 1.

    Source: Schaul et al. 2016, appendix B.2.1.

    >>> tree = SumTree(3)
    >>> tree.set(torch.arange(3), torch.tensor([1.0, 0.0, 2.0]))
    >>> tree.find(torch.tensor([0.5, 1.5, 2.9])), tree.total
    (tensor([0, 2, 2]), 3.0)
    """

    def __init__(self, size: int) -> None:
        self.size = at_least_one("size", size)
        self.depth = (size - 1).bit_length()
        # The root is node 1, the children of node i are 2 i and 2 i + 1.
        self.nodes = torch.zeros(2 << self.depth, dtype=torch.double)

    @property
    def total(self) -> float:
        """Sum of all weights."""
        return float(self.nodes[1])

    def get(self, where: Tensor) -> Tensor:
        """Weights at ``where [B]``."""
        return self.nodes[where + (1 << self.depth)]

    def set(self, where: Tensor, weights: Tensor) -> None:
        """Change weights.

        Args:
            where: leaves; of one that comes twice, either weight may be kept.
            weights: at least 0.
        Shape:
            ``[B]`` each
        """
        node = where + (1 << self.depth)
        self.nodes[node] = weights.to(torch.double)
        for _ in range(self.depth):
            node = node >> 1
            self.nodes[node] = self.nodes[2 * node] + self.nodes[2 * node + 1]

    def find(self, mass: Tensor) -> Tensor:
        """Leaves at which the sum of the weights so far exceeds ``mass``, never an empty one.

        Args:
            mass: in [0, total).
        Shape:
            ``[B]`` -> ``[B]``
        Raises:
            ValueError: all weights are zero.
        """
        if self.total <= 0:
            raise ValueError("all weights are 0: there is nothing to find")
        node, mass = torch.ones(len(mass), dtype=torch.long), mass.to(torch.double)
        for _ in range(self.depth):
            left = self.nodes[2 * node]
            # By rounding a mass can exceed what is left; nothing lies beyond an empty right side.
            right = (mass >= left) & (self.nodes[2 * node + 1] > 0)
            mass = torch.where(right, mass - left, mass)
            node = 2 * node + right
        return node - (1 << self.depth)
