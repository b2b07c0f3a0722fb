"""Convolution over edges of several types."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one


class RelationalLayer(nn.Module):
    r"""The mean of the neighbours of each relation, by a matrix that is a sum of shared ones.

    .. math:: x_i' = W_0 x_i + b + \sum_r \frac{1}{|N_i^r|} \sum_{j \in N_i^r} W_r x_j, \quad
        W_r = \sum_b a_{rb} V_b

    As PyG's ``RGCNConv``, which loops over relations and reads how many edges each has.

    Args:
        in_channels: features of a node.
        out_channels: features that a node gets.
        num_relations: R.
        num_bases: number of the matrices V.
    Shape:
        x ``[N, in_channels]``, edge_index ``[2, E]``, edge_type ``[E]``, kept ``[E]`` (which edges
        to use; ``None`` for all) -> ``[N, out_channels]``
    Raises:
        ValueError: a size below 1.

    Source: Schlichtkrull et al. 2018, eq. 2 and 3 (basis decomposition).
    """

    def __init__(
        self, in_channels: int, out_channels: int, num_relations: int, num_bases: int
    ) -> None:
        super().__init__()
        self.num_relations = at_least_one("num_relations", num_relations)
        at_least_one("num_bases", num_bases)
        self.own = nn.Linear(at_least_one("in_channels", in_channels), out_channels)
        self.bases = nn.Parameter(torch.empty(num_bases, in_channels, out_channels))
        self.coefficients = nn.Parameter(torch.empty(num_relations, num_bases))
        nn.init.xavier_uniform_(self.bases)
        nn.init.xavier_uniform_(self.coefficients)

    def forward(
        self, x: Tensor, edge_index: Tensor, edge_type: Tensor, kept: Tensor | None = None
    ) -> Tensor:
        source, target = edge_index
        ones = torch.ones_like(edge_type, dtype=x.dtype) if kept is None else kept.to(x.dtype)
        group = target * self.num_relations + edge_type
        size = x.new_zeros(x.size(0) * self.num_relations).index_add(0, group, ones)
        shares = ones / size[group].clamp(min=1)
        weights = self.coefficients.index_select(0, edge_type) * shares[:, None]  # [E, B]
        out = self.own(x)
        for basis, weight in zip(self.bases, weights.unbind(1), strict=True):
            messages = (x @ basis).index_select(0, source) * weight[:, None]
            out = out.index_add(0, target, messages.to(out.dtype))
        return out
