"""Parameters of simulators and what these return, with the exact posterior of the parameters."""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.synthetic_pairs import STREAMS
from trellis.random import hashed_integers
from trellis.spec import TensorSpec

Task = Literal["gaussian_linear", "two_moons"]


class SimulatedPosteriors(DataModule):
    r"""Simulation-based inference: parameters of a simulator and what it returned for them.

    Batch: ``(theta, y)`` with parameters ``theta [B, D]`` from their prior and what was observed,
    ``y [B, C]``; a density of theta given y is an estimate of the posterior. Training example i of
    epoch e is a function of the seed, e and i: as every epoch has new examples, a model cannot
    overfit. The examples of validation and test do not depend on the seed. What a model's
    ``nll_nats`` exceed those of the exact posterior by is its mean Kullback-Leibler divergence.

    =============== == == ====================== ====================================== ===========
    task            D  C  prior                  simulator                              exact, nats
    =============== == == ====================== ====================================== ===========
    gaussian_linear 10 10 N(0, 0.1 I)            N(theta, 0.1 I)                        -0.807
    two_moons       2  2  uniform in [-1, 1]^2   half a circle, radius N(0.1, 0.01^2),  -3.793
                                                 around (1/4 - \|theta_1 + theta_2\| s,
                                                 (theta_2 - theta_1) s), s = 1/sqrt(2)
    =============== == == ====================== ====================================== ===========

    The last column is the mean over the 20,000 test examples; ``log_prob`` gives each.

    Args:
        task: of the benchmark.
        num_train: training examples in an epoch.
        num_val: validation examples.
        num_test: test examples.
        batch_size: examples per batch.
        seed: of the training examples; ``None`` takes the one of ``seed_everything``.
    Raises:
        ValueError: an unknown ``task``, or a size below 1.

    Source: Lueckmann et al. 2021, appendix T.1 and T.8; two moons after Greenberg et al. 2019.
    """

    def __init__(
        self,
        task: Task = "two_moons",
        num_train: int = 50_000,
        num_val: int = 5_000,
        num_test: int = 20_000,
        batch_size: int = 256,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.simulator = SIMULATORS[choose_from("task", task, SIMULATORS)]
        self.sizes = {"train": num_train, "val": num_val, "test": num_test}
        for split, size in self.sizes.items():
            at_least_one(f"num_{split}", size)
        self.batch_size, self.seed = at_least_one("batch_size", batch_size), seed
        self.spec = TensorSpec(self.simulator.parameters, self.simulator.observed, targets="real")

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        train = split == "train"

        def examples(indices: Tensor) -> tuple[Tensor, Tensor]:
            seed, epoch = (loader.seed, loader.epoch) if train else (0, 0)
            where = (seed, STREAMS[split], epoch, indices.unsqueeze(1))
            drawn = hashed_integers(2**31, *where, torch.arange(self.simulator.draws))
            # The half keeps the uniform numbers off 0, where the Gaussian quantile is infinite.
            theta, y = self.simulator.joint((drawn.double() + 0.5) / 2.0**31)
            return theta.float(), y.float()

        # Without shuffling: the examples are independent and random.
        loader = Loader(self.sizes[split], examples, batch_size=self.batch_size, seed=self.seed)
        return loader

    def log_prob(self, theta: Tensor, y: Tensor) -> Tensor:
        """Log-density of the exact posterior in nats; -inf outside its support.

        Shape:
            theta ``[N, D]``, y ``[N, C]`` or ``[1, C]`` -> ``[N]``
        """
        return self.simulator.log_posterior(theta.double(), y.double()).to(theta.dtype)


class Simulator(NamedTuple):
    """A prior and a simulator whose posterior is known.

    Args:
        parameters: D.
        observed: C.
        draws: U, uniform random numbers that an example takes.
        joint: from uniform numbers ``[N, U]`` to theta ``[N, D]`` and y ``[N, C]``.
        log_posterior: from theta ``[N, D]`` and y ``[N, C]`` to ln p(theta | y) ``[N]``.
    """

    parameters: int
    observed: int
    draws: int
    joint: Callable[[Tensor], tuple[Tensor, Tensor]]
    log_posterior: Callable[[Tensor, Tensor], Tensor]


def _log_normal(offset: Tensor, variance: float) -> Tensor:
    return -(offset.square() / variance + math.log(2 * math.pi * variance)) / 2


def _linear_joint(uniform: Tensor) -> tuple[Tensor, Tensor]:
    theta, noise = (math.sqrt(0.1) * torch.special.ndtri(uniform)).chunk(2, 1)
    return theta, theta + noise


def _linear_log_posterior(theta: Tensor, y: Tensor) -> Tensor:
    return _log_normal(theta - y / 2, 0.05).sum(1)


def _folded(theta: Tensor) -> Tensor:
    """Middle of the half circle; theta and its mirror image have the same."""
    first, second = theta.unbind(-1)
    return torch.stack([-(first + second).abs(), second - first], -1) / math.sqrt(2)


_SHIFT = torch.tensor([0.25, 0.0], dtype=torch.double)


def _moons_joint(uniform: Tensor) -> tuple[Tensor, Tensor]:
    theta = 2 * uniform[:, :2] - 1
    angle = math.pi * (uniform[:, 2] - 0.5)
    radius = 0.1 + 0.01 * torch.special.ndtri(uniform[:, 3])
    circle = radius[:, None] * torch.stack([angle.cos(), angle.sin()], -1)
    return theta, circle + _SHIFT + _folded(theta)


def _moons_log_posterior(theta: Tensor, y: Tensor) -> Tensor:
    circle = y - _SHIFT - _folded(theta)
    radius = circle.norm(dim=-1)
    # In polar coordinates the area of a cell is proportional to the radius.
    log_likelihood = _log_normal(radius - 0.1, 0.01**2) - (math.pi * radius).log()
    possible = (theta.abs() <= 1).all(-1) & (circle[:, 0] > 0)
    log_joint = (log_likelihood - math.log(4)).masked_fill(~possible, -math.inf)
    return log_joint - _moons_evidence(y - _SHIFT).log()


def _moons_evidence(y: Tensor) -> Tensor:
    r"""p(y), for y ``[N, 2]`` without its shift: a half of the share of circles that fit.

    Folded, the square of theta becomes the triangle :math:`v_1 \le 0, |v_2| - v_1 \le \sqrt 2`,
    twice. Of each radius, the angles a for which v = y - r (cos a, sin a) is in it are those of
    :math:`r \cos a \ge y_1`, without an interval for either of the other sides.
    """
    equally_likely = (torch.arange(64, dtype=torch.double) + 0.5) / 64
    radius = 0.1 + 0.01 * torch.special.ndtri(equally_likely)
    half = (y[:, :1] / radius).clamp(-1, 1).acos().clamp(max=math.pi / 2)  # [N, radii]
    sides = []
    for sign in (1, -1):
        beyond = (sign * y[:, 1:] - y[:, :1]) / math.sqrt(2) - 1
        reach = (-beyond / radius).clamp(-1, 1).acos()
        sides.append((-sign * math.pi / 4 - reach, -sign * math.pi / 4 + reach))
    (low, high), (other_low, other_high) = sides
    both = (torch.maximum(low, other_low), torch.minimum(high, other_high))
    within = [
        (torch.minimum(end, half) - torch.maximum(start, -half)).clamp(min=0)
        for start, end in (*sides, both)
    ]
    share = (2 * half - within[0] - within[1] + within[2]) / math.pi
    return share.mean(1) / 2


SIMULATORS: dict[str, Simulator] = {
    "gaussian_linear": Simulator(10, 10, 20, _linear_joint, _linear_log_posterior),
    "two_moons": Simulator(2, 2, 4, _moons_joint, _moons_log_posterior),
}
