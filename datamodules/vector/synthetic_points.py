"""Points in the plane: classes that no straight line separates, and surfaces above them."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.spec import TensorSpec

Kind = Literal["moons", "rings", "xor", "spirals", "plane", "saddle"]


class SyntheticPoints(DataModule):
    """Points in the plane with a class or a real-valued target each, drawn from a seed.

    Batch: ``(x, y)`` with ``x [B, 2]`` within about [-2, 2] and labels or real targets ``y [B]``.
    60 % of the points train, 20 % validate, 20 % test; classes are equally frequent.

    ======= ========= =================================================
    kind    targets   shape
    ======= ========= =================================================
    moons   2 classes two half circles of radius 1 that interlock
    rings   2 classes circles of radius 1 and 2
    xor     2 classes the quadrants of a square, opposite ones alike
    spirals 3 classes three arms, two thirds of a turn each
    plane   real      y = 1 + 2 x_1 - x_2, x uniform in a square
    saddle  real      y = x_1 x_2: the best linear model is constant
    ======= ========= =================================================

    Args:
        kind: which shape.
        num_examples: number of points, at least 10.
        noise: standard deviation of the Gaussian noise added to both coordinates of classes, or
            to real targets.
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
        choose_from("kind", kind, Kind)
        if num_examples < 10:
            raise ValueError(f"num_examples={num_examples}: give at least 10")
        if not 0 <= noise < math.inf:
            raise ValueError(f"noise={noise}: give a standard deviation, at least 0")
        self.kind, self.num_examples, self.noise = kind, num_examples, noise
        self.seed, self.batch_size = seed, at_least_one("batch_size", batch_size)
        self.spec = (
            TensorSpec(2, 1, targets="real")
            if kind in SURFACES
            else TensorSpec(2, SHAPES[kind].num_classes)
        )

    def setup(self, stage: str | None = None) -> None:
        generator = torch.Generator().manual_seed(self.seed)
        count = self.num_examples
        order = torch.randperm(count, generator=generator)
        places = torch.rand(2, count, generator=generator)
        if self.kind in SURFACES:
            self.x = 4 * places.t() - 2
            heights = SURFACES[self.kind](*self.x.unbind(1))
            self.y = heights + self.noise * torch.randn(count, generator=generator)
        else:
            shape = SHAPES[self.kind]
            self.y = torch.arange(count)[order] % shape.num_classes
            points = shape.points(self.y, *places)
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


class Shape(NamedTuple):
    """Classes of points.

    Args:
        num_classes: how many.
        points: from the labels and two uniform random numbers of each point to its coordinates,
            without noise.
    """

    num_classes: int
    points: Callable[[Tensor, Tensor, Tensor], Tensor]


SHAPES = {
    "moons": Shape(2, _moons),
    "rings": Shape(2, _rings),
    "xor": Shape(2, _xor),
    "spirals": Shape(3, _spirals),
}
# From both coordinates to the target without noise.
SURFACES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "plane": lambda first, second: 1 + 2 * first - second,
    "saddle": torch.mul,
}
