"""Convolutional networks of sentences."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import (
    at_least_one,
    check_sequences,
    check_tokens,
    positive,
    probability,
)
from trellis.networks.sequence.recurrent import token_embedding
from trellis.sequence.window_filters import WindowFilters


class SentenceCNN(nn.Module):
    r"""Filters over windows of words, each reduced to its largest response, and a linear layer.

    .. math:: c_{k,i} = \mathrm{ReLU}(w_k \cdot e_{i:i+h-1} + b_k), \quad
        z_k = \max_i c_{k,i}, \quad \text{logits} = W \, \mathrm{dropout}(z) + b

    with the embedding e of each word, and filters of several widths h. Sentences are padded with
    zeros by ``h - 1`` on both sides, so that short ones have windows too.

    Args:
        num_tokens: size of the vocabulary V.
        out_channels: number of classes.
        pad_id: padding token at the end of short sequences; its embedding is 0.
        embed_dim: width of the embeddings.
        widths: words in a window, h of each group of filters.
        channels: filters of each width.
        dropout: probability before the linear layer.
        max_norm: rows of W that are longer count as if they had this length; ``None``: no limit.
    Shape:
        tokens ``[B, T]`` -> logits ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, an id outside the vocabulary, or a sequence of nothing but
            padding.

    Source: Kim 2014, section 2, CNN-rand; embeddings begin uniform in [-0.25, 0.25]. Deviates:
    rows of W are shortened where they are used instead of after each step.

    >>> SentenceCNN(100, 2, pad_id=0)(torch.tensor([[4, 5, 6], [7, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def __init__(
        self,
        num_tokens: int,
        out_channels: int,
        *,
        pad_id: int,
        embed_dim: int = 300,
        widths: Sequence[int] = (3, 4, 5),
        channels: int = 100,
        dropout: float = 0.5,
        max_norm: float | None = 3.0,
    ) -> None:
        super().__init__()
        self.pad_id, self.max_norm = pad_id, positive("max_norm", max_norm)
        self.embedding = token_embedding(num_tokens, embed_dim, pad_id)
        with torch.no_grad():
            nn.init.uniform_(self.embedding.weight, -0.25, 0.25)
            self.embedding.weight[pad_id] = 0
        self.filters = WindowFilters(embed_dim, channels, widths)
        self.dropout = nn.Dropout(probability("dropout", dropout))
        self.output = nn.Linear(
            self.filters.out_features, at_least_one("out_channels", out_channels)
        )

    def forward(self, tokens: Tensor) -> Tensor:
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        lengths = check_sequences("tokens", tokens, self.pad_id)
        z = self.filters(self.embedding(tokens), lengths)
        weight = self.output.weight
        if self.max_norm is not None:
            weight = weight.renorm(2, 0, self.max_norm)
        return F.linear(self.dropout(z), weight, self.output.bias)
