"""Autoregressive models of images in raster order, by masked convolutions.

Legend: B examples, N samples, D colours, C feature channels, H and W height and width, K levels of
a pixel, P parameters of its distribution, k kernel size, r = k // 2 its radius.
"""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import (
    at_least,
    at_least_one,
    check_examples,
    check_labels,
    not_negative,
)
from trellis.generative.pixel_distribution import (
    LevelLogits,
    LogisticMixture,
    PixelDistribution,
)
from trellis.generative.pixel_levels import as_levels
from trellis.networks.generative.sampler import Sampler


class PixelCNN(Sampler):
    r"""Gated PixelCNN: the level of each pixel, given the rows above and the pixels to its left.

    .. math:: \ln p(x \mid y) = \sum_{i,j} \ln \mathrm{softmax}(l_{ij})_{k_{ij}},
        \quad l_{ij} = f(x_{\text{above}}, x_{\text{left}}, y)

    A vertical stack processes the rows above; a horizontal one processes the pixels to the left
    and, at each layer, the features of the vertical one. Together they leave no blind spot. The
    receptive field extends ``first_kernel_size // 2 + num_layers * (kernel_size // 2)`` pixels to
    each side.

    With ``num_mixtures`` the level of a pixel follows a mixture of discretized logistic
    distributions instead of the softmax, and an image may have several colours, each given those
    before it; see ``LogisticMixture``.

    Args:
        shape: of an image ``(D, H, W)``; one colour unless there are mixtures.
        num_levels: K, 2 for binary images, 256 for bytes.
        num_mixtures: components of the mixture; 0 takes the softmax.
        channels: C of both stacks.
        num_layers: gated layers after the first convolution.
        kernel_size: of the gated layers, odd.
        first_kernel_size: of the first convolution, odd.
    Shape:
        x ``[B, D, H, W]`` of levels k / (K - 1), y ``[B]`` -> log-probabilities ``[B]`` in nats
    Raises:
        ValueError: an impossible size; in ``forward``: x of another shape or with other values,
            or labels that are missing, superfluous or out of range.

    Source: van den Oord et al. 2016 (Conditional image generation with PixelCNN decoders),
    section 2 and figure 2; Salimans et al. 2017 (``num_mixtures``).
    Deviates: the first convolutions have no gate; kernels are cropped instead of masked, which
    computes the same function at half the cost.

    >>> PixelCNN((1, 4, 4), channels=4, num_layers=2)(torch.ones(3, 1, 4, 4)).shape
    torch.Size([3])
    """

    discrete = True

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int = 0,
        *,
        num_levels: int = 2,
        num_mixtures: int = 0,
        channels: int = 32,
        num_layers: int = 6,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
    ) -> None:
        super().__init__(shape, num_classes)
        mixed = not_negative("num_mixtures", num_mixtures) > 0
        if len(shape) != 3 or min(shape) < 1 or (shape[0] != 1 and not mixed):
            one = "images of one channel, (1, H, W), or num_mixtures for colours"
            raise ValueError(f"shape={tuple(shape)}: give {'(D, H, W)' if mixed else one}")
        self.distribution: PixelDistribution = LevelLogits(num_levels)
        if mixed:
            self.distribution = LogisticMixture(shape[0], num_levels, num_mixtures)
        at_least_one("channels", channels)
        at_least_one("num_layers", num_layers)
        for name, size in (
            ("kernel_size", kernel_size),
            ("first_kernel_size", first_kernel_size),
        ):
            if size < 3 or size % 2 == 0:
                raise ValueError(f"{name}={size}: give an odd number, at least 3")
        self.num_levels = num_levels
        self.radius = first_kernel_size // 2
        self.above = nn.Conv2d(shape[0], channels, (self.radius, first_kernel_size))
        self.left = nn.Conv2d(shape[0], channels, (1, self.radius))
        self.layers = nn.ModuleList(
            _GatedLayer(channels, kernel_size, num_classes) for _ in range(num_layers)
        )
        self.head = nn.Sequential(
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.ReLU(),
            nn.Conv2d(channels, self.distribution.num_parameters, 1),
        )

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, "PixelCNN")
        return self.distribution.log_prob(x, self.logits(x, y)).flatten(1).sum(1)

    log_prob = forward

    def logits(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Logits of the levels of each pixel given those before it.

        With mixtures they are its other parameters; see ``LogisticMixture``.

        Shape:
            x ``[B, D, H, W]``, y ``[B]`` -> ``[B, P, H, W]``, P = K for logits
        """
        check_labels(y, self.num_classes, "PixelCNN")
        x, r = _centred(x), self.radius
        # One row less below and one column less to the right: no pixel depends on itself.
        vertical = self.above(F.pad(x, (r, r, r, -1)))
        horizontal = self.left(F.pad(x, (r, -1)))
        for layer in self._gated():
            r = layer.radius
            vertical, link = layer.down(F.pad(vertical, (0, 0, r, 0)), y)
            horizontal = layer.across(F.pad(horizontal, (r, 0)), link)
        return self.head(horizontal)

    def _gated(self) -> list["_GatedLayer"]:
        return cast(list[_GatedLayer], list(self.layers))

    @torch.no_grad()
    def complete(
        self,
        x: Tensor,
        num_known: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw the rest of images of which the first pixels in raster order are known.

        The rest follows its distribution given the known pixels, which stay as they are. Pixels
        that are known behind unknown ones are not what this can do: the unknown would be drawn
        before them, without regard to them.

        Args:
            x: images; what is behind the known pixels is not read.
            num_known: how many pixels are known, W for each whole row.
            y: labels, for a conditional network.
            generator: see ``sample``.
        Shape:
            x ``[N, D, H, W]``, y ``[N]`` -> ``[N, D, H, W]``
        Raises:
            ValueError: see ``forward``; or ``num_known`` is not in 0 to H W.
        """
        check_examples(x, self.shape, "PixelCNN")
        known = x.flatten(2)[:, :, : at_least(0, "num_known", num_known)]
        if num_known > (pixels := self.shape[1] * self.shape[2]):
            raise ValueError(f"num_known={num_known}: give at most {pixels}, those of an image")
        as_levels(known, self.num_levels)
        drawn = self._draw(len(x), y, generator, known).flatten(2)
        return torch.cat([known, drawn[:, :, num_known:]], 2).view_as(x)

    def _draw(
        self,
        count: int,
        y: Tensor | None,
        generator: torch.Generator | None,
        known: Tensor | None = None,
    ) -> Tensor:
        """Images ``[N, D, H, W]`` that begin with these pixels ``[N, D, n]``, pixel by pixel.

        Features are cached: each is computed once, as in one ``forward``.
        """
        check_labels(y, self.num_classes, "PixelCNN")
        (colours, height, width), r = self.shape, self.radius
        given = [] if known is None else list(known.unbind(2))
        # The zeros around the image are the padding.
        image = self.left.weight.new_zeros(count, colours, height + r, width + 2 * r)
        rows = [self._zeros(count, layer.radius, width) for layer in self._gated()]
        for i in range(height):
            links = self._next_row(image[:, :, i : i + r], rows, y)
            columns = [self._zeros(count, 1, layer.radius) for layer in self._gated()]
            for j in range(width):
                left = image[:, :, i + r : i + r + 1, j : j + r]
                here = [link[..., j : j + 1] for link in links]
                logits = self._next_pixel(left, columns, here)
                place = i * width + j
                known_here = place < len(given)
                pixel = given[place] if known_here else self.distribution.sample(logits, generator)
                image[:, :, i + r, j + r] = _centred(pixel)
        return (image[:, :, r:, r:-r] + 1) / 2

    def _zeros(self, count: int, height: int, width: int) -> Tensor:
        return self.left.weight.new_zeros(count, self.left.out_channels, height, width)

    def _next_row(self, above: Tensor, rows: list[Tensor], y: Tensor | None) -> list[Tensor]:
        """Links of a row; ``rows``, the last rows of each layer of the vertical stack, advance."""
        vertical, links = self.above(above), []
        for number, layer in enumerate(self._gated()):
            window = torch.cat([rows[number], vertical], 2)
            rows[number] = window[:, :, 1:]
            vertical, link = layer.down(window, y)
            links.append(link)
        return links

    def _next_pixel(self, left: Tensor, columns: list[Tensor], links: list[Tensor]) -> Tensor:
        """Logits ``[N, P]`` of a pixel; ``columns``, the last columns of each layer, advance."""
        horizontal = self.left(left)
        for number, layer in enumerate(self._gated()):
            window = torch.cat([columns[number], horizontal], 3)
            columns[number] = window[..., 1:]
            horizontal = layer.across(window, links[number])
        return self.head(horizontal).flatten(1)


class _GatedLayer(nn.Module):
    """A layer of both stacks, for whole images and for the window of a single row or pixel."""

    def __init__(self, channels: int, kernel_size: int, num_classes: int) -> None:
        super().__init__()
        self.radius = kernel_size // 2
        self.vertical = nn.Conv2d(
            channels, 2 * channels, (self.radius + 1, kernel_size), padding=(0, self.radius)
        )
        self.horizontal = nn.Conv2d(channels, 2 * channels, (1, self.radius + 1))
        self.link = nn.Conv2d(2 * channels, 2 * channels, 1)
        self.output = nn.Conv2d(channels, channels, 1)
        self.labels = nn.Embedding(num_classes, 4 * channels) if num_classes else None

    def down(self, rows: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Rows ``[B, C, h + r, W]`` -> the next layer's ``[B, C, h, W]`` and the link."""
        vertical = self.vertical(rows)
        link = self.link(vertical)
        if self.labels is not None:
            for_vertical, for_link = self.labels(y)[:, :, None, None].chunk(2, 1)
            vertical, link = vertical + for_vertical, link + for_link
        return _gate(vertical), link

    def across(self, columns: Tensor, link: Tensor) -> Tensor:
        """Columns ``[B, C, h, w + r]`` and the link -> the next layer's ``[B, C, h, w]``."""
        gated = _gate(self.horizontal(columns) + link)
        return columns[..., self.radius :] + self.output(gated)


def _gate(x: Tensor) -> Tensor:
    value, gate = x.chunk(2, 1)
    return value.tanh() * gate.sigmoid()


def _centred(x: Tensor) -> Tensor:
    """From [0, 1] to [-1, 1], so that no level but a middle one equals the padding."""
    return 2 * x - 1
