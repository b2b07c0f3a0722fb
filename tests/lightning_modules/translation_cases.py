"""Pairs of small images, and the simplest networks for them."""

from functools import partial

import torch
from learning_cases import Points
from torch import Tensor, nn

from trellis.datamodules.engine.base import DataModule, tensor_loader
from trellis.spec import TensorPairSpec, TensorSpec

sgd = partial(torch.optim.SGD, lr=0.1)


class Negatives(Points):
    """37 small images, in negative and as they are."""

    def __init__(self, paired: bool = True) -> None:
        super().__init__()
        self.y = torch.rand(37, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        self.x = 1 - self.y
        image = TensorSpec(1, 0, (8, 8), values="unit")
        self.spec = TensorPairSpec(image, image, paired)  # type: ignore[assignment]


class Pairs(DataModule):
    """The same pairs for everything, in order."""

    def __init__(self, x: Tensor, y: Tensor, batch_size: int = 4, paired: bool = True) -> None:
        super().__init__()
        self.x, self.y, self.batch_size = x, y, batch_size
        sides = (TensorSpec(each.size(1), 0, tuple(each.shape[2:])) for each in (x, y))
        self.spec = TensorPairSpec(*sides, paired)

    def loader(self, split: str):
        return tensor_loader(self.x, self.y, batch_size=self.batch_size, train=False)


def pixelwise(in_channels: int, out_channels: int = 1) -> nn.Module:
    """The simplest generator, and the simplest discriminator."""
    return nn.Conv2d(in_channels, out_channels, 1)
