"""Inputs of any scale brought to mean 0 and deviation 1, by what has been seen so far."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_vectors


class RunningScale(nn.Module):
    r"""Inputs less their mean, divided by their deviation, over all that ``update`` was given.

    .. math:: \text{clip}\bigl((x - \mu) / \sqrt{\sigma^2 + 10^{-8}}, \pm 10\bigr)

    The statistics are buffers, so they are saved with the network. Unlike those of a batch norm
    they change with ``update`` alone, which an agent's objective calls after each rollout: the
    policy that learns sees what the policy that acted saw. As the ``trunk`` of a policy it scales
    the observations. Before the first update it leaves x as it is.

    Args:
        in_channels: C.
    Shape:
        x ``[B, C]`` -> ``[B, C]``
    Raises:
        ValueError: x of another shape.

    Source: Chan et al. 1979 (joined variances); the code of Schulman et al. 2017 (the clip).

    >>> scale = RunningScale(1)
    >>> scale.update(torch.tensor([[1.0], [5.0]]))
    >>> scale(torch.tensor([[1.0], [7.0]]))
    tensor([[-1.],
            [ 2.]])
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.in_channels = at_least_one("in_channels", in_channels)
        self.register_buffer("mean", torch.zeros(in_channels))
        self.register_buffer("var", torch.ones(in_channels))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        check_vectors(x, self.in_channels, "RunningScale")
        return ((x - self.mean) / (self.var + 1e-8).sqrt()).clamp(-10, 10)

    @torch.no_grad()
    def update(self, x: Tensor) -> None:
        """Count ``x [B, C]`` in the statistics."""
        check_vectors(x, self.in_channels, "RunningScale")
        count_in_(x, self.mean, self.var, self.count)


def count_in_(x: Tensor, mean: Tensor, var: Tensor, count: Tensor) -> None:
    """Join the statistics of ``x [B, ...]`` to those of what came before, in place.

    Args:
        x: one at least.
        mean: so far, ``[...]``.
        var: variance so far ``[...]``, by the number itself.
        count: of those so far; of none, the others may be anything.

    Source: Chan et al. 1979.
    """
    total = count + len(x)
    share, gap = len(x) / total, x.mean(0) - mean
    # Of none before the share is 1.
    var += share * (x.var(0, correction=0) - var) + share * (1 - share) * gap.square()
    mean += share * gap
    count.copy_(total)
