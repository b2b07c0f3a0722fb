"""Recurrent cells whose linear maps are convolutions, for sequences of images.

Legend: B sequences, C ``in_channels``, D ``hidden_channels``, H and W the size of a frame, x the
input ``[B, C, H, W]``. A cell maps ``(x, state)`` to the next state, a tuple of tensors
``[B, D, H, W]`` whose first is the output.
"""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from trellis.checks import at_least_one

State = tuple[Tensor, ...]


class ConvolutionalCell(nn.Module, ABC):
    """One step of a convolutional recurrence; zeros surround frames and states.

    Args:
        in_channels: of a frame.
        hidden_channels: of the state.
        kernel_size: of the convolutions of both; odd.
    Shape:
        x ``[B, C, H, W]``, state: tensors ``[B, D, H, W]`` -> the next state
    Raises:
        ValueError: a size below 1, or an even ``kernel_size``.
    """

    parts = 1  # number of tensors in a state
    gates = 3  # maps of a kind, each to ``hidden_channels``

    def __init__(self, in_channels: int, hidden_channels: int, *, kernel_size: int = 3) -> None:
        super().__init__()
        at_least_one("in_channels", in_channels)
        self.hidden_channels = at_least_one("hidden_channels", hidden_channels)
        if at_least_one("kernel_size", kernel_size) % 2 == 0:
            raise ValueError(f"kernel_size={kernel_size}: give an odd one, which has a middle")
        out, padding = self.gates * hidden_channels, kernel_size // 2
        self.input = nn.Conv2d(in_channels, out, kernel_size, padding=padding)
        self.hidden = nn.Conv2d(hidden_channels, out, kernel_size, padding=padding)

    def zero_state(self, x: Tensor) -> State:
        """State of zeros for frames of the size of ``x``."""
        return (x.new_zeros(x.size(0), self.hidden_channels, *x.shape[2:]),) * self.parts

    @abstractmethod
    def forward(self, x: Tensor, state: State) -> State:
        """The state after x."""


class ConvGRUCell(ConvolutionalCell):
    r"""GRU of convolutions.

    .. math::
        r, z = \sigma(U * x + W * h + b), \quad
        n = \tanh(U_n * x + b_n + r (W_n * h + c_n)), \quad
        h' = z h + (1 - z) n

    The state is ``(h,)``; the channels of ``input`` and ``hidden`` are those of r, z, n.

    Source: Ballas et al. 2016, section 3. Deviates: r multiplies what the convolution makes of h,
    as in torch's GRU, not h itself.
    """

    def forward(self, x: Tensor, state: State) -> State:
        (h,) = state
        known_r, known_z, known = self.input(x).chunk(3, dim=1)
        past_r, past_z, past = self.hidden(h).chunk(3, dim=1)
        z = (known_z + past_z).sigmoid()
        new = (known + (known_r + past_r).sigmoid() * past).tanh()
        return (z * h + (1 - z) * new,)


class ConvLSTMCell(ConvolutionalCell):
    r"""LSTM of convolutions.

    .. math::
        i, f, o = \sigma(U * x + W * h + b), \quad g = \tanh(U_g * x + W_g * h + b_g), \\
        c' = f c + i g, \quad h' = o \tanh(c')

    The state is ``(h, c)``; the channels of ``input`` and ``hidden`` are those of i, f, g, o.

    Source: Shi et al. 2015, eq. 3. Deviates: the gates do not look at c, so that frames may be of
    any size.
    """

    parts = 2
    gates = 4

    def forward(self, x: Tensor, state: State) -> State:
        h, c = state
        i, f, g, o = (self.input(x) + self.hidden(h)).chunk(4, dim=1)
        c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        return o.sigmoid() * c.tanh(), c
