"""Points in the plane with a known density, by which a density model can be measured."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.synthetic_pairs import STREAMS
from trellis.datamodules.vector.synthetic_points import SHAPES
from trellis.random import hashed_integers
from trellis.spec import TensorSpec

Kind = Literal["moons", "eight_gaussians", "rings", "checkerboard", "pinwheel"]


class SyntheticDensities(DataModule):
    r"""Points from a mixture of M equally likely components in the plane.

    Batch: ``(x, y)`` with ``x [B, 2]`` and the component ``y [B]`` of each point. Training point i
    of epoch e is a function of the seed, e and i. As every epoch has new points, a model cannot
    overfit, and the entropy is the infimum of its negative log-likelihood. The points of
    validation and test do not depend on the seed.

    =============== = ====================================================== ===== =============
    kind            M shape                                                  noise entropy, nats
    =============== = ====================================================== ===== =============
    moons           2 interleaved half circles of radius 1                   0.1   1.008
    eight_gaussians 8 Gaussians around points of a circle of radius 2        0.02  -2.907
    rings           4 circles of radius 0.75, 1.5, 2.25 and 3                0.08  2.623
    checkerboard    8 squares of side 2, those of one colour, in [-4, 4]^2   none  3.466
    pinwheel        5 arms, radius 2 r with r about 1, rotated by exp(r) / 4 none  2.321
    =============== = ====================================================== ===== =============

    Args:
        kind: of density.
        num_train: training points in an epoch.
        num_val: validation points.
        num_test: test points.
        batch_size: points per batch.
        seed: of the training points; ``None`` takes the one of ``seed_everything``.
        noise: standard deviation of the Gaussian noise added to both coordinates; ``None`` takes
            the value of the table.
    Attributes:
        centres: of the modes, ``[M, 2]``; ``None`` if the modes are not points.
        scale: standard deviation around the centres.
    Raises:
        ValueError: an unknown ``kind``, a size below 1, noise that is not positive, or noise for
            a kind that has none.

    Source: moons after scikit-learn's ``make_moons``; eight_gaussians after Metz et al. 2017,
    appendix A, and the code of Gulrajani et al. 2017, which divides both numbers by 1.414; rings,
    checkerboard and pinwheel after the code of Grathwohl et al. 2019.
    Deviates: points of the pinwheel are rotated by a function of their radius r instead of their
    first coordinate, which is nearly the same. Such a rotation preserves area, so that the density
    has a closed form.
    """

    def __init__(
        self,
        kind: Kind = "moons",
        num_train: int = 50_000,
        num_val: int = 5_000,
        num_test: int = 20_000,
        batch_size: int = 256,
        seed: int | None = None,
        noise: float | None = None,
    ) -> None:
        super().__init__()
        self.density = DENSITIES[choose_from("kind", kind, DENSITIES)]
        if noise is not None and self.density.noise is None:
            raise ValueError(f"noise={noise}: leave it out, {kind} has none")
        if noise is not None and not 0 < noise < math.inf:
            raise ValueError(f"noise={noise}: give a standard deviation, more than 0")
        self.noise = noise or self.density.noise or 0.0
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        for split, size in self.sizes.items():
            at_least_one(f"num_{split}", size)
        self.batch_size, self.seed = at_least_one("batch_size", batch_size), seed
        self.num_components = self.density.num_components
        names = tuple(str(component) for component in range(self.num_components))
        self.spec = TensorSpec(2, self.num_components, classes=names)
        self.centres: Tensor | None = None
        self.scale: float | None = None
        if kind == "eight_gaussians":
            self.centres, self.scale = _eight_centres(torch.arange(8)).float(), self.noise

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        train = split == "train"

        def points(indices: Tensor) -> tuple[Tensor, Tensor]:
            seed, epoch = (loader.seed, loader.epoch) if train else (0, 0)
            where = (seed, STREAMS[split], epoch, indices.unsqueeze(1))
            y = hashed_integers(self.num_components, *where, 0).squeeze(1)
            # The half keeps the uniform numbers off 0, where the Gaussian quantile is infinite.
            uniform = (hashed_integers(2**31, *where, torch.arange(1, 5)) + 0.5) / 2.0**31
            place, normal = uniform.double().split(2, dim=1)
            return self._points(y, place, torch.special.ndtri(normal)).float(), y

        # Without shuffling: the points are independent and random.
        loader = Loader(self.sizes[split], points, batch_size=self.batch_size, seed=self.seed)
        return loader

    def _points(self, y: Tensor, place: Tensor, normal: Tensor) -> Tensor:
        return self.density.points(y, place, normal, self.noise)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """True log-density in nats; -inf outside the support.

        Args:
            x: points.
            y: components; ``None`` for the density of the mixture.
        Shape:
            x ``[N, 2]``, y ``[N]`` -> ``[N]``
        """
        given = self.density.log_probs(x.double(), self.noise)  # [N, M]
        if y is not None:
            return given.gather(1, y.unsqueeze(1)).squeeze(1).to(x.dtype)
        return (given.logsumexp(1) - math.log(self.num_components)).to(x.dtype)

    def entropy(self, conditional: bool = False) -> float:
        """Entropy in nats, the infimum of the expected ``nll_nats`` of a model.

        Computed by Gauss quadrature over position and noise within each component.

        Args:
            conditional: the entropy given the component instead.
        """
        place, place_weight = _gauss(32, hermite=False)
        normal, normal_weight = _gauss(16, hermite=True)
        # Only the checkerboard uses the second coordinate, in which its density is constant.
        grid = torch.cartesian_prod(place, normal, normal)  # [P, 3]
        weight = torch.cartesian_prod(place_weight, normal_weight, normal_weight).prod(1)
        total = 0.0
        for component in range(self.num_components):
            y = torch.full((len(grid),), component)
            x = self._points(y, grid[:, :1].expand(-1, 2), grid[:, 1:])
            total -= float(self.log_prob(x, y if conditional else None) @ weight)
        return total / self.num_components


class Density(NamedTuple):
    """A mixture of equally likely components.

    Args:
        num_components: M.
        noise: default standard deviation of the noise; ``None`` if there is none.
        points: from components ``[N]``, uniform and normal numbers ``[N, 2]`` each, and the noise
            to points ``[N, 2]``.
        log_probs: from points ``[N, 2]`` and the noise to the log-density ``[N, M]`` of each
            component.
    """

    num_components: int
    noise: float | None
    points: Callable[[Tensor, Tensor, Tensor, float], Tensor]
    log_probs: Callable[[Tensor, float], Tensor]


def _gauss(count: int, *, hermite: bool) -> tuple[Tensor, Tensor]:
    """Nodes and weights of the mean over a standard normal or a uniform number in [0, 1]."""
    if hermite:
        nodes, weights = np.polynomial.hermite_e.hermegauss(count)
        return torch.from_numpy(nodes), torch.from_numpy(weights / weights.sum())
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return torch.from_numpy((nodes + 1) / 2), torch.from_numpy(weights / 2)


def _normal(offset: Tensor, *scales: float) -> Tensor:
    """Log-density of independent Gaussians at ``offset [..., 2]`` from their means."""
    scale = torch.tensor(scales, dtype=offset.dtype)
    return -((offset / scale).square() / 2 + scale.log() + math.log(2 * math.pi) / 2).sum(-1)


def _polar(radius: Tensor, angle: Tensor) -> Tensor:
    return radius[..., None] * torch.stack([angle.cos(), angle.sin()], dim=-1)


def _moons(y: Tensor, place: Tensor, normal: Tensor, noise: float) -> Tensor:
    return SHAPES["moons"][1](y, place[:, 0], place[:, 1]) + noise * normal


def _moons_log_probs(x: Tensor, noise: float) -> Tensor:
    # Enough nodes along the arc of length pi to resolve the Gaussian.
    place, weight = _gauss(32 + math.ceil(8 / noise), hermite=False)
    columns = []
    for component in range(2):
        arc = SHAPES["moons"][1](torch.full_like(place, component), place, place)
        columns.append((_normal(x[:, None] - arc, noise, noise) + weight.log()).logsumexp(1))
    return torch.stack(columns, dim=1)


def _eight_centres(y: Tensor) -> Tensor:
    angle = math.pi / 4 * y.double()
    return _polar(torch.full_like(angle, 2.0), angle)


def _eight_gaussians(y: Tensor, place: Tensor, normal: Tensor, noise: float) -> Tensor:
    return _eight_centres(y) + noise * normal


def _eight_gaussians_log_probs(x: Tensor, noise: float) -> Tensor:
    return _normal(x[:, None] - _eight_centres(torch.arange(8)), noise, noise)


def _rings(y: Tensor, place: Tensor, normal: Tensor, noise: float) -> Tensor:
    return _polar(0.75 * (y + 1), 2 * math.pi * place[:, 0]) + noise * normal


def _rings_log_probs(x: Tensor, noise: float) -> Tensor:
    """The mean of exp(r R cos(angle) / noise^2) over the circle is a Bessel function, I0."""
    radius = 0.75 * torch.arange(1, 5, dtype=x.dtype)
    distance = x.norm(dim=1, keepdim=True)
    bessel = torch.special.i0e(distance * radius / noise**2).log()
    gap = ((distance - radius) / noise).square() / 2
    return bessel - gap - math.log(2 * math.pi * noise**2)


def _squares() -> Tensor:
    """Lower left corners ``[8, 2]``."""
    column = torch.arange(8) // 2
    row = 2 * (torch.arange(8) % 2) + column % 2
    return (2.0 * torch.stack([column, row], dim=1) - 4).double()


def _checkerboard(y: Tensor, place: Tensor, normal: Tensor, noise: float) -> Tensor:
    return _squares()[y] + 2 * place


def _checkerboard_log_probs(x: Tensor, noise: float) -> Tensor:
    offset = x[:, None] - _squares()
    inside = ((offset >= 0) & (offset < 2)).all(-1)
    return torch.where(inside, -math.log(4), -math.inf).to(x.dtype)


RADIAL, TANGENTIAL, RATE = 0.3, 0.1, 0.25  # of the pinwheel


def _pinwheel(y: Tensor, place: Tensor, normal: Tensor, noise: float) -> Tensor:
    arm = normal * normal.new_tensor([RADIAL, TANGENTIAL]) + normal.new_tensor([1.0, 0.0])
    radius, angle = arm.norm(dim=1), torch.atan2(arm[:, 1], arm[:, 0])
    return 2 * _polar(radius, angle + 2 * math.pi / 5 * y.double() + RATE * radius.exp())


def _pinwheel_log_probs(x: Tensor, noise: float) -> Tensor:
    radius, angle = x.norm(dim=1, keepdim=True) / 2, torch.atan2(x[:, 1:], x[:, :1])
    turned = angle - 2 * math.pi / 5 * torch.arange(5, dtype=x.dtype) - RATE * radius.exp()
    arm = _polar(radius, turned) - x.new_tensor([1.0, 0.0])
    return _normal(arm, RADIAL, TANGENTIAL) - math.log(4)


DENSITIES: dict[str, Density] = {
    "moons": Density(2, 0.1, _moons, _moons_log_probs),
    "eight_gaussians": Density(8, 0.02, _eight_gaussians, _eight_gaussians_log_probs),
    "rings": Density(4, 0.08, _rings, _rings_log_probs),
    "checkerboard": Density(8, None, _checkerboard, _checkerboard_log_probs),
    "pinwheel": Density(5, None, _pinwheel, _pinwheel_log_probs),
}
