"""Recurrent encoder-decoder, whose attention is an argument.

Legend: B pairs, S source tokens, T target tokens, V ``target_tokens``, L layers, D directions, H
``hidden_size``.
"""

from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn

from trellis.checks import check_sequences, check_tokens, choose_from
from trellis.networks.sequence.recurrent import token_embedding
from trellis.sequence.alignment import AdditiveAttention, Alignment, AlignmentFactory
from trellis.sequence.recurrent_stack import CellName, RecurrentStack, State
from trellis.torch_private import scan

Attend = Literal["before", "after"]
Backward = Literal["backward"]


class Memory(NamedTuple):
    """What a decoder with attention attends to, constant over its steps.

    Args:
        keys: as the attention computed them, ``[B, S, A]``.
        values: likewise, of the encoder's outputs ``[B, S, D * H]``, in the order of reading.
        mask: ``[B, S]``, False at padding.
    """

    keys: Tensor
    values: Tensor
    mask: Tensor


class RecurrentSeq2Seq(nn.Module):
    r"""Encoder-decoder of recurrent layers.

    The decoder starts from the encoder's last states; after a bidirectional encoder, from
    :math:`\tanh(W [\overrightarrow h_S, \overleftarrow h_1] + b)` in each layer. Then, with
    attention,

    .. math::
        c_t = \mathrm{attention}(s_{t-1}, h), \quad
        s_t = \mathrm{cell}([y_{t-1}, c_t], s_{t-1}), \quad
        o_t = W [s_t, c_t, y_{t-1}] + b

    with :math:`y` the embedded target, :math:`h` the encoder's outputs and :math:`s` the states
    of the last layer. Without attention, :math:`s_t = \mathrm{cell}(y_{t-1}, s_{t-1})` and
    :math:`o_t = W s_t + b`.

    Args:
        source_tokens: size of the source vocabulary.
        target_tokens: size of the target vocabulary.
        source_pad_id: padding token at the end of short sources, which the encoder skips.
        target_pad_id: padding token of targets; its embedding stays 0.
        cell: elman, lstm or gru, of encoder and decoder.
        embed_dim: width of the embeddings.
        hidden_size: width of a layer, in each direction.
        num_layers: number of layers of the encoder, and of the decoder.
        bidirectional: the encoder has layers of both directions; ``False``: it reads a source from
            its start; ``backward``: from its end, and reads the first tokens last, which a target
            usually begins with.
        attention: from ``(query_dim, key_dim)`` to an ``Alignment``; ``None`` passes on the last
            states only.
        attend: ``before`` a step, as above; or ``after`` it, with :math:`s_t` as the query and
            :math:`o_t = W [s_t, c_t] + b`: all steps at once, on torch's kernels.
        dropout: probability on embeddings, between layers and before the output.
        tie: a linear layer to ``embed_dim`` and :math:`\tanh` come before the output layer, whose
            matrix is that of the target embeddings: far fewer multiplications for a large
            vocabulary.
    Shape:
        source ``[B, S]``, target ``[B, T]``, starting with its first token -> logits
        ``[B, T, V]`` of the next tokens
    Raises:
        ValueError: a size below 1, an unknown cell or direction, ids outside the vocabularies, a
            source that is all padding.

    Source: Sutskever et al. 2014 (``attention=None``, ``backward``); Cho et al. 2014
    (``LastState``); Bahdanau et al. 2015 (``AdditiveAttention``, bidirectional); Luong et al.
    2015, section 3.1 (``after``).
    Deviates from Bahdanau et al.: the first state depends on both directions and the output is
    linear, not maxout; from Luong et al.: no input feeding.
    """

    def __init__(
        self,
        source_tokens: int,
        target_tokens: int,
        *,
        source_pad_id: int,
        target_pad_id: int | None = None,
        cell: CellName = "gru",
        embed_dim: int = 256,
        hidden_size: int = 512,
        num_layers: int = 1,
        bidirectional: bool | Backward = True,
        attention: AlignmentFactory | None = AdditiveAttention,
        attend: Attend = "before",
        dropout: float = 0.3,
        tie: bool = False,
    ) -> None:
        super().__init__()
        self.source_pad_id, self.attend = source_pad_id, choose_from("attend", attend, Attend)
        self.backward = isinstance(bidirectional, str)
        if isinstance(bidirectional, str):
            choose_from("bidirectional", bidirectional, Backward)
        both = bool(bidirectional) and not self.backward
        self.source_embedding = token_embedding(source_tokens, embed_dim, source_pad_id)
        self.target_embedding = token_embedding(target_tokens, embed_dim, target_pad_id)
        self.encoder = RecurrentStack(
            embed_dim,
            hidden_size,
            cell=cell,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=both,
        )
        memory_dim = self.encoder.out_features
        self.bridge = nn.ModuleList(
            nn.Linear(memory_dim, hidden_size)
            for _ in range(num_layers * (2 if cell == "lstm" else 1) if both else 0)
        )
        self.attention: Alignment | None = None
        if attention is not None:
            self.attention = attention(query_dim=hidden_size, key_dim=memory_dim)
        in_features, features = embed_dim, hidden_size
        if attention is not None:
            features += memory_dim
        if attention is not None and attend == "before":
            in_features, features = in_features + memory_dim, features + embed_dim
        self.decoder = RecurrentStack(
            in_features, hidden_size, cell=cell, num_layers=num_layers, dropout=dropout
        )
        self.dropout = nn.Dropout(dropout)
        self.readout = nn.Sequential(nn.Linear(features, embed_dim), nn.Tanh()) if tie else None
        self.output = nn.Linear(embed_dim if tie else features, target_tokens)
        if tie:
            self.output.weight = self.target_embedding.weight

    def encode(self, source: Tensor) -> tuple[tuple[Tensor, ...], State]:
        """What the decoder attends to (empty without attention), and its initial state."""
        check_tokens("source", source, self.source_embedding.num_embeddings)
        lengths = check_sequences("source", source, self.source_pad_id)
        embedded = self.dropout(self.source_embedding(source))
        if self.backward:
            embedded = reversed_sequences(embedded, lengths)
        outputs, state = self.encoder(embedded, None, lengths)
        if self.bridge:
            state = self._initial_state(state)
        if self.attention is None:
            return (), state
        mask = torch.arange(source.size(1), device=source.device) < lengths.unsqueeze(1)
        keys, values = self.attention.keys(outputs), self.attention.values(outputs)
        return Memory(
            keys, values.to(keys.dtype), mask
        ), state  # autocast casts once, not per step

    def decode(
        self, tokens: Tensor, state: State, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, State]:
        """Logits ``[B, T, V]`` of the token after each of ``tokens [B, T]``, and the state."""
        features, state, _ = self._features(tokens, state, memory)
        if self.readout is not None:
            features = self.readout(features)
        return self.output(features), state

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encode(source)
        return self.decode(target, state, memory)[0]

    def alignments(self, source: Tensor, target: Tensor) -> Tensor:
        """Attention weights ``[B, T, S]`` of the step that predicts the token after each target.

        Raises:
            ValueError: there is no attention.
        """
        if self.attention is None:
            raise ValueError(
                "RecurrentSeq2Seq(attention=None) has no alignments: choose an attention, such as "
                "AdditiveAttention"
            )
        memory, state = self.encode(source)
        weights = self._features(target, state, memory)[2]
        assert weights is not None
        if self.backward:
            lengths = memory[-1].sum(1)
            weights = reversed_sequences(weights.transpose(1, 2), lengths).transpose(1, 2)
        return weights

    def _initial_state(self, state: State) -> State:
        """The decoder's initial state, from the last states of both directions."""
        maps = iter(self.bridge)
        bridged = []
        for part in state:
            both = part.unflatten(1, (-1, 2)).flatten(2)  # [B, L, 2 * H]
            layers = [next(maps)(layer).tanh() for layer in both.unbind(1)]
            bridged.append(torch.stack(layers, dim=1))
        return tuple(bridged)

    def _features(
        self, tokens: Tensor, state: State, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, State, Tensor | None]:
        """Inputs ``[B, T, F]`` of the output layer, the state, attention weights ``[B, T, S]``."""
        check_tokens("target", tokens, self.target_embedding.num_embeddings)
        embedded = self.dropout(self.target_embedding(tokens))
        if self.attention is None:
            outputs, state = self.decoder(embedded, state)
            return self.dropout(outputs), state, None
        if self.attend == "after":
            outputs, state = self.decoder(embedded, state)
            contexts, weights = self.attention(outputs, *memory)
            return self.dropout(torch.cat((outputs, contexts), dim=-1)), state, weights
        outputs, contexts, weights, state = self._step_by_step(embedded, state, memory)
        features = self.dropout(torch.cat((outputs, contexts), dim=-1))
        return torch.cat((features, embedded), dim=-1), state, weights

    def _step_by_step(
        self, embedded: Tensor, state: State, memory: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor, State]:
        """Outputs, contexts and weights ``[B, T, ...]`` of steps that attend first."""
        attention = self.attention
        assert attention is not None
        # The embeddings' part of the gates depends on no state: one product for all steps.
        known, rest = self.decoder.project(embedded.transpose(0, 1))  # [T, B, gates * H]
        layers: Any = tuple(zip(*(part.unbind(1) for part in state), strict=True))

        def step(layers: Any, gates: Tensor) -> Any:
            query = layers[-1][0].unsqueeze(1)
            context, weights = (x.squeeze(1) for x in attention(query, *memory))
            output, after = self.decoder.step(torch.addmm(gates, context, rest), layers)
            return tuple(after), (output, context, weights)

        if torch.compiler.is_exporting():  # the number of steps stays open
            layers, steps = scan(step, layers, known)
            outputs, contexts, weights = (x.transpose(0, 1) for x in steps)
        else:
            taken = []
            for gates in known.unbind(0):
                layers, each = step(layers, gates)
                taken.append(each)
            outputs, contexts, weights = (torch.stack(x, dim=1) for x in zip(*taken, strict=True))
        state = tuple(torch.stack(part, dim=1) for part in zip(*layers, strict=True))
        return outputs, contexts, weights, state


def reversed_sequences(x: Tensor, lengths: Tensor) -> Tensor:
    """Each sequence from its end, its padding where it was.

    Args:
        x: ``[B, S, ...]``.
        lengths: ``[B]``.

    >>> reversed_sequences(torch.tensor([[1, 2, 3], [4, 5, 0]]), torch.tensor([3, 2]))
    tensor([[3, 2, 1],
            [5, 4, 0]])
    """
    place = torch.arange(x.size(1), device=x.device)
    last = lengths.unsqueeze(1) - 1
    place = torch.where(place <= last, last - place, place)  # [B, S]
    return x.gather(1, place.reshape(*place.shape, *[1] * (x.dim() - 2)).expand_as(x))
