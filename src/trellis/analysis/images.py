"""Images to look at: from the values networks take back to pixels, many images in one figure.

Legend: N images, C channels, H height, W width.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from trellis.analysis.pictures import empty_figure
from trellis.checks import at_least_one
from trellis.spec import TensorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIN_WIDTH = 500  # of a figure in pixels; small images are enlarged by a whole factor


def image_shape(spec: TensorSpec) -> tuple[int, int, int]:
    """Shape ``(C, H, W)`` of one image; vectors whose length is a square count as images.

    Raises:
        ValueError: examples are not images; says what is needed.

    >>> image_shape(TensorSpec(784, 10))
    (1, 28, 28)
    """
    if len(spec.size) == 2:
        height, width = spec.size
        return spec.in_channels, height, width
    side = math.isqrt(spec.in_channels)
    if spec.size or side * side != spec.in_channels or side < 4:
        raise ValueError(
            f"examples of shape {list(spec.shape)} are not images: give images [C, H, W], or "
            f"vectors of a square number of pixels, such as 784"
        )
    return 1, side, side


def to_pixels(x: Tensor, spec: TensorSpec) -> Tensor:
    r"""Pixels in [0, 1] from the values of images.

    ============ ==============================================================
    values       pixel
    ============ ==============================================================
    unit, binary x
    dequantized  x: (k + u) / 256 is about k / 255
    logit        :math:`(\sigma(x) - \alpha) / (1 - 2 \alpha)`
    real         x, scaled so that the smallest value of all images is 0 and
                 the largest 1
    ============ ==============================================================

    Pixels are clipped to [0, 1]; those that are not finite are black.

    Args:
        x: in the units of the data; images, or the same flattened.
        spec: of the data.
    Shape:
        ``[N, *spec.shape]`` -> ``[N, C, H, W]``
    Raises:
        ValueError: examples are not images, or ``x`` has another shape.

    >>> spec = TensorSpec(1, 10, (1, 2), values="logit", alpha=0.05)
    >>> to_pixels(torch.tensor([[[[0.5, 0.95]]]]).logit(), spec)
    tensor([[[[0.5000, 1.0000]]]])
    """
    shape = image_shape(spec)
    if x.shape[1:] not in (spec.shape, shape):
        raise ValueError(f"x {list(x.shape)}: give images [N, {', '.join(map(str, spec.shape))}]")
    x = x.detach().reshape(-1, *shape).float()
    if spec.values == "logit":
        x = (x.sigmoid() - spec.alpha) / (1 - 2 * spec.alpha)
    elif spec.values == "real":
        finite = x[x.isfinite()]
        if finite.numel():
            low, high = finite.aminmax()
            x = (x - low) / (high - low).clamp(min=torch.finfo(x.dtype).tiny)
    return x.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0).clamp(0, 1)


def image_grid(x: Tensor, spec: TensorSpec, *, columns: int | None = None, gap: int = 1) -> Tensor:
    """A grid of images as one image, on a grey background.

    Args:
        x: in the units of the data.
        spec: of the data.
        columns: images in a row; ``None`` makes the grid about square.
        gap: pixels between two images.
    Shape:
        x ``[N, *spec.shape]`` -> ``[C, H', W']`` in [0, 1]
    Raises:
        ValueError: see ``to_pixels``; no images, or a size that is not positive.

    >>> image_grid(torch.ones(3, 1, 2, 2), TensorSpec(1, 10, (2, 2), values="unit")).shape
    torch.Size([1, 7, 7])
    """
    pixels = to_pixels(x, spec)
    number, channels, height, width = pixels.shape
    if number == 0 or gap < 0:
        raise ValueError(
            f"{number} images with gap={gap}: give at least one image, and a gap of at least 0"
        )
    columns = math.ceil(math.sqrt(number)) if columns is None else columns
    columns = min(at_least_one("columns", columns), number)
    rows = math.ceil(number / columns)
    size = gap + rows * (height + gap), gap + columns * (width + gap)
    grid = torch.full((channels, *size), 0.5)
    for place, image in enumerate(pixels.cpu()):
        top = gap + place // columns * (height + gap)
        left = gap + place % columns * (width + gap)
        grid[:, top : top + height, left : left + width] = image
    return grid


def image_picture(x: Tensor, spec: TensorSpec, *, columns: int | None = None) -> Figure:
    """``image_grid`` as a figure without a frame, enlarged by a whole factor.

    Args:
        x: in the units of the data.
        spec: of the data; with 1 channel (grey) or 3 (red, green, blue).
        columns: images in a row; ``None`` makes the grid about square.
    Shape:
        x ``[N, *spec.shape]``
    Raises:
        ValueError: see ``image_grid``; another number of channels.
    """
    if (channels := image_shape(spec)[0]) not in (1, 3):
        raise ValueError(
            f"images of {channels} channels cannot be shown: give 1 (grey) or 3 (red, green, blue)"
        )
    grid = image_grid(x, spec, columns=columns)
    height, width = grid.shape[1:]
    zoom = math.ceil(MIN_WIDTH / max(width, height))
    figure = empty_figure(1, 1)
    figure.set_layout_engine("none")
    figure.set_size_inches(width * zoom / figure.dpi, height * zoom / figure.dpi)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    shown = grid.permute(1, 2, 0).expand(-1, -1, 3)
    axes.imshow(shown.numpy(), interpolation="nearest", aspect="auto")
    return figure
