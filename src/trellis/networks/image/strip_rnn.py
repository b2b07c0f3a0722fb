"""Convolutional recurrence over the strips of an image."""

from typing import Literal

from torch import Tensor, nn

from trellis.checks import at_least_one, check_images, check_sizes, choose_from, does_not_fit
from trellis.sequence.convolutional_cells import ConvGRUCell, ConvLSTMCell

ConvCellName = Literal["gru", "lstm"]


class StripRNN(nn.Module):
    """Reads an image from top to bottom, a strip at a time, as the frames of a film.

    The strips have the full width and do not overlap; a linear layer reads the last state.

    Args:
        in_channels: colour channels.
        out_channels: number of classes.
        image_size: height and width of an image.
        strip_height: of a strip; divides ``image_size``.
        cell: gru or lstm, of convolutions.
        hidden_channels: of the state.
        kernel_size: of the convolutions; odd.
    Shape:
        x ``[B, in_channels, image_size, image_size]`` -> ``[B, out_channels]``
    Raises:
        ValueError: an impossible size, an unknown cell, or an image of another size.

    Source: Shi et al. 2015 (the recurrence); Le et al. 2015 (images as sequences, pixel by pixel).

    >>> import torch
    >>> StripRNN(1, 10, image_size=28, strip_height=7)(torch.zeros(2, 1, 28, 28)).shape
    torch.Size([2, 10])
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        image_size: int = 28,
        strip_height: int = 4,
        cell: ConvCellName = "gru",
        hidden_channels: int = 16,
        kernel_size: int = 3,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("strip_height", strip_height)
        if at_least_one("image_size", image_size) % strip_height:
            raise ValueError(
                f"strip_height={strip_height}: give a divisor of image_size={image_size}"
            )
        self.in_channels, self.image_size = in_channels, image_size
        self.strip_height = strip_height
        kind = ConvGRUCell if choose_from("cell", cell, ConvCellName) == "gru" else ConvLSTMCell
        self.cell = kind(in_channels, hidden_channels, kernel_size=kernel_size)
        self.output = nn.Linear(hidden_channels * strip_height * image_size, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "StripRNN")
        if x.shape[2:] != (self.image_size, self.image_size):
            wanted = f"[B, {self.in_channels}, {self.image_size}, {self.image_size}]"
            raise does_not_fit("x", x, f"StripRNN(image_size={self.image_size})", wanted)
        strips = x.split(self.strip_height, dim=2)
        state = self.cell.zero_state(strips[0])
        for strip in strips:
            state = self.cell(strip, state)
        return self.output(state[0].flatten(1))
