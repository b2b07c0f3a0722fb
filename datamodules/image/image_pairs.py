"""Images beside a simple function of them, to be translated back, with or without pairs."""

from collections.abc import Callable
from functools import partial
from typing import Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import choose_from
from trellis.datamodules.engine.base import DataModule, Split, passed_on
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.image.labelled_images import LabelledImages
from trellis.datamodules.image.mnist import MNIST
from trellis.random import hashed_integers
from trellis.spec import TensorPairSpec, TensorSpec


def edges(x: Tensor) -> Tensor:
    r"""Strength of the edges of each colour: the length of Sobel's gradient, at most 1.

    .. math:: \min\left(1, \tfrac{1}{4} \sqrt{g_x^2 + g_y^2}\right)

    A straight edge from 0 to 1 along an axis has strength 1. Outside of the image all is 0.

    Shape:
        x ``[B, C, H, W]`` in [0, 1] -> ``[B, C, H, W]``

    Source: Sobel and Feldman 1968; ``scipy.ndimage.sobel`` has the same kernels.
    """
    across = x.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None]
    gradient = F.conv2d(x.flatten(0, 1)[:, None], kernels, padding=1)
    return (gradient.norm(dim=1) / 4).clamp(max=1.0).view_as(x)


def turned_negative(x: Tensor) -> Tensor:
    """The negative of square images, a quarter turned to the left.

    Shape:
        x ``[B, C, S, S]`` in [0, 1] -> ``[B, C, S, S]``
    """
    return 1 - x.rot90(1, (2, 3))


Change = Literal["edges", "negative", "turned_negative"]
CHANGES: dict[str, Callable[[Tensor], Tensor]] = {
    "edges": edges,
    "negative": lambda x: 1 - x,
    "turned_negative": turned_negative,
}


DIGITS = partial(MNIST, pixels="unit")


class ImagesFactory(Protocol):
    """Makes the data module of the images, such as ``partial(CIFAR10, pixels="unit")``."""

    def __call__(self) -> LabelledImages: ...


class ImagePairs(DataModule):
    """Images, the targets, and what becomes of them by a known change, the inputs.

    Batch: ``(input [B, C, H, W], target [B, C, H, W])``, both in [0, 1]. The splits are those of
    ``data``. Without pairs, one half of the training images are targets and the other half are
    changed to inputs; each input comes with a target that is drawn anew in each epoch.

    ================= =================================================================
    change            input
    ================= =================================================================
    edges             their edges, see ``edges``: which pixels are within a line is lost
    negative          1 - target
    turned_negative   the same, a quarter turned: the target can be had exactly, but not
                      by convolutions of small patches
    ================= =================================================================

    Args:
        data: makes the images, with ``pixels="unit"``; its batch size and splits are used.
        change: from targets to inputs.
        paired: whether the inputs of a training batch are those of its targets. Validation and
            test always have pairs.
    Raises:
        ValueError: an unknown change, images that are flat, augmented or of other pixels, or a
            turn of images that are not square.
    """

    batch_size = passed_on("source", "batch_size")

    def __init__(
        self,
        data: ImagesFactory = DIGITS,
        change: Change = "edges",
        paired: bool = True,
    ) -> None:
        super().__init__()
        self.source, self.paired = data(), paired
        self.change = CHANGES[choose_from("change", change, Change)]
        spec, name = self.source.spec, type(self.source).__name__
        if spec.values != "unit" or len(spec.size) != 2 or self.source.changes:
            raise ValueError(
                f"ImagePairs takes images as they are: give {name} pixels='unit', and no flatten "
                f"or augmentations"
            )
        if change == "turned_negative" and spec.size[0] != spec.size[1]:
            raise ValueError(f"change={change!r}: {name} has images of {spec.size}, not squares")
        image = TensorSpec(spec.in_channels, 0, spec.size, values="unit")
        self.spec = TensorPairSpec(image, image, paired)

    def prepare_data(self) -> None:
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        self.source.setup(stage)

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        if split == "train" and not self.paired:
            return self._apart()

        def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
            y = self._images(split, indices)
            return self.change(y), y

        count = len(self.source.splits[split][0])
        return Loader(count, batch, batch_size=self.batch_size, shuffle=split == "train")

    def _apart(self) -> Loader[tuple[Tensor, Tensor]]:
        """Training images of which one half are inputs, the others targets."""
        order = torch.randperm(
            len(self.source.splits["train"][0]), generator=torch.Generator().manual_seed(0)
        )
        inputs, targets = order.tensor_split(2)

        def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
            drawn = hashed_integers(len(targets), loader.seed, loader.epoch, indices)
            x = self._images("train", inputs[indices])
            return self.change(x), self._images("train", targets[drawn])

        loader = Loader(len(inputs), batch, batch_size=self.batch_size, shuffle=True)
        return loader

    def _images(self, split: Split, indices: Tensor) -> Tensor:
        """Images ``[B, C, H, W]`` in [0, 1] of these numbers."""
        pixels = self.source.splits[split][0].index_select(0, indices)
        return pixels.view(-1, *self.spec.target.shape) / 255
