"""Inputs normalised to mean 0 and standard deviation 1 by running statistics."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_vectors


class RunningScale(nn.Module):
    r"""Inputs normalised by the mean and standard deviation of all that ``update`` was given.

    .. math:: \text{clip}\bigl((x - \mu) / \sqrt{\sigma^2 + 10^{-8}}, \pm 10\bigr)

    The statistics are buffers, so they are saved with the network. Unlike those of batch norm
    they change with ``update`` alone, which an agent's objective calls after it has learned from a
    batch: policies see the same inputs when they act and when they learn. As the ``trunk`` of a
    network it normalises observations. Before the first update it only clips x.

    Args:
        in_channels: C.
    Shape:
        x ``[B, C]`` -> ``[B, C]``
    Raises:
        ValueError: x of another shape.

    Source: Chan et al. 1979 (merged variances); the code of Schulman et al. 2017 (the clip).

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
        """Add ``x [B, C]`` to the statistics."""
        check_vectors(x, self.in_channels, "RunningScale")
        update_statistics_(x, self.mean, self.var, self.count)


def update_statistics_(x: Tensor, mean: Tensor, var: Tensor, count: Tensor) -> None:
    """Merge the statistics of ``x [B, ...]`` into running ones, in place.

    Args:
        x: new examples, at least one.
        mean: of the examples so far, ``[...]``.
        var: their variance ``[...]``, not corrected for bias.
        count: their number; where it is 0, mean and variance may be anything.

    Source: Chan et al. 1979.
    """
    total = count + len(x)
    share, difference = len(x) / total, x.mean(0) - mean
    # The share of the first examples is 1.
    var += share * (x.var(0, correction=0) - var) + share * (1 - share) * difference.square()
    mean += share * difference
    count.copy_(total)
