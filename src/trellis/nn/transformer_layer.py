"""Transformer layers: attention and a feed-forward network, each in a residual connection.

Legend: B sequences, T tokens, S memory tokens, D embed_dim, H heads, d = D / H.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, TypeVar, cast

from torch import Tensor, nn

from trellis.checks import at_least_one, positive, probability
from trellis.nn.activation import Activation, activation_module
from trellis.nn.attention import (
    CausalSelfAttention,
    CrossAttention,
    KeyValues,
    SelfAttention,
    check_heads,
)
from trellis.nn.positional import LearnedPositions

Attention = TypeVar("Attention", SelfAttention, CrossAttention)


class CausalAttentionFactory(Protocol):
    """Builds the causal self-attention of a layer; called by keyword.

    The module has ``forward(x [B, T, D], cache, rotation) -> (y [B, T, D], cache)``, where the
    cache is a tuple of tensors, the first of which has the positions so far in dimension 2, and
    ``weights(x, rotation) -> [B, H, T, T]``.
    """

    def __call__(
        self, embed_dim: int, num_heads: int, *, dropout: float, bias: bool
    ) -> nn.Module: ...


@dataclass(frozen=True)
class LayerOptions:
    """Options that all layers of a transformer share.

    Args:
        embed_dim: width D.
        num_heads: attention heads H; divides ``embed_dim``.
        feedforward_dim: hidden width of the feed-forward network.
        dropout: probability after each sublayer and inside the feed-forward network.
        attention_dropout: of the attention weights; above 0 torch has no fused kernel on the CPU.
        activation: of the feed-forward network.
        norm_first: normalize the input of a sublayer (pre-norm), else the sum (post-norm).
        bias: whether linear maps and norms have biases.
        causal_attention: from sizes to the causal self-attention of a layer.
        norm_eps: added to the variance in norms.
    Raises:
        ValueError: a size or probability is out of range.
    """

    embed_dim: int
    num_heads: int
    feedforward_dim: int
    dropout: float = 0.0
    attention_dropout: float = 0.0
    activation: Activation = "relu"
    norm_first: bool = True
    bias: bool = True
    causal_attention: CausalAttentionFactory = CausalSelfAttention
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_heads(self.embed_dim, self.num_heads)
        at_least_one("feedforward_dim", self.feedforward_dim)
        probability("dropout", self.dropout)
        probability("attention_dropout", self.attention_dropout)
        positive("norm_eps", self.norm_eps)

    def attention(self, kind: type[Attention]) -> Attention:
        """A new attention of one of the two kinds."""
        return kind(self.embed_dim, self.num_heads, dropout=self.attention_dropout, bias=self.bias)

    def causal(self) -> Any:
        """A new causal self-attention."""
        return self.causal_attention(
            embed_dim=self.embed_dim,
            num_heads=self.num_heads,
            dropout=self.attention_dropout,
            bias=self.bias,
        )

    def norm(self) -> nn.LayerNorm:
        """A new layer norm."""
        return nn.LayerNorm(self.embed_dim, eps=self.norm_eps, bias=self.bias)


class ResidualNorm(nn.Module):
    r"""The residual connection around a sublayer f, with its norm and dropout.

    .. math::
        \text{pre-norm:}\ x + \mathrm{drop}(f(\mathrm{norm}(x))), \quad
        \text{post-norm:}\ \mathrm{norm}(x + \mathrm{drop}(f(x)))

    ``after(x, f(before(x)))`` computes either.

    Args:
        options: of the layer.

    Source: Vaswani et al. 2017, section 3.1 (norm last); Xiong et al. 2020 (norm first).
    """

    def __init__(self, options: LayerOptions) -> None:
        super().__init__()
        self.norm_first = options.norm_first
        self.norm = options.norm()
        self.dropout = nn.Dropout(options.dropout)

    def before(self, x: Tensor) -> Tensor:
        """Input of the sublayer, from x ``[B, T, D]``."""
        return self.norm(x) if self.norm_first else x

    def after(self, x: Tensor, change: Tensor) -> Tensor:
        """Output of the connection, ``[B, T, D]``."""
        x = x + self.dropout(change)
        return x if self.norm_first else self.norm(x)


class FeedForward(nn.Module):
    """Position-wise feed-forward network in a residual connection.

    Args:
        options: of the layer.
    Shape:
        x ``[B, T, D]`` -> ``[B, T, D]``
    """

    def __init__(self, options: LayerOptions) -> None:
        super().__init__()
        self.hidden = nn.Linear(options.embed_dim, options.feedforward_dim, bias=options.bias)
        self.activation = activation_module(options.activation)
        self.dropout = nn.Dropout(options.dropout)
        self.output = nn.Linear(options.feedforward_dim, options.embed_dim, bias=options.bias)
        self.residual = ResidualNorm(options)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.activation(self.hidden(self.residual.before(x)))
        return self.residual.after(x, self.output(self.dropout(hidden)))


class EncoderLayer(nn.Module):
    """Self-attention, then a feed-forward network.

    Args:
        options: of the layer.
    Shape:
        x ``[B, T, D]`` -> ``[B, T, D]``

    Source: Vaswani et al. 2017, section 3.1; equals ``torch.nn.TransformerEncoderLayer``.
    """

    def __init__(self, options: LayerOptions) -> None:
        super().__init__()
        self.attention = options.attention(SelfAttention)
        self.residual = ResidualNorm(options)
        self.feedforward = FeedForward(options)

    def forward(
        self, x: Tensor, mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """``mask [B, T]`` is True at tokens, False at padding; or ``[B, T, T]`` of ``attend``."""
        change = self.attention(self.residual.before(x), mask, rotation)
        return self.feedforward(self.residual.after(x, change))

    def weights(
        self, x: Tensor, mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """Attention weights of the layer, ``[B, H, T, T]``."""
        return self.attention.weights(self.residual.before(x), mask, rotation)


class EncoderLayers(nn.ModuleList):
    """Layers of an encoder, one after the other.

    Args:
        options: of all layers.
        num_layers: how many.
    Shape:
        x ``[B, T, D]`` -> ``[B, T, D]``
    Raises:
        ValueError: there are none.
    """

    block_classes: ClassVar[tuple[type[nn.Module], ...]] = (EncoderLayer,)

    def __init__(self, options: LayerOptions, num_layers: int) -> None:
        at_least_one("num_layers", num_layers)
        super().__init__(EncoderLayer(options) for _ in range(num_layers))

    def forward(
        self, x: Tensor, mask: Tensor | None = None, rotation: Tensor | None = None
    ) -> Tensor:
        """``mask [B, T]`` is True at tokens, False at padding."""
        for layer in self:
            x = layer(x, mask, rotation)
        return x

    def weights(self, x: Tensor, mask: Tensor | None = None) -> list[Tensor]:
        """Attention weights ``[B, H, T, T]`` of each layer."""
        each = []
        for layer in cast(Iterable[EncoderLayer], self):
            each.append(layer.weights(x, mask))
            x = layer(x, mask)
        return each


class CausalLayer(nn.Module):
    """Causal self-attention, then a feed-forward network: the layer of language models.

    Args:
        options: of the layer.
    Shape:
        x ``[B, T, D]``, cache of S positions -> ``[B, T, D]``, cache of S + T positions
    """

    def __init__(self, options: LayerOptions) -> None:
        super().__init__()
        self.attention = options.causal()
        self.residual = ResidualNorm(options)
        self.feedforward = FeedForward(options)

    def forward(
        self, x: Tensor, cache: KeyValues | None = None, rotation: Tensor | None = None
    ) -> tuple[Tensor, KeyValues]:
        change, cache = self.attention(self.residual.before(x), cache, rotation)
        return self.feedforward(self.residual.after(x, change)), cache

    def weights(self, x: Tensor, rotation: Tensor | None = None) -> Tensor:
        """Attention weights of the layer, ``[B, H, T, T]``."""
        return self.attention.weights(self.residual.before(x), rotation)


class DecoderLayer(nn.Module):
    """Causal self-attention, cross-attention to a memory, then a feed-forward network.

    Args:
        options: of the layer.
    Shape:
        x ``[B, T, D]``, memory of S tokens -> ``[B, T, D]``

    Source: Vaswani et al. 2017, section 3.1; equals ``torch.nn.TransformerDecoderLayer``.
    """

    def __init__(self, options: LayerOptions) -> None:
        super().__init__()
        self.attention = options.causal()
        self.residual = ResidualNorm(options)
        self.cross_attention = options.attention(CrossAttention)
        self.cross_residual = ResidualNorm(options)
        self.feedforward = FeedForward(options)

    def forward(
        self,
        x: Tensor,
        key_values: KeyValues,
        mask: Tensor | None = None,
        cache: KeyValues | None = None,
        rotation: Tensor | None = None,
    ) -> tuple[Tensor, KeyValues]:
        """A whole sequence, or the part of it that follows the cached positions.

        Args:
            x: ``[B, T, D]``.
            key_values: of the memory, from ``cross_attention.project``.
            mask: ``[B, S]``, True at tokens of the memory, False at padding.
            cache: of the self-attention, with the positions before x.
            rotation: of ``RotaryPositions``.
        Shape:
            -> ``[B, T, D]`` and the cache extended by x
        """
        x, cache = self._attend_to_past(x, cache, rotation)
        change = self.cross_attention(self.cross_residual.before(x), key_values, mask)
        return self.feedforward(self.cross_residual.after(x, change)), cache

    def weights(
        self,
        x: Tensor,
        key_values: KeyValues,
        mask: Tensor | None = None,
        rotation: Tensor | None = None,
    ) -> Tensor:
        """Cross-attention weights ``[B, H, T, S]``."""
        x, _ = self._attend_to_past(x, None, rotation)
        return self.cross_attention.weights(self.cross_residual.before(x), key_values, mask)

    def _attend_to_past(
        self, x: Tensor, cache: KeyValues | None, rotation: Tensor | None
    ) -> tuple[Tensor, KeyValues]:
        change, cache = self.attention(self.residual.before(x), cache, rotation)
        return self.residual.after(x, change), cache


def cached_length(state: tuple[KeyValues, ...] | None) -> int:
    """Number of positions in the caches of the layers.

    >>> cached_length(None)
    0
    """
    return 0 if state is None else state[0][0].size(2)


def initialize_normal_(module: nn.Module, std: float = 0.02) -> None:
    r"""Draw weights and embeddings from :math:`N(0, \mathrm{std}^2)`, zero the biases, in place.

    Source: Radford et al. 2018, section 4.1; Devlin et al. 2019, released code.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear | nn.Embedding | LearnedPositions):
            nn.init.normal_(layer.weight, std=std)
        if isinstance(layer, nn.Linear) and layer.bias is not None:
            nn.init.zeros_(layer.bias)
