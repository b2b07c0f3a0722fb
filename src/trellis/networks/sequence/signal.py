"""Networks of signals: numbers at equal steps of time, in one or several channels.

Legend: B signals, C ``in_channels``, T ``length``.
"""

from torch import Tensor, nn

from trellis.checks import at_least, at_least_one, check_examples, check_sizes
from trellis.sequence.recurrent_stack import CellName, RecurrentStack
from trellis.sequence.temporal_convolution import TemporalStack


class SignalCNN(nn.Module):
    """Three convolutions over time of stride 2 with ReLU, and a linear layer.

    Args:
        in_channels: channels of a signal.
        out_channels: number of classes.
        length: steps of a signal, at least 8.
        channels: output channels of each convolution.
    Shape:
        x ``[B, C, T]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, a length below 8, or an x of another shape.

    Source: Greydanus 2020, "Scaling down deep learning", and its code.

    >>> sum(p.numel() for p in SignalCNN(1, 10).parameters())
    5210
    """

    def __init__(
        self, in_channels: int, out_channels: int, *, length: int = 40, channels: int = 25
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("channels", channels)
        self.shape = (in_channels, at_least(8, "length", length, ", for three halvings"))
        self.features = nn.Sequential(
            nn.Conv1d(in_channels, channels, 5, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 3, stride=2, padding=1),
            nn.ReLU(),
        )
        steps = (length - 1) // 2  # of the first convolution, whose filter is wider
        for _ in range(2):
            steps = (steps + 1) // 2
        self.output = nn.Linear(channels * steps, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "SignalCNN")
        return self.output(self.features(x).flatten(1))


class SignalRNN(nn.Module):
    """Recurrent layers over time, and one linear layer on the outputs of all steps.

    Args:
        in_channels: channels of a signal.
        out_channels: number of classes.
        length: steps of a signal.
        cell: elman, lstm or gru.
        hidden_size: width of a layer, in each direction.
        num_layers: number of recurrent layers.
        dropout: probability between layers.
        bidirectional: layers of both directions.
    Shape:
        x ``[B, C, T]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, an unknown cell, or an x of another shape.

    Source: Greydanus 2020, "Scaling down deep learning", and its code.

    >>> sum(p.numel() for p in SignalRNN(1, 10).parameters())
    5134
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        length: int = 40,
        cell: CellName = "gru",
        hidden_size: int = 6,
        num_layers: int = 1,
        dropout: float = 0.0,
        bidirectional: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        self.shape = (in_channels, at_least_one("length", length))
        self.rnn = RecurrentStack(
            in_channels,
            hidden_size,
            cell=cell,
            num_layers=num_layers,
            dropout=dropout,
            bidirectional=bidirectional,
        )
        self.output = nn.Linear(length * self.rnn.out_features, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "SignalRNN")
        outputs, _ = self.rnn(x.transpose(1, 2))  # [B, T, D * H]
        return self.output(outputs.flatten(1))


class SignalTCN(nn.Module):
    """Dilated causal convolutions over time, and a linear layer on the output of the last step.

    Args:
        in_channels: channels of a signal.
        out_channels: number of classes.
        length: steps of a signal.
        channels: width of each block.
        num_layers: blocks, of dilation 1, 2, 4, ...
        kernel_size: of the convolutions.
        dropout: probability after each convolution.
    Shape:
        x ``[B, C, T]`` -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, an x of another shape, or a length of which the last output
            does not see the first step.

    Source: Bai et al. 2018, section 3 and their sequential MNIST.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        length: int = 40,
        channels: int = 25,
        num_layers: int = 4,
        kernel_size: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        self.shape = (in_channels, at_least_one("length", length))
        self.convolutions = TemporalStack(
            in_channels, channels, num_layers=num_layers, kernel_size=kernel_size, dropout=dropout
        )
        if (seen := self.convolutions.receptive_field) < length:
            raise ValueError(
                f"num_layers={num_layers} of kernel_size={kernel_size} see {seen} of "
                f"length={length} steps: give more of either"
            )
        self.output = nn.Linear(channels, out_channels)

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "SignalTCN")
        outputs, _ = self.convolutions(x.transpose(1, 2))  # [B, T, channels]
        return self.output(outputs[:, -1])
