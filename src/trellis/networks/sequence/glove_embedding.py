"""Two tables of vectors with a bias for each id."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_below


class GloVeEmbedding(nn.Module):
    r"""Logarithms of counts of pairs, from inner products and biases.

    .. math:: z_{bj} = u_{\text{center}_b}^\top v_{\text{context}_{bj}}
        + a_{\text{center}_b} + b_{\text{context}_{bj}}

    The embedding of an id is ``u + v``. Both begin uniform in [-0.5, 0.5] / ``embed_dim``, as do
    the biases.

    Args:
        num_tokens: ids, of words or of nodes.
        embed_dim: length D of a vector.
    Shape:
        center ``[B]``, context ``[B, J]`` -> ``[B, J]``
    Raises:
        ValueError: a size below 1, or an id out of range.

    Source: Pennington et al. 2014, eq. 7 and section 4.2.

    >>> GloVeEmbedding(10, embed_dim=4)(torch.tensor([1, 2]), torch.tensor([[3], [4]])).shape
    torch.Size([2, 1])
    """

    def __init__(self, num_tokens: int, *, embed_dim: int = 100) -> None:
        super().__init__()
        self.num_tokens = at_least_one("num_tokens", num_tokens)
        at_least_one("embed_dim", embed_dim)
        self.center = nn.Embedding(num_tokens, embed_dim)
        self.context = nn.Embedding(num_tokens, embed_dim)
        self.center_bias, self.context_bias = (
            nn.Parameter(torch.empty(num_tokens)) for _ in range(2)
        )
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -0.5 / embed_dim, 0.5 / embed_dim)

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors of ids, of any shape ``[...]`` -> ``[..., embed_dim]``."""
        check_below("id", ids, self.num_tokens, "GloVeEmbedding")
        return self.center(ids) + self.context(ids)

    def forward(self, center: Tensor, context: Tensor) -> Tensor:
        for ids in (center, context):
            check_below("id", ids, self.num_tokens, "GloVeEmbedding")
        vectors = self.context(context)  # [B, J, D]
        products = (self.center(center).unsqueeze(1) @ vectors.transpose(1, 2)).squeeze(1)
        return products + self.center_bias[center].unsqueeze(1) + self.context_bias[context]
