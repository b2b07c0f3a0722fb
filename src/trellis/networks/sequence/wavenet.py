"""WaveNet: gated dilated convolutions, each of which has a say in the output.

Legend: B sequences, T steps, C channels, S skip channels, V tokens, k ``kernel_size``, d the
dilation of a layer.
"""

from torch import Tensor, nn

from trellis.checks import at_least_one, check_tokens, probability
from trellis.networks.sequence.recurrent import token_embedding
from trellis.sequence.temporal_convolution import CausalConvolution, State


class WaveNet(nn.Module):
    r"""Language model of gated causal convolutions: the next token, given those before it.

    .. math:: z = \tanh(W_f * x) \odot \sigma(W_g * x), \quad x \leftarrow x + W_r z, \quad
        \text{logits} = W_2\, \mathrm{ReLU}\Bigl(W_1\, \mathrm{ReLU}\Bigl(\sum_l W_{s,l}\, z_l
        \Bigr)\Bigr)

    Layers have the dilations 1, 2, 4, ..., and then again, ``num_stacks`` times. Feeding a text in
    pieces, each with the state after the one before, equals feeding it at once: the state of a
    layer holds its last (k - 1) d inputs, see ``CausalConvolution``.

    Args:
        num_tokens: size of the vocabulary V.
        channels: C, of the embeddings and of each layer.
        skip_channels: S, of the sum over layers.
        num_layers: layers of a stack.
        num_stacks: how many stacks.
        kernel_size: of the convolutions.
        dropout: probability on the embeddings and on the sum over layers.
    Attributes:
        receptive_field: how many tokens an output depends on, 1 + ``num_stacks`` (k - 1)
            (2^``num_layers`` - 1).
    Shape:
        tokens ``[B, T]``, state or None -> logits ``[B, T, V]``, state of ``[B, C, (k - 1) d]``
    Raises:
        ValueError: a size below 1, no probability, or an id outside the vocabulary.

    Source: van den Oord et al. 2016 (WaveNet), sections 2.1, 2.3 and 2.4.
    Deviates: learnt lengths of the filters, see ``CausalConvolution``; dropout.

    >>> network = WaveNet(65, channels=8, skip_channels=16, num_layers=3, num_stacks=2)
    >>> logits, state = network(torch.zeros(2, 5, dtype=torch.long))
    >>> logits.shape, [part.size(2) for part in state], network.receptive_field
    (torch.Size([2, 5, 65]), [1, 2, 4, 1, 2, 4], 15)
    """

    def __init__(
        self,
        num_tokens: int,
        *,
        channels: int = 64,
        skip_channels: int = 128,
        num_layers: int = 6,
        num_stacks: int = 2,
        kernel_size: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        at_least_one("skip_channels", skip_channels)
        at_least_one("num_layers", num_layers)
        at_least_one("kernel_size", kernel_size)
        dilations = [2**layer for layer in range(num_layers)]
        dilations *= at_least_one("num_stacks", num_stacks)
        self.embedding = token_embedding(num_tokens, at_least_one("channels", channels))
        self.dropout = nn.Dropout(probability("dropout", dropout))
        self.layers = nn.ModuleList(
            _GatedLayer(channels, skip_channels, kernel_size, dilation, number == len(dilations))
            for number, dilation in enumerate(dilations, 1)
        )
        self.output = nn.Sequential(
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(skip_channels, skip_channels),
            nn.ReLU(),
            nn.Linear(skip_channels, num_tokens),
        )
        self.receptive_field = 1 + (kernel_size - 1) * sum(dilations)

    def forward(self, tokens: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        check_tokens("tokens", tokens, self.embedding.num_embeddings)
        x = self.dropout(self.embedding(tokens)).transpose(1, 2)  # [B, C, T]
        total, after = x.new_zeros(()), []
        for number, layer in enumerate(self.layers):
            x, skip, memory = layer(x, None if state is None else state[number])
            total = total + skip  # [B, S, T]
            after.append(memory)
        return self.output(total.transpose(1, 2)), tuple(after)


class _GatedLayer(nn.Module):
    """``x [B, C, T]`` and its memory -> the next layer's x, ``[B, S, T]`` to skip, its memory."""

    def __init__(
        self, channels: int, skip_channels: int, kernel_size: int, dilation: int, is_last: bool
    ) -> None:
        super().__init__()
        self.convolution = CausalConvolution(
            channels, 2 * channels, kernel_size=kernel_size, dilation=dilation
        )
        # Nobody reads what the last layer would hand on.
        self.residual = None if is_last else nn.Conv1d(channels, channels, 1)
        self.skip = nn.Conv1d(channels, skip_channels, 1)

    def forward(self, x: Tensor, memory: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        convolved, memory = self.convolution(x, memory)
        filtered, gate = convolved.chunk(2, 1)
        z = filtered.tanh() * gate.sigmoid()
        following = x if self.residual is None else x + self.residual(z)
        return following, self.skip(z), memory
