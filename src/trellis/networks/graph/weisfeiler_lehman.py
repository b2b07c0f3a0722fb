"""A linear model of Weisfeiler-Lehman subtree features: the control of what messages learn."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_graph, check_sizes, not_negative
from trellis.graph.weisfeiler_lehman import subtree_colours


class WeisfeilerLehman(nn.Module):
    r"""A linear map of how often each subtree pattern occurs in a graph.

    .. math:: \text{logits} = W \, [c_0(G) \| ... \| c_h(G)] + b

    where the entries of :math:`c_i(G)` count the nodes of each colour after i rounds. The subtree
    kernel between graphs is the inner product of these features.

    A colour is a hash, its column the remainder by ``num_buckets``: no table of the patterns that
    occur is kept, so that new graphs may have new ones. Two patterns share a column by chance, a
    pair of some hundred in ``num_buckets``.

    Args:
        in_channels: features of a node; which of them are not 0 is its first colour, as of
            one-hot labels.
        out_channels: number of classes.
        iterations: rounds h; 0 only counts the labels.
        num_buckets: columns of each round.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, batch ``[N]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, ``iterations`` below 0, or inputs of another shape.

    Source: Shervashidze et al. 2011, section 3.2; the classifier is linear, not a kernel machine.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        iterations: int = 3,
        num_buckets: int = 4096,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        self.in_channels = in_channels
        self.iterations = not_negative("iterations", iterations)
        self.num_buckets = at_least_one("num_buckets", num_buckets)
        self.linear = nn.Linear((iterations + 1) * num_buckets, out_channels)
        nn.init.zeros_(self.linear.weight)  # a column that no training graph has says nothing
        nn.init.zeros_(self.linear.bias)

    def features(self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int) -> Tensor:
        """Counts ``[B, (iterations + 1) * num_buckets]``."""
        check_graph(x, edge_index, self.in_channels, "WeisfeilerLehman")
        colours = subtree_colours(x, edge_index, self.iterations) % self.num_buckets  # [h + 1, N]
        rounds = torch.arange(len(colours), device=x.device)[:, None] * self.num_buckets
        columns = (colours + rounds).t()  # [N, h + 1]
        counts = torch.zeros(
            num_graphs, len(colours) * self.num_buckets, dtype=x.dtype, device=x.device
        )
        places = batch[:, None] * counts.size(1) + columns
        ones = torch.ones_like(places, dtype=x.dtype)
        counts.view(-1).scatter_add_(0, places.flatten(), ones.flatten())
        return counts

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, num_graphs: int | None = None
    ) -> Tensor:
        count = int(batch.max()) + 1 if num_graphs is None else num_graphs
        return self.linear(self.features(x, edge_index, batch, count))
