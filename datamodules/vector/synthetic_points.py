"""Points in the plane that no straight line separates."""

import math
from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.spec import TensorSpec

Kind = Literal["moons", "rings", "xor", "spirals"]


class SyntheticPoints(DataModule):
    """Classes of points in the plane, drawn from a seed: what a hidden layer is for.

    Batch: ``(x, y)`` with ``x [B, 2]`` within about [-2, 2] and labels ``y [B]``. Classes are
    equally frequent; 60 % of the points train, 20 % validate, 20 % test.

    ======= ======= =================================================
    kind    classes shape
    ======= ======= =================================================
    moons   2       two half circles of radius 1 that interlock
    rings   2       circles of radius 1 and 2
    xor     2       the quadrants of a square, opposite ones alike
    spirals 3       three arms, two thirds of a turn each
    ======= ======= =================================================

    Args:
        kind: which shape.
        num_examples: points in all, at least 10.
        noise: standard deviation of the Gaussian added to both coordinates.
        seed: of points and split.
        batch_size: examples per batch.
    Raises:
        ValueError: an unknown ``kind``, fewer than 10 points, or negative noise.

    Source: moons and rings after scikit-learn's ``make_moons`` and ``make_circles``; xor after
    Minsky and Papert 1969; three spirals after Stanford CS231n.
    """

    def __init__(
        self,
        kind: Kind = "moons",
        num_examples: int = 1000,
        noise: float = 0.1,
        seed: int = 0,
        batch_size: int = 32,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        if kind not in SHAPES:
            raise ValueError(f"kind={kind!r}: choose one of {', '.join(SHAPES)}")
        if num_examples < 10:
            raise ValueError(f"num_examples={num_examples}: give at least 10")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise={noise}: give a standard deviation, at least 0")
        self.kind, self.num_examples, self.noise = kind, num_examples, noise
        self.seed, self.batch_size = seed, at_least_one("batch_size", batch_size)
        self.num_classes = SHAPES[kind][0]
        self.spec = TensorSpec(2, self.num_classes)

    def setup(self, stage: str | None = None) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        count = self.num_examples
        order = torch.randperm(count, generator=generator)
        self.y = torch.arange(count)[order] % self.num_classes
        places = torch.rand(2, count, generator=generator)
        points = SHAPES[self.kind][1](self.y, *places)
        self.x = points + self.noise * torch.randn(points.shape, generator=generator)
        held_out = count // 5
        sizes = [count - 2 * held_out, held_out, held_out]
        train, val, test = torch.arange(count).split(sizes)
        self.splits = {"train": train, "val": val, "test": test}

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        chosen = self.splits[split]
        return tensor_loader(
            self.x[chosen], self.y[chosen], batch_size=self.batch_size, train=split == "train"
        )


def _moons(y: Tensor, place: Tensor, _: Tensor) -> Tensor:
    angle = math.pi * place
    upper = torch.stack([angle.cos() - 0.5, angle.sin() - 0.25], dim=-1)
    # The lower moon is the upper one turned by half a circle about the origin.
    return torch.where((y == 0)[:, None], upper, -upper)


def _rings(y: Tensor, place: Tensor, _: Tensor) -> Tensor:
    return _polar(1.0 + y, 2 * math.pi * place)


def _xor(y: Tensor, place: Tensor, other: Tensor) -> Tensor:
    first, second = 4 * place - 2, 2 * other  # in [-2, 2] and [0, 2]
    unlike = 1 - 2 * y.float()  # the signs of both coordinates agree in class 0
    return torch.stack([first, second * first.sign() * unlike], dim=-1)


def _spirals(y: Tensor, place: Tensor, _: Tensor) -> Tensor:
    return _polar(0.2 + 1.8 * place, 2 * math.pi / 3 * (y + 2 * place))


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return radius[:, None] * torch.stack([angle.cos(), angle.sin()], dim=-1)


# Classes, and from labels and two uniform places of each point to the points without noise.
SHAPES: dict[str, tuple[int, Callable[[Tensor, Tensor, Tensor], Tensor]]] = {
    "moons": (2, _moons),
    "rings": (2, _rings),
    "xor": (2, _xor),
    "spirals": (3, _spirals),
}
