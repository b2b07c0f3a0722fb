"""Linear factor models: an example is a linear map of latent factors, and noise.

Legend: B examples of shape ``shape`` with D entries, L factors, N samples, K atoms.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import LowRankMultivariateNormal

from trellis.checks import at_least_one, check_examples, not_negative, num_entries
from trellis.generative.sparse_coding import fista
from trellis.networks.generative.sampler import Sampler

SMALLEST_VARIANCE = 1e-4


class FactorAnalysis(Sampler):
    r"""A Gaussian whose covariance is of low rank but for independent noise.

    .. math:: z \sim N(0, I), \quad x \mid z \sim N(W z + \mu, \Psi), \quad
        x \sim N(\mu, W W^\top + \Psi)

    Args:
        shape: of an example.
        latent_dim: L, at most D.
        isotropic: one variance of the noise for all entries, which is probabilistic principal
            component analysis; else one for each. They are at least 1e-4: else the likelihood of
            an entry that factors explain wholly, or that is always the same, has no bound.
    Shape:
        x ``[B, *shape]`` -> log-densities ``[B]`` in nats
    Raises:
        ValueError: a size below 1, more factors than entries, or an x of another shape.

    Source: Rubin and Thayer 1982; Tipping and Bishop 1999, eq. 1 to 6.

    >>> FactorAnalysis((3,), latent_dim=2, isotropic=True)(torch.zeros(4, 3)).shape
    torch.Size([4])
    """

    def __init__(
        self, shape: tuple[int, ...], *, latent_dim: int = 2, isotropic: bool = False
    ) -> None:
        super().__init__(shape, 0)
        size = num_entries(self.shape)
        if at_least_one("latent_dim", latent_dim) > size:
            raise ValueError(f"latent_dim={latent_dim}: give at most {size}, the entries of x")
        self.weight = nn.Parameter(torch.randn(size, latent_dim) / size**0.5)
        self.mean = nn.Parameter(torch.zeros(size))
        self.noise = nn.Parameter(torch.zeros(1 if isotropic else size))

    @property
    def variance(self) -> Tensor:
        """Of the noise of each entry, ``[D]``."""
        # Linear for large values: the exponential overflows where a line search tries them.
        return (F.softplus(self.noise) + SMALLEST_VARIANCE).expand_as(self.mean)

    def forward(self, x: Tensor) -> Tensor:
        check_examples(x, self.shape, "FactorAnalysis")
        density = LowRankMultivariateNormal(
            self.mean, self.weight, self.variance, validate_args=False
        )
        return density.log_prob(x.flatten(1))

    def encode(self, x: Tensor) -> Tensor:
        r"""Means of the factors given examples, :math:`E[z | x]`, ``[B, L]``.

        Source: Tipping and Bishop 1999, eq. 9.
        """
        check_examples(x, self.shape, "FactorAnalysis")
        precise = self.weight / self.variance[:, None]
        precision = torch.eye(self.weight.size(1)).to(precise) + self.weight.t() @ precise
        return torch.linalg.solve(precision, ((x.flatten(1) - self.mean) @ precise).t()).t()

    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        size, latent_dim = self.weight.shape
        like: Any = {
            "device": self.weight.device,
            "dtype": self.weight.dtype,
            "generator": generator,
        }
        z, noise = torch.randn(count, latent_dim, **like), torch.randn(count, size, **like)
        x = z @ self.weight.t() + self.mean + self.variance.sqrt() * noise
        return x.view(-1, *self.shape)


class ICA(Sampler):
    r"""Independent component analysis by maximum likelihood: as many sources as entries.

    .. math:: s = W (x - \mu), \quad \ln p(x) = \ln |\det W| - \sum_d \ln(\pi \cosh s_d)

    The density of sources has heavy tails, and finds others of heavy tails, too; the order, signs
    and scales of sources are arbitrary.

    Args:
        shape: of an example.
    Shape:
        x ``[B, *shape]`` -> log-densities ``[B]`` in nats
    Raises:
        ValueError: a size below 1, or an x of another shape.

    Source: Bell and Sejnowski 1995; MacKay 1996, "Maximum likelihood and covariant algorithms for
    independent component analysis", eq. 6 to 9.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        super().__init__(shape, 0)
        size = num_entries(self.shape)
        self.weight = nn.Parameter(torch.eye(size))
        self.mean = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        away = self.encode(x).abs()
        log_cosh = away + F.softplus(-2 * away) - math.log(2)
        return torch.linalg.slogdet(self.weight).logabsdet - (log_cosh + math.log(math.pi)).sum(1)

    def encode(self, x: Tensor) -> Tensor:
        """Sources of examples, ``[B, D]``."""
        check_examples(x, self.shape, "ICA")
        return F.linear(x.flatten(1) - self.mean, self.weight)

    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        uniform = torch.rand(
            count,
            len(self.mean),
            generator=generator,
            device=self.mean.device,
            dtype=self.mean.dtype,
        )
        edge = torch.finfo(uniform.dtype).eps  # of which the quantiles are finite
        sources = (uniform.clamp(edge, 1 - edge) * math.pi / 2).tan().log()
        x = torch.linalg.solve(self.weight, sources.t()).t() + self.mean
        return x.view(-1, *self.shape)


class SparseCoding(nn.Module):
    r"""Dictionary learning: examples are sums of a few of many atoms.

    .. math:: h(x) = \arg\min_h \tfrac12 \lVert x - h D \rVert^2 + \lambda \lVert h \rVert_1,
        \quad \lVert D_k \rVert = 1

    An autoencoder, whose encoder is ``fista`` and passes no gradients on: at the minimum those of
    the dictionary are the same without it.

    Args:
        shape: of an example.
        num_atoms: K; more than D are usual.
        penalty: lambda.
        num_steps: of ``fista``.
    Shape:
        x ``[B, *shape]`` -> reconstructions ``[B, *shape]``
    Raises:
        ValueError: a size below 1, a negative penalty, or an x of another shape.

    Source: Olshausen and Field 1996, eq. 2 to 5; Mairal et al. 2010, eq. 2 and 3.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        *,
        num_atoms: int = 128,
        penalty: float = 0.1,
        num_steps: int = 100,
    ) -> None:
        super().__init__()
        self.shape, self.penalty = tuple(shape), not_negative("penalty", penalty)
        self.num_steps = at_least_one("num_steps", num_steps)
        at_least_one("num_atoms", num_atoms)
        self.weight = nn.Parameter(torch.randn(num_atoms, num_entries(self.shape)))

    @property
    def atoms(self) -> Tensor:
        """The dictionary D, rows of length 1, ``[K, D]``."""
        return F.normalize(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.decode(self.encode(x))

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """Sparse codes ``[B, K]``."""
        check_examples(x, self.shape, "SparseCoding")
        return fista(x.flatten(1), self.atoms, self.penalty, self.num_steps)

    def decode(self, code: Tensor) -> Tensor:
        """Examples ``[B, *shape]`` from codes ``[B, K]``."""
        check_examples(code, (len(self.weight),), "SparseCoding's decoder")
        return (code @ self.atoms).view(-1, *self.shape)
