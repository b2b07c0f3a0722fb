"""Recurrent networks: language models, classifiers and taggers of token sequences.

Legend: B sequences, T tokens, V ``num_tokens``, L layers, H ``hidden_size``. States are those of
``RecurrentStack``: tuples of tensors with the batch first. Dropout falls on embeddings, between
layers and before the last map: never on what a layer hands itself from step to step.
A ``ValueError`` meets sizes below 1, unknown cells, and ids outside the vocabulary.
"""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_sequences, check_tokens
from trellis.sequence.recurrent_stack import CellName, RecurrentStack, State


class RecurrentLM(nn.Module):
    """Language model: the token that follows, from all tokens before it.

    Feeding a text in pieces, each with the state after the one before, gives the logits of the
    whole.

    Args:
        num_tokens: size of the vocabulary.
        cell: elman, lstm or gru.
        embed_dim: width of the embeddings.
        hidden_size: width of a layer.
        num_layers: recurrent layers.
        dropout: probability on embeddings, between layers and before the output.
        tie: the output layer is the matrix of the embeddings; needs equal widths.
    Shape:
        tokens ``[B, T]``, state of ``[B, L, H]`` or None -> logits ``[B, T, V]``, state
    Raises:
        ValueError: ``tie`` with ``embed_dim`` other than ``hidden_size``.

    Source: Mikolov et al. 2010; Zaremba et al. 2014, section 3.1 (where dropout falls); Press and
    Wolf 2017 (tie).

    >>> logits, state = RecurrentLM(65, hidden_size=32)(torch.zeros(2, 5, dtype=torch.long))
    >>> logits.shape, [tensor.shape for tensor in state]
    (torch.Size([2, 5, 65]), [torch.Size([2, 1, 32]), torch.Size([2, 1, 32])])
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        cell: CellName = "lstm",
        embed_dim: int = 256,
        hidden_size: int = 512,
        num_layers: int = 1,
        dropout: float = 0.0,
        tie: bool = False,
    ) -> None:
        super().__init__()
        if tie and embed_dim != hidden_size:
            raise ValueError(
                f"tie=True: embed_dim={embed_dim} and hidden_size={hidden_size} must be equal"
            )
        self.embedding = token_embedding(num_tokens, embed_dim)
        self.rnn = RecurrentStack(
            embed_dim, hidden_size, cell=cell, num_layers=num_layers, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_tokens)
        if tie:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        outputs, state = self.rnn(self.dropout(self.embedding(tokens)), state)
        return self.output(self.dropout(outputs)), state


class _Reader(nn.Module):
    """Embeddings, a recurrent stack that ends where each sequence ends, and a map to classes."""

    def __init__(
        self,
        num_tokens: int,
        out_channels: int,
        *,
        pad_id: int,
        cell: CellName = "lstm",
        embed_dim: int = 128,
        hidden_size: int = 128,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        self.pad_id = pad_id
        self.embedding = token_embedding(num_tokens, embed_dim, pad_id)
        self.rnn = RecurrentStack(
            embed_dim,
            hidden_size,
            cell=cell,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(self.rnn.out_features, at_least_one("out_channels", out_channels))

    def read(self, tokens: Tensor) -> tuple[Tensor, State]:
        """Outputs ``[B, T, D * H]`` and the last state."""
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        lengths = check_sequences("tokens", tokens, self.pad_id)
        return self.rnn(self.dropout(self.embedding(tokens)), None, lengths)


class RecurrentClassifier(_Reader):
    """One class a sequence, from the state after its last token.

    Of a bidirectional stack, the last state of each direction.

    Args:
        num_tokens: size of the vocabulary.
        out_channels: classes.
        pad_id: fills sequences behind their end; never read.
        cell: elman, lstm or gru.
        embed_dim: width of the embeddings.
        hidden_size: width of a layer, in each direction.
        num_layers: recurrent layers.
        dropout: probability on embeddings, between layers and before the output.
        bidirectional: read both ways.
    Shape:
        tokens ``[B, T]`` -> logits ``[B, out_channels]``
    Raises:
        ValueError: a sequence is nothing but padding.

    >>> network = RecurrentClassifier(100, 2, pad_id=0)
    >>> network(torch.tensor([[4, 5, 6], [7, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def forward(self, tokens: Tensor) -> Tensor:
        _, state = self.read(tokens)
        directions = self.rnn.out_features // self.rnn.hidden_size
        last = state[0][:, -directions:].flatten(1)  # [B, D * H] of the last layer
        return self.output(self.dropout(last))


class RecurrentTagger(_Reader):
    """One class a token, from the states of both directions at it.

    Args:
        num_tokens: size of the vocabulary.
        out_channels: tags.
        pad_id: fills sequences behind their end; never read, its logits mean nothing.
        cell: elman, lstm or gru.
        embed_dim: width of the embeddings.
        hidden_size: width of a layer, in each direction.
        num_layers: recurrent layers.
        dropout: probability on embeddings, between layers and before the output.
        bidirectional: read both ways.
    Shape:
        tokens ``[B, T]`` -> logits ``[B, T, out_channels]``
    Raises:
        ValueError: a sequence is nothing but padding.

    Source: Huang et al. 2015, section 2.2, without the CRF.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.read(tokens)
        return self.output(self.dropout(outputs))


def token_embedding(num_tokens: int, embed_dim: int, pad_id: int | None = None) -> nn.Embedding:
    """Small random vectors, so that they serve as an output layer too; that of ``pad_id`` is 0.

    Raises:
        ValueError: a size below 1, or a ``pad_id`` outside the vocabulary.
    """
    at_least_one("num_tokens", num_tokens)
    at_least_one("embed_dim", embed_dim)
    if pad_id is not None and not 0 <= pad_id < num_tokens:
        raise ValueError(f"pad_id={pad_id}: give an id of the vocabulary, 0 to {num_tokens - 1}")
    embedding = nn.Embedding(num_tokens, embed_dim, padding_idx=pad_id)
    with torch.no_grad():
        nn.init.normal_(embedding.weight, std=0.1)
        if pad_id is not None:
            embedding.weight[pad_id] = 0
    return embedding
