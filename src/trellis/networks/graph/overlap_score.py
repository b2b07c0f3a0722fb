"""Overlap scores as a network of links: the baselines without embeddings."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_graph, choose_from, positive
from trellis.graph.overlap import OverlapName, overlap_scores
from trellis.networks.graph.graph_autoencoder import LinkNetwork, LinkScores

SMALLEST = 1e-30


class OverlapScore(LinkNetwork):
    r"""A score of two nodes' neighbourhoods; only its scale and its shift are learnt.

    .. math:: \mathrm{logit}_{uv} = e^a\, \mathrm{score}(u, v) + b

    The two parameters make probabilities of a score and leave the order of pairs as it is, on
    which AUC, AP and ranks depend. Of Katz' index, which spans many powers of ten, it is the
    logarithm. Features of nodes and weights of edges are not used.

    Args:
        score: see ``trellis.graph.overlap_scores``.
        beta: of Katz' index.
    Raises:
        ValueError: an unknown score, or a ``beta`` that is too large for the graph.

    Source: Liben-Nowell and Kleinberg 2007.
    """

    def __init__(
        self, in_channels: int, *, score: OverlapName = "adamic_adar", beta: float = 0.005
    ) -> None:
        super().__init__()
        self.in_channels = at_least_one("in_channels", in_channels)
        self.score = choose_from("score", score, OverlapName)
        self.beta = float(positive("beta", beta))
        self.log_scale = nn.Parameter(torch.zeros(()))
        self.shift = nn.Parameter(torch.zeros(()))

    def forward(
        self,
        x: Tensor,
        edge_index: Tensor,
        links: Tensor | None = None,
        edge_weight: Tensor | None = None,
    ) -> LinkScores:
        check_graph(x, edge_index, self.in_channels, "OverlapScore")
        if links is None:
            raise ValueError("OverlapScore takes no N x N pairs: train with negatives=sampled")
        scores = overlap_scores(edge_index, links, x.size(0), self.score, self.beta)
        if self.score == "katz":  # whose smallest values any shift would make equal
            scores = (scores / SMALLEST).log1p() / 10
        # In float32 a shift would make others equal, too.
        return LinkScores(self.log_scale.double().exp() * scores + self.shift.double())
