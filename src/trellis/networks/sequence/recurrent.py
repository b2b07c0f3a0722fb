"""Recurrent networks: language models, classifiers and taggers of token sequences.

Legend: B sequences, T tokens, V ``num_tokens``, L layers, D directions, H ``hidden_size``. States
are those of ``RecurrentStack``: tuples of tensors with the batch first. Dropout is applied to
embeddings, between layers and before the output layer, never between the steps of a layer.
Sizes below 1, unknown cells and ids outside the vocabulary raise a ``ValueError``.
"""

from typing import Any, get_args

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, check_equal, check_sequences, check_tokens, choose_from
from trellis.sequence.recurrent_stack import CellName, RecurrentStack, State
from trellis.sequence.unrolled_stack import UnrolledName, UnrolledStack


class RecurrentLM(nn.Module):
    """Language model: the next token, given all tokens before it.

    Feeding a text in pieces, each with the state after the one before, equals feeding it at once.

    Args:
        num_tokens: size of the vocabulary.
        cell: elman, lstm or gru, on torch's kernels; or one of ``UnrolledStack``, step by step.
        embed_dim: width of the embeddings.
        hidden_size: width of a layer.
        num_layers: number of recurrent layers.
        dropout: probability on embeddings, between layers and before the output.
        tie: the embedding matrix is also the output layer's; needs equal widths.
    Shape:
        tokens ``[B, T]``, state of ``[B, L, H]`` or None -> logits ``[B, T, V]``, state
    Raises:
        ValueError: ``tie`` with ``embed_dim`` other than ``hidden_size``.

    Source: Mikolov et al. 2010; Zaremba et al. 2014, section 3.1 (dropout); Press and Wolf 2017
    (tie).

    >>> logits, state = RecurrentLM(65, hidden_size=32)(torch.zeros(2, 5, dtype=torch.long))
    >>> logits.shape, [tensor.shape for tensor in state]
    (torch.Size([2, 5, 65]), [torch.Size([2, 1, 32]), torch.Size([2, 1, 32])])
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        cell: CellName | UnrolledName = "lstm",
        embed_dim: int = 256,
        hidden_size: int = 512,
        num_layers: int = 1,
        dropout: float = 0.0,
        tie: bool = False,
    ) -> None:
        super().__init__()
        if tie:
            check_equal("tie=True", embed_dim=embed_dim, hidden_size=hidden_size)
        self.embedding = token_embedding(num_tokens, embed_dim)
        names = (*get_args(CellName), *get_args(UnrolledName))
        unrolled = choose_from("cell", cell, names) in get_args(UnrolledName)
        stack: Any = UnrolledStack if unrolled else RecurrentStack
        self.rnn = stack(embed_dim, hidden_size, cell=cell, num_layers=num_layers, dropout=dropout)
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(hidden_size, num_tokens)
        if tie:
            self.output.weight = self.embedding.weight

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        outputs, state = self.rnn(self.dropout(self.embedding(tokens)), state)
        return self.output(self.dropout(outputs)), state


class _Encoder(nn.Module):
    """Embeddings, recurrent layers that stop where each sequence ends, and an output layer.

    Args:
        num_tokens: size of the vocabulary.
        out_channels: number of classes.
        pad_id: padding token at the end of short sequences, which the layers skip.
        cell: elman, lstm or gru.
        embed_dim: width of the embeddings.
        hidden_size: width of a layer, in each direction.
        num_layers: number of recurrent layers.
        dropout: probability on embeddings, between layers and before the output.
        bidirectional: layers of both directions.
    Raises:
        ValueError: a sequence is all padding.
    """

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

    def encode(self, tokens: Tensor) -> tuple[Tensor, State]:
        """Outputs ``[B, T, D * H]``, and the state after the last token of each sequence."""
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        lengths = check_sequences("tokens", tokens, self.pad_id)
        return self.rnn(self.dropout(self.embedding(tokens)), None, lengths)


class RecurrentClassifier(_Encoder):
    """One class for each sequence, from the last state of each direction.

    Shape:
        tokens ``[B, T]`` -> logits ``[B, out_channels]``

    >>> network = RecurrentClassifier(100, 2, pad_id=0)
    >>> network(torch.tensor([[4, 5, 6], [7, 0, 0]])).shape
    torch.Size([2, 2])
    """

    def forward(self, tokens: Tensor) -> Tensor:
        _, state = self.encode(tokens)
        directions = self.rnn.out_features // self.rnn.hidden_size
        last = state[0][:, -directions:].flatten(1)  # [B, D * H] of the last layer
        return self.output(self.dropout(last))


class RecurrentTagger(_Encoder):
    """One class for each token, from the states of both directions at that token.

    Args:
        out_channels: number of tags.
        pad_id: padding token at the end of short sequences, which the layers skip; its logits
            have no meaning.
    Shape:
        tokens ``[B, T]`` -> logits ``[B, T, out_channels]``

    Source: Huang et al. 2015, section 2.2, without the CRF.
    """

    def forward(self, tokens: Tensor) -> Tensor:
        outputs, _ = self.encode(tokens)
        return self.output(self.dropout(outputs))


def token_embedding(num_tokens: int, embed_dim: int, pad_id: int | None = None) -> nn.Embedding:
    """An embedding with small weights, so that it can be tied to an output layer; 0 at ``pad_id``.

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
