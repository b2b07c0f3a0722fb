"""Two tables of vectors: of ids as centres, and as contexts of others."""

from torch import Tensor, nn

from trellis.checks import at_least_one, check_below


class SkipGramEmbedding(nn.Module):
    r"""How well ids go together: inner products of the rows of two tables.

    .. math:: \text{logits}_{bj} = u_{\text{center}_b}^\top v_{\text{context}_{bj}}

    The embedding of an id is its row u; the rows v are of use in training only. Centres begin
    uniform in [-0.5, 0.5] / ``embed_dim``, contexts at 0.

    Args:
        num_tokens: ids, of words or of nodes.
        embed_dim: length D of a vector.
    Shape:
        center ``[B]``, context ``[B, J]`` -> ``[B, J]``
    Raises:
        ValueError: a size below 1, or an id out of range.

    Source: Mikolov et al. 2013b, section 2.2; initial values of their word2vec.c.

    >>> network = SkipGramEmbedding(10, embed_dim=4)
    >>> network(torch.tensor([1, 2]), torch.tensor([[3, 4, 5], [6, 7, 8]])).shape
    torch.Size([2, 3])
    """

    def __init__(self, num_tokens: int, *, embed_dim: int = 128) -> None:
        super().__init__()
        self.num_tokens = at_least_one("num_tokens", num_tokens)
        at_least_one("embed_dim", embed_dim)
        # Dense gradients: for batches of walks they were as fast as sparse ones or faster, and
        # every optimiser and precision takes them.
        self.center = nn.Embedding(num_tokens, embed_dim)
        self.context = nn.Embedding(num_tokens, embed_dim)
        nn.init.uniform_(self.center.weight, -0.5 / embed_dim, 0.5 / embed_dim)
        nn.init.zeros_(self.context.weight)

    def embed(self, ids: Tensor) -> Tensor:
        """The vectors of ids, of any shape ``[...]`` -> ``[..., embed_dim]``."""
        check_below("id", ids, self.num_tokens, "SkipGramEmbedding")
        return self.center(ids)

    def scores(self, vectors: Tensor, context: Tensor) -> Tensor:
        """Logits of ids as contexts of any vectors.

        Shape:
            vectors ``[N, L, D]``, context ``[N, J]`` -> ``[N, L, J]``
        """
        check_below("id", context, self.num_tokens, "SkipGramEmbedding")
        return vectors @ self.context(context).transpose(1, 2)

    def forward(self, center: Tensor, context: Tensor) -> Tensor:
        # A row vector times a matrix takes half the time of a matrix times a column, on a CPU.
        return self.scores(self.embed(center).unsqueeze(1), context).squeeze(1)
