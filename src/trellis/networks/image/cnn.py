"""Small convolutional networks for images."""

from torch import Tensor, nn

from trellis.checks import at_least_one, check_images, check_sizes, does_not_fit, probability

LENET_SIZE = 32  # of the image, padding included


class LeNet5(nn.Module):
    """LeNet-5: two 5x5 convolutions with 2x2 pooling, then three dense layers.

    Args:
        in_channels: colour channels.
        out_channels: number of classes.
        padding: zeros around the image: 2 for 28x28 images, 0 for 32x32.
    Shape:
        x ``[B, in_channels, S, S]`` with ``S = 32 - 2 padding`` -> ``[B, out_channels]``
    Raises:
        ValueError: an image of another size.

    Source: LeCun et al. 1998, figure 2. Deviates, as is common: ReLU for tanh, max pooling for
    trainable mean pooling, all feature maps connected, a linear last layer.

    >>> sum(p.numel() for p in LeNet5(1, 10).parameters())
    61706
    """

    def __init__(self, in_channels: int, out_channels: int, *, padding: int = 2) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        if not 0 <= padding < LENET_SIZE // 2:
            raise ValueError(f"padding={padding}: give 2 for 28 x 28 images, 0 for 32 x 32")
        self.in_channels, self.padding = in_channels, padding
        self.features = nn.Sequential(
            nn.Conv2d(in_channels, 6, 5, padding=padding),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(6, 16, 5),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16 * 5 * 5, 120),
            nn.ReLU(),
            nn.Linear(120, 84),
            nn.ReLU(),
            nn.Linear(84, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "LeNet5")
        size = LENET_SIZE - 2 * self.padding
        if x.shape[2:] != (size, size):
            hint = "padding=2 is for 28 x 28, padding=0 for 32 x 32"
            wanted = f"[B, {self.in_channels}, {size}, {size}]; {hint}"
            raise does_not_fit("x", x, f"LeNet5(padding={self.padding})", wanted)
        return self.classifier(self.features(x))


class SmallCNN(nn.Module):
    """Two convolutions and two dense layers, for images of any size.

    ``conv3x3-norm-ReLU-pool`` twice, max pooling to 4x4, then ``dropout-dense-ReLU-dense``.

    Args:
        in_channels: colour channels.
        out_channels: number of classes.
        channels: output channels of the first convolution; the second has twice as many.
        hidden_channels: width of the hidden dense layer.
        dropout: probability before the dense layers.
    Shape:
        x ``[B, in_channels, H, W]``, H and W at least 4 -> ``[B, out_channels]``
    Raises:
        ValueError: a size below 1, or an x of another shape.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        channels: int = 32,
        hidden_channels: int = 128,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        check_sizes(in_channels, out_channels)
        at_least_one("channels", channels)
        at_least_one("hidden_channels", hidden_channels)
        probability("dropout", dropout)
        self.in_channels = in_channels
        self.features = nn.Sequential(
            *_convolution(in_channels, channels),
            *_convolution(channels, 2 * channels),
            nn.AdaptiveMaxPool2d(4),
        )
        self.classifier = nn.Sequential(
            nn.Flatten(),
            nn.Dropout(dropout),
            nn.Linear(2 * channels * 4 * 4, hidden_channels),
            nn.ReLU(),
            nn.Linear(hidden_channels, out_channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        check_images(x, self.in_channels, "SmallCNN", least=4)
        return self.classifier(self.features(x))


def _convolution(in_channels: int, out_channels: int) -> list[nn.Module]:
    return [
        nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False),  # the batch norm has one
        nn.BatchNorm2d(out_channels),
        nn.ReLU(),
        nn.MaxPool2d(2),
    ]
