"""A store of generated images, from which a discriminator is shown earlier ones, too."""

import torch
from torch import Tensor, nn

from trellis.checks import at_least_one


class ImagePool(nn.Module):
    """Exchanges half of the generated images for images that were generated earlier.

    Each image is given a place in the pool. It is put there if the place is empty; else, with
    probability 1/2, it takes the place of the image there, which is returned in its stead. Of
    more images than places, the others are returned as they are.

    The images are buffers: they are in checkpoints, and a run goes on as if it had not stopped.

    Args:
        size: number of places.
        shape: of an image.
    Shape:
        x ``[B, *shape]`` -> ``[B, *shape]``
    Raises:
        ValueError: a size below 1.

    Source: Shrivastava et al. 2017, section 2.3; Zhu et al. 2017, section 4 (50 images). Deviates:
    places are drawn for the images of a batch together, so that no two share one, and the pool
    fills in a random order.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        super().__init__()
        at_least_one("size", size)
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros(size, dtype=torch.bool))

    @torch.no_grad()
    def forward(self, x: Tensor) -> Tensor:
        places = torch.randperm(len(self.images), device=x.device)[: len(x)]
        new, filled = x[: len(places)].to(self.images), self.filled[places]
        old = self.images[places]
        swapped = filled & (torch.rand(len(places), device=x.device) < 0.5)
        keeps = swapped.view(-1, *[1] * (x.dim() - 1))
        empty = ~filled.view_as(keeps)
        self.images.index_copy_(0, places, torch.where(keeps | empty, new, old))
        self.filled.index_fill_(0, places, True)
        return torch.cat([torch.where(keeps, old, new).to(x), x[len(places) :]])
