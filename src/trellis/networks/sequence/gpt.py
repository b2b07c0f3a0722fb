"""Generative pre-trained transformer: a causal language model."""

from collections.abc import Sequence
from typing import ClassVar, cast

import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, check_tokens
from trellis.nn.activation import Activation
from trellis.nn.attention import CausalSelfAttention, KeyValues
from trellis.nn.positional import Positions, position_module
from trellis.nn.transformer_layer import (
    CausalAttentionFactory,
    CausalLayer,
    LayerOptions,
    cached_length,
    initialize_normal_,
)

Caches = tuple[KeyValues, ...]


class GPT(nn.Module):
    """Causal transformer: the logits at each position are those of the next token.

    Pre-norm layers; the token embeddings are also the output weights. Feeding a text in pieces,
    each with the state after the one before, equals feeding it at once; ``cached_length`` is the
    part of the context that a state has used.

    Args:
        num_tokens: size of the vocabulary V.
        context: length of the longest text, including the tokens in the state.
        embed_dim: width D.
        num_heads: attention heads of a layer; divides ``embed_dim``.
        num_layers: number of layers.
        dropout: probability after embeddings and sublayers.
        attention_dropout: probability for the attention weights.
        bias: whether linear layers and norms have biases.
        positions: ``learned`` as published; the other kinds have no parameters.
        attention: of a layer: ``CausalSelfAttention``, whose options are groups of heads that
            share keys and values, and a window; or ``CausalLinearAttention``, whose time is
            linear in the length.
        feedforward_dim: hidden width of the feed-forward networks; ``None``: 4 D.
        activation: of these; ``gelu_tanh`` in the released weights.
        norm_eps: added to the variance in norms.
    Shape:
        tokens ``[B, T]`` -> logits ``[B, T, V]`` and the state, a key-value cache per layer
    Raises:
        ValueError: an impossible size, an id outside the vocabulary, or a text longer than
            ``context``.

    Source: Radford et al. 2019 (GPT-2), section 2.3, with its initialisation: N(0, 0.02), for the
    last layer of each sublayer divided by the square root of the number of sublayers.

    >>> network = GPT(65, context=64, bias=False)
    >>> logits, state = network(torch.zeros(2, 10, dtype=torch.long))
    >>> logits, state = network(torch.zeros(2, 1, dtype=torch.long), state)
    >>> logits.shape, cached_length(state)
    (torch.Size([2, 1, 65]), 11)
    """

    block_classes: ClassVar[tuple[type[nn.Module], ...]] = (CausalLayer,)

    def __init__(
        self,
        num_tokens: int,
        *,
        context: int = 64,
        embed_dim: int = 128,
        num_heads: int = 4,
        num_layers: int = 4,
        dropout: float = 0.0,
        attention_dropout: float = 0.0,
        bias: bool = True,
        positions: Positions = "learned",
        attention: CausalAttentionFactory = CausalSelfAttention,
        feedforward_dim: int | None = None,
        activation: Activation = "gelu",
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        at_least_one("num_tokens", num_tokens)
        at_least_one("num_layers", num_layers)
        self.context = at_least_one("context", context)
        self.options = options = LayerOptions(
            embed_dim,
            num_heads,
            4 * embed_dim if feedforward_dim is None else feedforward_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            bias=bias,
            causal_attention=attention,
            norm_eps=norm_eps,
        )
        self.tokens = nn.Embedding(num_tokens, embed_dim)
        self.positions = position_module(
            positions, embed_dim, num_heads=num_heads, max_length=context
        )
        self.dropout = nn.Dropout(dropout)
        self.layers = cast(
            Sequence[CausalLayer],
            nn.ModuleList(CausalLayer(options) for _ in range(num_layers)),
        )
        self.norm = options.norm()
        self._initialize()

    def forward(self, tokens: Tensor, state: Caches | None = None) -> tuple[Tensor, Caches]:
        """Logits of the token after each of ``tokens``, and the state after them.

        Args:
            tokens: ``[B, T]``, which continue the tokens in ``state``.
            state: from the call before; ``None`` at the start of a text.
        """
        x, rotation = self._embed(tokens, cached_length(state))
        caches: list[KeyValues] = []
        for layer, cache in zip(self.layers, state or [None] * len(self.layers), strict=True):
            x, cache = layer(x, cache, rotation)
            caches.append(cache)
        return F.linear(self.norm(x), self.tokens.weight), tuple(caches)

    def attention_weights(self, tokens: Tensor) -> list[Tensor]:
        """Attention weights ``[B, H, T, T]`` of each layer, H heads; for pictures."""
        x, rotation = self._embed(tokens, 0)
        weights = []
        for layer in self.layers:
            weights.append(layer.weights(x, rotation))
            x, _ = layer(x, None, rotation)
        return weights

    def _embed(self, tokens: Tensor, past: int) -> tuple[Tensor, Tensor | None]:
        check_tokens("tokens", tokens, self.tokens.num_embeddings)
        length = past + tokens.size(1)
        if length > self.context:
            raise ValueError(
                f"a text of {length} tokens ({past} of them in the state) is longer than "
                f"GPT(context={self.context}): give the last {self.context} or fewer, without "
                f"a state"
            )
        x, rotation = self.positions(self.tokens(tokens), past)
        return self.dropout(x), rotation

    def _initialize(self) -> None:
        initialize_normal_(self, 0.02)
        std = 0.02 / (2 * len(self.layers)) ** 0.5
        for layer in self.layers:
            for output in (layer.attention.output, layer.feedforward.output):
                nn.init.normal_(output.weight, std=std)
