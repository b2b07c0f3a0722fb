"""Distributions of actions: a Gaussian squashed between bounds, a fast categorical."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Categorical, Distribution, constraints

Sizes = torch.Size | list[int] | tuple[int, ...]


def at_least_float32(x: Tensor) -> Tensor:
    """``x`` in float32 if it has fewer bits, as layers return it under autocast.

    Ratios of probabilities that are nearly 1, and small TD errors, need more than those.
    """
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


class SquashedGaussian(Distribution):
    r"""Vectors between bounds: a Gaussian through a tanh, scaled to the bounds.

    .. math::
        a = c + h \tanh u, \quad u \sim N(\mu, \sigma^2), \quad
        \ln p(a) = \sum_i \ln N(u_i; \mu_i, \sigma_i^2) - \ln (1 - \tanh^2 u_i) - \ln h_i

    with c the middle of the bounds and h half of their distance.

    Args:
        mean: of u.
        log_std: natural logarithm of its standard deviation.
        low: lower bound of each entry.
        high: upper bound of each entry.
    Shape:
        mean and log_std ``[..., A]``, low and high ``[A]``; event shape ``[A]``, batch shape
        ``[...]``

    Source: Haarnoja et al. 2018, appendix C.
    """

    # torch's base class reads these.
    arg_constraints: dict[str, constraints.Constraint] = {}
    has_rsample = True

    def __init__(self, mean: Tensor, log_std: Tensor, low: Tensor, high: Tensor) -> None:
        super().__init__(mean.shape[:-1], mean.shape[-1:], validate_args=False)
        self.loc, self.log_std = mean, log_std
        self.middle, self.half = (high + low) / 2, (high - low) / 2

    @property
    def support(self) -> constraints.Constraint:
        """Between the bounds."""
        low, high = self.middle - self.half, self.middle + self.half
        return constraints.independent(constraints.interval(low, high), 1)

    @property
    def mode(self) -> Tensor:
        """The image of the mean of u, as a deterministic action."""
        return self.middle + self.half * self.loc.tanh()

    def rsample(self, sample_shape: Sizes = ()) -> Tensor:
        """Samples that are differentiable in the parameters."""
        return self.middle + self.half * self._noise(sample_shape).tanh()

    def rsample_with_log_prob(self) -> tuple[Tensor, Tensor]:
        """A sample and its log-probability, which is exact also where a sample rounds to a bound.

        Shape:
            ``[..., A]`` and ``[...]``
        """
        u = self._noise(())
        return self.middle + self.half * u.tanh(), self._log_prob(u)

    def log_prob(self, value: Tensor) -> Tensor:
        """Of vectors between the bounds; one on a bound counts as the nearest one inside.

        Shape:
            ``[..., A]`` -> ``[...]``
        """
        squashed = (value - self.middle) / self.half
        inside = 1 - torch.finfo(squashed.dtype).eps
        return self._log_prob(squashed.clamp(-inside, inside).atanh())

    def _noise(self, sample_shape: Sizes) -> Tensor:
        shape = (*sample_shape, *self.loc.shape)
        noise = torch.randn(shape, dtype=self.loc.dtype, device=self.loc.device)
        return self.loc + self.log_std.exp() * noise

    def _log_prob(self, u: Tensor) -> Tensor:
        standard = (u - self.loc) * (-self.log_std).exp()
        gaussian = -0.5 * standard.square() - self.log_std - 0.5 * math.log(2 * math.pi)
        # ln(1 - tanh^2 u) in a form that does not round to ln 0 where |u| is large.
        log_derivative = 2 * (math.log(2) - u - F.softplus(-2 * u))
        return (gaussian - log_derivative - self.half.log()).sum(-1)


class FastCategorical(Categorical):
    r"""torch's ``Categorical`` of finite logits, in half the time: for small policies.

    .. math:: \ln p(a) = f_a - \ln \sum_b e^{f_b}

    It gives the same numbers and, from the same random state, the same samples.

    Args:
        logits: f.
    Shape:
        logits ``[..., A]``; batch shape ``[...]``

    >>> FastCategorical(torch.tensor([0.0, 0.0])).log_prob(torch.tensor(1))
    tensor(-0.6931)
    """

    def __init__(self, logits: Tensor) -> None:
        self.logits = self._param = at_least_float32(logits).log_softmax(-1)
        self._num_events = logits.size(-1)
        # Not Categorical's own, which normalises in three steps.
        Distribution.__init__(self, logits.shape[:-1], validate_args=False)

    def expand(self, batch_shape: Sizes, _instance: object = None) -> "FastCategorical":
        """The same distribution with another batch shape."""
        return FastCategorical(self.logits.expand(*batch_shape, -1))

    def sample(self, sample_shape: Sizes = ()) -> Tensor:
        """Categories, ``[*sample_shape, ...]``."""
        probs = self.logits.detach().softmax(-1)
        if sample_shape:
            probs = probs.expand(*sample_shape, *probs.shape)
        # The exponential race of torch.multinomial, without its search for NaN.
        return (probs / torch.empty_like(probs).exponential_()).argmax(-1)

    def log_prob(self, value: Tensor) -> Tensor:
        """Of these categories."""
        if value.shape != self.batch_shape:
            return super().log_prob(value)
        return self.logits.gather(-1, value.long().unsqueeze(-1)).squeeze(-1)

    def entropy(self) -> Tensor:
        """In nats."""
        return -(self.logits.exp() * self.logits).sum(-1)
