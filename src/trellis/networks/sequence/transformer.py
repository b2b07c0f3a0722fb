"""Encoder-decoder transformers."""

from collections.abc import Sequence
from typing import ClassVar, Literal, NamedTuple, cast

from torch import Tensor, nn

from trellis.checks import at_least_one, check_sequences, check_tokens, choose_from
from trellis.nn.attention import CrossAttention, KeyValues
from trellis.nn.positional import Positions, position_module
from trellis.nn.transformer_layer import (
    DecoderLayer,
    EncoderLayers,
    LayerOptions,
    cached_length,
)

Tie = Literal["none", "target", "all"]
Caches = tuple[KeyValues, ...]


class Memory(NamedTuple):
    """The source for the decoder's cross-attention.

    Args:
        layers: keys and values of each layer, ``[B, H, S, d]``.
        mask: ``[B, S]``, True at tokens, False at padding.
    """

    layers: Caches
    mask: Tensor


class TransformerSeq2Seq(nn.Module):
    """Encoder-decoder transformer.

    Both sides begin with ``embedding * sqrt(embed_dim)`` and positions, then dropout. With
    ``norm_first`` each side ends with a layer norm.

    Args:
        source_tokens: size of the source vocabulary.
        target_tokens: size V of the target vocabulary.
        source_pad_id: padding token of sources, which is masked.
        target_pad_id: padding token of targets.
        embed_dim: width D.
        num_heads: attention heads H of a layer; divides ``embed_dim``.
        num_layers: number of layers of the encoder, and of the decoder.
        feedforward_dim: hidden width of the feed-forward networks.
        dropout: probability after embeddings and sublayers.
        norm_first: layer norm before each sublayer (pre-norm); otherwise after its residual sum.
        positions: positional encoding of both sides.
        max_length: length of the longest source or target where positions are learned; the
            attribute is ``None`` where they are not.
        tie: which embedding matrices are also the output weights: ``none``, the ``target``'s, or
            ``all`` (both sides have one vocabulary, not two of one size).
    Shape:
        source ``[B, S]``, target ``[B, T]`` -> logits ``[B, T, V]``
    Raises:
        ValueError: an impossible size; two vocabularies to tie; a sequence longer than the
            learned positions.

    Source: Vaswani et al. 2017. Deviates: pre-norm by default.

    >>> network = TransformerSeq2Seq(50, 60, source_pad_id=0, target_pad_id=0, embed_dim=16)
    >>> source, target = torch.ones(2, 7, dtype=torch.long), torch.ones(2, 5, dtype=torch.long)
    >>> network(source, target).shape
    torch.Size([2, 5, 60])
    """

    # The memory is projected for all decoder layers before the first of them runs.
    block_classes: ClassVar[tuple[type[nn.Module], ...]] = (DecoderLayer, CrossAttention)

    def __init__(
        self,
        source_tokens: int,
        target_tokens: int,
        *,
        source_pad_id: int,
        target_pad_id: int,
        embed_dim: int = 256,
        num_heads: int = 8,
        num_layers: int = 3,
        feedforward_dim: int = 512,
        dropout: float = 0.1,
        norm_first: bool = True,
        positions: Positions = "sinusoidal",
        max_length: int = 256,
        tie: Tie = "none",
    ) -> None:
        super().__init__()
        at_least_one("source_tokens", source_tokens)
        at_least_one("target_tokens", target_tokens)
        _check_tie(tie, (source_tokens, source_pad_id), (target_tokens, target_pad_id))
        options = LayerOptions(
            embed_dim, num_heads, feedforward_dim, dropout=dropout, norm_first=norm_first
        )
        self.source_pad_id = source_pad_id
        self.max_length = max_length if positions == "learned" else None
        self.scale = embed_dim**0.5
        self.source_embedding = nn.Embedding(source_tokens, embed_dim, padding_idx=source_pad_id)
        self.target_embedding = nn.Embedding(target_tokens, embed_dim, padding_idx=target_pad_id)
        self.source_positions, self.target_positions = (
            position_module(positions, embed_dim, num_heads=num_heads, max_length=max_length)
            for _ in range(2)
        )
        self.dropout = nn.Dropout(dropout)
        self.encoder = EncoderLayers(options, num_layers)
        self.decoder = cast(
            Sequence[DecoderLayer],
            nn.ModuleList(DecoderLayer(options) for _ in range(num_layers)),
        )
        self.encoder_norm, self.decoder_norm = (
            nn.LayerNorm(embed_dim) if norm_first else nn.Identity() for _ in range(2)
        )
        self.output = nn.Linear(embed_dim, target_tokens)
        self._initialize(tie)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        memory, state = self.encode(source)
        return self.decode(target, state, memory)[0]

    def encode(self, source: Tensor) -> tuple[Memory, None]:
        """What the decoder attends to in sources ``[B, S]``, and its (empty) initial state."""
        check_tokens("source", source, self.source_embedding.num_embeddings)
        check_sequences("source", source, self.source_pad_id)
        mask = source != self.source_pad_id
        x, rotation = self.source_positions(self.source_embedding(source) * self.scale)
        x = self.encoder_norm(self.encoder(self.dropout(x), mask, rotation))
        return Memory(
            tuple(layer.cross_attention.project(x) for layer in self.decoder), mask
        ), None

    def decode(
        self, tokens: Tensor, state: Caches | None, memory: Memory
    ) -> tuple[Tensor, Caches]:
        """Logits of the token after each of ``tokens``, and the state after them.

        Args:
            tokens: ``[B, T]``, which continue the tokens in ``state``.
            state: from the call before; ``None`` at the start of a target.
            memory: from ``encode``.
        Shape:
            -> logits ``[B, T, V]``, and a key-value cache per layer
        """
        x, rotation = self._embed_target(tokens, cached_length(state))
        caches: list[KeyValues] = []
        starts = state or [None] * len(self.decoder)
        for layer, source, cache in zip(self.decoder, memory.layers, starts, strict=True):
            x, cache = layer(x, source, memory.mask, cache, rotation)
            caches.append(cache)
        return self.output(self.decoder_norm(x)), tuple(caches)

    def alignments(self, source: Tensor, target: Tensor) -> Tensor:
        """The last layer's attention to the source, averaged over heads, ``[B, T, S]``."""
        memory, _ = self.encode(source)
        x, rotation = self._embed_target(target, 0)
        *before, (last, keys_values) = zip(self.decoder, memory.layers, strict=True)
        for layer, layer_keys_values in before:
            x, _ = layer(x, layer_keys_values, memory.mask, None, rotation)
        return last.weights(x, keys_values, memory.mask, rotation).mean(1)

    def _embed_target(self, tokens: Tensor, past: int) -> tuple[Tensor, Tensor | None]:
        check_tokens("target", tokens, self.target_embedding.num_embeddings)
        x, rotation = self.target_positions(self.target_embedding(tokens) * self.scale, past)
        return self.dropout(x), rotation

    def _initialize(self, tie: Tie) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for embedding in (self.source_embedding, self.target_embedding):
            nn.init.normal_(embedding.weight, std=1 / self.scale)
            nn.init.zeros_(embedding.weight[embedding.padding_idx].detach())
        if tie != "none":
            self.output.weight = self.target_embedding.weight
        if tie == "all":
            self.source_embedding.weight = self.target_embedding.weight


def _check_tie(tie: Tie, source: tuple[int, int], target: tuple[int, int]) -> None:
    """Check the sizes and padding ids of both sides."""
    choose_from("tie", tie, Tie)
    for name, a, b in zip(("tokens", "pad_id"), source, target, strict=True):
        if tie == "all" and a != b:
            raise ValueError(
                f"tie='all' needs one vocabulary: source_{name}={a} and target_{name}={b} differ; "
                f"share the vocabulary or give tie='target'"
            )
