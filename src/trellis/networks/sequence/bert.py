"""Bidirectional encoder of text, with heads for pretraining, classes, tags and answers.

Legend: B sequences, T tokens, V ``num_tokens``, D ``embed_dim``. The first token of a sequence
([CLS]) represents the whole. Every head calls its encoder ``body`` and the linear layer of the
first token ``pooler``, so that the weights of one can be loaded into another.
"""

from typing import Any

from torch import Tensor, nn

from trellis.checks import at_least_one, check_sequences, check_tokens, positive, probability
from trellis.nn.activation import Activation, activation_module
from trellis.nn.positional import LearnedPositions
from trellis.nn.transformer_layer import EncoderLayers, LayerOptions, initialize_normal_
from trellis.sequence.packing import same_sequence


class BERT(nn.Module):
    """Transformer encoder with attention in both directions.

    Args:
        num_tokens: size of the vocabulary.
        pad_id: padding token, which is masked.
        max_length: length of the longest sequence.
        embed_dim: width D.
        num_heads: attention heads of a layer; divides ``embed_dim``.
        num_layers: number of layers.
        dropout: probability after embeddings and sublayers.
        attention_dropout: probability for the attention weights.
        norm_first: layer norm before each sublayer (pre-norm); otherwise after it, as published.
        feedforward_dim: hidden width of the feed-forward networks; ``None``: 4 D.
        activation: of these.
        norm_eps: added to the variance in norms; 1e-12 in the released weights.
        init_std: of weights and embeddings at the start, here and in heads; a narrow network
            learns sooner from more than the 0.02 of the published ones.
    Shape:
        tokens ``[B, T]``, segments ``[B, T]`` (0 or 1; ``None`` for all 0), positions ``[B, T]``
        of ``PackedTokens`` (``None``: each row is one sequence) -> ``[B, T, D]``
    Raises:
        ValueError: an impossible size, an id outside the vocabulary, a sequence longer than
            ``max_length`` or of nothing but padding.

    Source: Devlin et al. 2019, section 3. Deviates: ``attention_dropout`` is 0 unless given.

    >>> BERT(100, pad_id=0)(torch.ones(2, 7, dtype=torch.long)).shape
    torch.Size([2, 7, 128])
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        pad_id: int,
        max_length: int = 128,
        embed_dim: int = 128,
        num_heads: int = 4,
        num_layers: int = 4,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        norm_first: bool = False,
        feedforward_dim: int | None = None,
        activation: Activation = "gelu",
        norm_eps: float = 1e-5,
        init_std: float = 0.02,
    ) -> None:
        super().__init__()
        self.num_tokens, self.pad_id = at_least_one("num_tokens", num_tokens), pad_id
        self.embed_dim, self.max_length = embed_dim, max_length
        self.options = options = LayerOptions(
            embed_dim,
            num_heads,
            4 * embed_dim if feedforward_dim is None else feedforward_dim,
            dropout=dropout,
            attention_dropout=attention_dropout,
            activation=activation,
            norm_first=norm_first,
            norm_eps=norm_eps,
        )
        self.tokens = nn.Embedding(num_tokens, embed_dim, padding_idx=pad_id)
        self.segments = nn.Embedding(2, embed_dim)
        self.positions = LearnedPositions(embed_dim, max_length)
        self.norm = options.norm()
        self.dropout = nn.Dropout(dropout)
        self.layers = EncoderLayers(options, num_layers)
        self.last_norm = options.norm() if norm_first else nn.Identity()
        self.init_std = positive("init_std", init_std)
        initialize_normal_(self, init_std)

    def forward(
        self, tokens: Tensor, segments: Tensor | None = None, *, positions: Tensor | None = None
    ) -> Tensor:
        return self.last_norm(self.layers(*self._embed(tokens, segments, positions)))

    def attention_weights(self, tokens: Tensor, segments: Tensor | None = None) -> list[Tensor]:
        """Attention weights ``[B, H, T, T]`` of each layer, H heads; for pictures."""
        return self.layers.weights(*self._embed(tokens, segments))

    def _embed(
        self, tokens: Tensor, segments: Tensor | None, positions: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Embeddings ``[B, T, D]``, and the mask of ``attend``, which is false at padding."""
        check_tokens("tokens", tokens, self.num_tokens)
        check_sequences("tokens", tokens, self.pad_id)
        x = self.tokens(tokens)
        x = self.positions(x)[0] if positions is None else x + self.positions.at(positions)
        if segments is None:
            x = x + self.segments.weight[0]
        else:
            check_tokens("segments", segments, 2)
            x = x + self.segments(segments)
        mask = tokens != self.pad_id if positions is None else same_sequence(positions)
        return self.dropout(self.norm(x)), mask


