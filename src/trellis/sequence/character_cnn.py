"""Words read letter by letter."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_tokens
from trellis.sequence.spelling import NUM_BYTES
from trellis.sequence.window_filters import WindowFilters


class CharacterCNN(nn.Module):
    """A vector of each word from its bytes: embeddings, and the largest response of each filter.

    Args:
        embed_dim: width of the embedding of a byte.
        channels: filters of each width.
        widths: bytes in a window.
    Shape:
        characters ``[B, T, C]``, see ``SpelledTokens`` -> ``[B, T, out_features]``
    Raises:
        ValueError: a size below 1, or a byte outside of the range.

    Source: Ma and Hovy 2016, section 2.1. Deviates: no dropout on the embeddings.
    """

    def __init__(
        self,
        embed_dim: int = 30,
        channels: int = 30,
        widths: Sequence[int] = (3,),
    ) -> None:
        super().__init__()
        at_least_one("embed_dim", embed_dim)
        self.embedding = nn.Embedding(NUM_BYTES, embed_dim, padding_idx=0)
        limit = (3 / embed_dim) ** 0.5
        with torch.no_grad():
            self.embedding.weight[1:].uniform_(-limit, limit)
        self.filters = WindowFilters(embed_dim, channels, widths)
        self.out_features = self.filters.out_features

    def forward(self, characters: Tensor) -> Tensor:
        check_tokens("characters", characters.flatten(1), NUM_BYTES)
        words = characters.flatten(0, 1)  # [B * T, C]
        read = self.filters(self.embedding(words), (words != 0).sum(1))
        return read.unflatten(0, characters.shape[:2])
