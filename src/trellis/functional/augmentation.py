"""Changes of whole batches of images, pure functions of the pixels and of what is drawn for each.

Legend: B images, C colours, H rows, W columns; pixels in [0, 1]. They run where the images are,
and read no values.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

LUMA = (0.299, 0.587, 0.114)  # of red, green and blue, ITU-R 601


def shift_images(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Move images by whole pixels; what comes in from outside is 0.

    A shift by -p to p pixels is a random crop of an image with p zeros around it.

    Args:
        x: images.
        rows: pixels to move down.
        columns: pixels to move to the right.
    Shape:
        x ``[B, C, H, W]``, integers ``[B]`` each -> ``[B, C, H, W]``

    >>> shift_images(torch.ones(1, 1, 2, 2), torch.tensor([1]), torch.tensor([0]))
    tensor([[[[0., 0.],
              [1., 1.]]]])
    """
    height, width = x.shape[-2:]
    from_row = torch.arange(height, device=x.device) - rows[:, None]  # [B, H]
    from_column = torch.arange(width, device=x.device) - columns[:, None]  # [B, W]
    inside = ((from_row >= 0) & (from_row < height))[:, :, None] & (
        (from_column >= 0) & (from_column < width)
    )[:, None, :]
    pixel = (
        from_row.clamp(0, height - 1)[:, :, None] * width
        + from_column.clamp(0, width - 1)[:, None, :]
    )  # [B, H, W]
    taken = x.flatten(2).gather(2, pixel.flatten(1)[:, None].expand(-1, x.size(1), -1))
    return taken.view_as(x) * inside[:, None]


def flip_images(x: Tensor, chosen: Tensor) -> Tensor:
    """Mirror the chosen images, left to right.

    Shape:
        x ``[B, C, H, W]``, booleans ``[B]`` -> ``[B, C, H, W]``
    """
    return torch.where(chosen[:, None, None, None], x.flip(-1), x)


def rotate_images(x: Tensor, radians: Tensor) -> Tensor:
    """Turn images about their centres, anticlockwise; what comes in from outside is 0.

    Pixels between pixels are bilinear.

    Shape:
        x ``[B, C, H, W]``, angles ``[B]`` -> ``[B, C, H, W]``
    """
    height, width = x.shape[-2:]
    cos, sin, zero = radians.cos(), radians.sin(), torch.zeros_like(radians)
    # Sides are 2 long for torch, whatever their pixels: without the ratio it would shear.
    first = torch.stack([cos, -sin * height / width, zero], 1)
    second = torch.stack([sin * width / height, cos, zero], 1)
    grid = F.affine_grid(torch.stack([first, second], 1), list(x.shape), align_corners=False)
    return F.grid_sample(x, grid.to(x.dtype), align_corners=False)


def recolour_images(x: Tensor, brightness: Tensor, contrast: Tensor, saturation: Tensor) -> Tensor:
    """Scale brightness, contrast about the mean grey, and saturation about each pixel's grey.

    Args:
        x: images.
        brightness: factor of all pixels; 0 is black, 1 changes nothing.
        contrast: factor of their distance from the image's mean grey.
        saturation: factor of their distance from their own grey; without effect on grey images.
    Shape:
        x ``[B, C, H, W]`` with C 1 or 3, factors ``[B]`` each -> ``[B, C, H, W]`` in [0, 1]
    """
    b, c, s = (each[:, None, None, None] for each in (brightness, contrast, saturation))
    x = (x * b).clamp(0, 1)
    mean = grey(x).mean((-2, -1), keepdim=True)
    x = (mean + (x - mean) * c).clamp(0, 1)
    own = grey(x)
    return (own + (x - own) * s).clamp(0, 1)


def grey(x: Tensor) -> Tensor:
    """The brightness of pixels.

    Shape:
        x ``[B, C, H, W]`` with C 1 or 3 -> ``[B, 1, H, W]``
    """
    if x.size(1) == 1:
        return x
    red, green, blue = x.split(1, 1)
    return LUMA[0] * red + LUMA[1] * green + LUMA[2] * blue


def cut_out(x: Tensor, rows: Tensor, columns: Tensor, size: int) -> Tensor:
    """Set a square of each image to 0; what of it lies outside of the image has no effect.

    Args:
        x: images.
        rows: of the middle of the square.
        columns: of the middle of the square.
        size: its side in pixels.
    Shape:
        x ``[B, C, H, W]``, integers ``[B]`` each -> ``[B, C, H, W]``

    Source: DeVries and Taylor 2017, section 3.
    """

    def within(length: int, middle: Tensor) -> Tensor:
        place = torch.arange(length, device=x.device) - (middle - size // 2)[:, None]
        return (place >= 0) & (place < size)

    square = within(x.size(-2), rows)[:, :, None] & within(x.size(-1), columns)[:, None, :]
    return x * ~square[:, None]


def mix_up(x: Tensor, weights: Tensor) -> Tensor:
    r"""Mix each example with the one before it.

    .. math:: \tilde x_i = w_i x_i + (1 - w_i) x_{i-1}

    The first one is mixed with the last: in a shuffled batch any other is a random partner. Labels
    are mixed alike, as probabilities of the classes.

    Args:
        x: examples, or their labels.
        weights: w of each, in [0, 1].
    Shape:
        x ``[B, ...]``, weights ``[B]`` -> ``[B, ...]``

    Source: Zhang et al. 2018, section 2.

    >>> mix_up(torch.tensor([[1.0], [5.0]]), torch.tensor([1.0, 0.25]))
    tensor([[1.],
            [2.]])
    """
    w = weights.view(-1, *(1 for _ in x.shape[1:]))
    return w * x + (1 - w) * x.roll(1, 0)
