"""Dilated convolutions over time that see no future, with a state from which they go on.

Legend: B sequences, T steps, C channels, k ``kernel_size``, d the dilation of a layer. The state
of a layer holds its last (k - 1) d inputs, ``[B, C, (k - 1) d]``, zeros before the beginning:
feeding a sequence in pieces, each with the state after the one before, equals feeding it at once.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least_one, does_not_fit, probability

State = tuple[Tensor, ...]


class CausalConvolution(nn.Module):
    r"""A dilated convolution of past and present, whose filters have learnt lengths.

    .. math:: y_t = \sum_{i=0}^{k-1} W_i x_{t - i d} + b, \quad W = g \frac{V}{\lVert V \rVert}

    Args:
        in_channels: channels of the input.
        out_channels: number of filters.
        kernel_size: k.
        dilation: d.
    Shape:
        x ``[B, in_channels, T]``, state -> ``[B, out_channels, T]``, state

    Source: van den Oord et al. 2016, section 2.1; Salimans and Kingma 2016 (g and V).
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, kernel_size: int, dilation: int
    ) -> None:
        super().__init__()
        self.in_channels, self.dilation = in_channels, dilation
        self.memory = (kernel_size - 1) * dilation
        convolution = nn.Conv1d(in_channels, out_channels, kernel_size)
        self.direction, self.bias = convolution.weight, convolution.bias
        self.length = nn.Parameter(self._norm().detach().flatten())

    def forward(self, x: Tensor, state: Tensor | None = None) -> tuple[Tensor, Tensor]:
        if state is None:
            state = x.new_zeros(x.size(0), self.in_channels, self.memory)
        x = torch.cat([state.to(x.dtype), x], 2)
        weight = self.direction * (self.length[:, None, None] / self._norm())
        output = F.conv1d(x, weight, self.bias, dilation=self.dilation)
        return output, x[:, :, x.size(2) - self.memory :]

    def _norm(self) -> Tensor:
        return self.direction.square().sum((1, 2), keepdim=True).sqrt()


class TemporalBlock(nn.Module):
    r"""Two causal convolutions with ReLU and dropout, beside what passes by.

    .. math:: y = \mathrm{ReLU}(F(x) + x)

    Where the widths differ, x passes through a linear map of each step.

    Args:
        in_channels: channels of the input.
        out_channels: channels of the output.
        kernel_size: of both convolutions.
        dilation: of both convolutions.
        dropout: probability after each.
    Shape:
        x ``[B, in_channels, T]``, two states -> ``[B, out_channels, T]``, two states
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        kernel_size: int,
        dilation: int,
        dropout: float,
    ) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            CausalConvolution(width, out_channels, kernel_size=kernel_size, dilation=dilation)
            for width in (in_channels, out_channels)
        )
        self.dropout = nn.Dropout(dropout)
        self.by: nn.Module = nn.Identity()
        if in_channels != out_channels:
            self.by = nn.Conv1d(in_channels, out_channels, 1)

    def forward(self, x: Tensor, states: State | None = None) -> tuple[Tensor, State]:
        y, after = x, []
        for convolution, state in zip(self.convolutions, states or (None, None), strict=True):
            y, state = convolution(y, state)
            y = self.dropout(y.relu())
            after.append(state)
        return (y + self.by(x)).relu(), tuple(after)


class TemporalStack(nn.Module):
    """Temporal blocks, each with twice the dilation of the one below: 1, 2, 4, ...

    Args:
        in_features: width of the input.
        channels: width of each block, C.
        num_layers: number of blocks.
        kernel_size: of the convolutions, k.
        dropout: probability after each convolution.
    Shape:
        x ``[B, T, in_features]``, state of ``[B, C, (k - 1) d]`` or None -> ``[B, T, C]``, state
    Raises:
        ValueError: a size below 1, no probability, or an x of another shape.

    Source: Bai et al. 2018, section 3.

    >>> stack = TemporalStack(3, 8, num_layers=2, kernel_size=3)
    >>> outputs, state = stack(torch.ones(2, 5, 3))
    >>> outputs.shape, [part.size(2) for part in state], stack.receptive_field
    (torch.Size([2, 5, 8]), [2, 2, 4, 4], 13)
    """

    def __init__(
        self,
        in_features: int,
        channels: int,
        *,
        num_layers: int = 4,
        kernel_size: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.in_features = at_least_one("in_features", in_features)
        self.out_features = at_least_one("channels", channels)
        at_least_one("num_layers", num_layers)
        at_least_one("kernel_size", kernel_size)
        probability("dropout", dropout)
        widths = [in_features, *[channels] * num_layers]
        self.blocks = nn.ModuleList(
            TemporalBlock(
                widths[layer],
                channels,
                kernel_size=kernel_size,
                dilation=2**layer,
                dropout=dropout,
            )
            for layer in range(num_layers)
        )
        # Steps that an output depends on, itself included.
        self.receptive_field = 1 + 2 * (kernel_size - 1) * (2**num_layers - 1)

    def forward(self, x: Tensor, state: State | None = None) -> tuple[Tensor, State]:
        if x.dim() != 3 or x.size(2) != self.in_features:
            owner = f"TemporalStack(in_features={self.in_features})"
            raise does_not_fit("x", x, owner, f"[B, T, {self.in_features}]")
        y, after = x.transpose(1, 2), []
        for layer, block in enumerate(self.blocks):
            y, states = block(y, None if state is None else state[2 * layer : 2 * layer + 2])
            after += states
        return y.transpose(1, 2), tuple(after)