class BertPretraining(nn.Module):
    """BERT that predicts masked tokens, and whether the second sentence follows the first.

    Args:
        num_tokens: size of the vocabulary V.
        pad_id: padding token.
        body: options of ``BERT``.
    Shape:
        tokens, segments ``[B, T]`` -> logits ``[B, T, V]`` of the tokens, ``[B, 2]`` of the order;
        with chosen ``[B, T]``, true for N tokens, logits ``[N, V]`` of these alone, which saves
        most of the computation

    Source: Devlin et al. 2019, section 3.1; the token head as in the released code: a linear
    layer, the activation of the body and layer norm, then the embedding matrix as output weights.

    >>> tokens, order = BertPretraining(100, pad_id=0)(torch.ones(2, 7, dtype=torch.long))
    >>> tokens.shape, order.shape
    (torch.Size([2, 7, 100]), torch.Size([2, 2]))
    """

    def __init__(self, num_tokens: int, *, pad_id: int, **body: Any) -> None:
        super().__init__()
        self.body = BERT(num_tokens, pad_id=pad_id, **body)
        width = self.body.embed_dim
        self.pooler = nn.Linear(width, width)
        self.order = nn.Linear(width, 2)
        self.hidden = nn.Linear(width, width)
        self.activation = activation_module(self.body.options.activation)
        self.norm = self.body.options.norm()
        self.output = nn.Linear(width, num_tokens)
        initialize_normal_(self, self.body.init_std)
        self.output.weight = self.body.tokens.weight

    def forward(
        self, tokens: Tensor, segments: Tensor | None = None, chosen: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        x = self.body(tokens, segments)
        selected = x if chosen is None else x[chosen]
        token_logits = self.output(self.norm(self.activation(self.hidden(selected))))
        return token_logits, self.order(self.pooler(x[:, 0]).tanh())


class BertClassifier(nn.Module):
    """BERT that predicts the class of a sequence, from its first token.

    Args:
        num_tokens: size of the vocabulary.
        out_channels: number of classes C.
        pad_id: padding token.
        head_dropout: probability before the last layer.
        body: options of ``BERT``.
    Shape:
        tokens ``[B, T]``, segments ``[B, T]`` or ``None`` -> logits ``[B, C]``

    Source: Devlin et al. 2019, section 4.1.
    """

    def __init__(
        self,
        num_tokens: int,
        out_channels: int,
        *,
        pad_id: int,
        head_dropout: float = 0.1,
        **body: Any,
    ) -> None:
        super().__init__()
        self.body = BERT(num_tokens, pad_id=pad_id, **body)
        width = self.body.embed_dim
        self.pooler = nn.Linear(width, width)
        self.dropout = nn.Dropout(probability("head_dropout", head_dropout))
        self.output = nn.Linear(width, at_least_one("out_channels", out_channels))
        initialize_normal_(self, self.body.init_std)

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        first = self.pooler(self.body(tokens, segments)[:, 0]).tanh()
        return self.output(self.dropout(first))


class BertTagger(nn.Module):
    """BERT that predicts a tag for every token.

    Args:
        num_tokens: size of the vocabulary.
        out_channels: number of tags C.
        pad_id: padding token.
        head_dropout: probability before the last layer.
        body: options of ``BERT``.
    Shape:
        tokens ``[B, T]``, positions ``[B, T]`` of ``PackedTokens`` or ``None`` -> logits
        ``[B, T, C]``

    Source: Devlin et al. 2019, section 5.3.
    """

    def __init__(
        self,
        num_tokens: int,
        out_channels: int,
        *,
        pad_id: int,
        head_dropout: float = 0.1,
        **body: Any,
    ) -> None:
        super().__init__()
        self.body = BERT(num_tokens, pad_id=pad_id, **body)
        self.dropout = nn.Dropout(probability("head_dropout", head_dropout))
        out_channels = at_least_one("out_channels", out_channels)
        self.output = nn.Linear(self.body.embed_dim, out_channels)
        initialize_normal_(self, self.body.init_std)

    def forward(self, tokens: Tensor, positions: Tensor | None = None) -> Tensor:
        return self.output(self.dropout(self.body(tokens, positions=positions)))


class BertAnswering(nn.Module):
    """BERT that predicts where in a passage the answer to a question begins and ends.

    Args:
        num_tokens: size of the vocabulary.
        pad_id: padding token.
        body: options of ``BERT``.
    Shape:
        tokens, segments ``[B, T]`` -> logits ``[B, T, 2]`` of the first and the last token

    Source: Devlin et al. 2019, section 4.2.
    """

    def __init__(self, num_tokens: int, *, pad_id: int, **body: Any) -> None:
        super().__init__()
        self.body = BERT(num_tokens, pad_id=pad_id, **body)
        self.output = nn.Linear(self.body.embed_dim, 2)
        initialize_normal_(self, self.body.init_std)

    def forward(self, tokens: Tensor, segments: Tensor | None = None) -> Tensor:
        return self.output(self.body(tokens, segments))
