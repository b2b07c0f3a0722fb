"""Temporal convolutional networks: language models without recurrence or attention."""

from torch import Tensor, nn

from trellis.checks import check_equal, check_tokens, probability
from trellis.networks.sequence.recurrent import token_embedding
from trellis.sequence.temporal_convolution import State, TemporalStack


class TCN(nn.Module):
    """Language model of dilated causal convolutions: the next token, given those before it.

    Feeding a text in pieces, each with the state after the one before, equals feeding it at once.
    An output depends on the last ``1 + 2 (kernel_size - 1) (2^num_layers - 1)`` tokens.

    Args:
        num_tokens: size of the vocabulary V.
        embed_dim: width of the embeddings.
        channels: width C of each block.
        num_layers: blocks, of dilation 1, 2, 4, ...
        kernel_size: of the convolutions.
        dropout: probability after each convolution.
        embedding_dropout: probability on the embeddings.
        tie: the embedding matrix is also the output layer's; needs equal widths.
    Shape:
        tokens ``[B, T]``, state or None -> logits ``[B, T, V]``, state
    Raises:
        ValueError: a size below 1, ``tie`` with ``embed_dim`` other than ``channels``, or an id
            outside the vocabulary.

    Source: Bai et al. 2018; Press and Wolf 2017 (tie).

    >>> network = TCN(65, channels=32, num_layers=2)
    >>> logits, state = network(torch.zeros(2, 5, dtype=torch.long))
    >>> logits.shape, len(state)
    (torch.Size([2, 5, 65]), 4)
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        embed_dim: int = 128,
        channels: int = 128,
        num_layers: int = 4,
        kernel_size: int = 3,
        dropout: float = 0.0,
        embedding_dropout: float = 0.0,
        tie: bool = False,
    ) -> None:
        super().__init__()
        if tie:
            check_equal("tie=True", embed_dim=embed_dim, channels=channels)
        self.embedding = token_embedding(num_tokens, embed_dim)
        self.dropout = nn.Dropout(probability("embedding_dropout", embedding_dropout))
        self.convolutions = TemporalStack(
            embed_dim, channels, num_layers=num_layers, kernel_size=kernel_size, dropout=dropout
        )
        self.output = nn.Linear(channels, num_tokens)
        if tie:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        outputs, state = self.convolutions(self.dropout(self.embedding(tokens)), state)
        return self.output(outputs), state
