"""Normalizing flows: exact densities by invertible transforms to a base distribution.

Legend: B examples, N samples, D entries of an example, K classes, C context features.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import check_examples, choose_from, not_negative, num_entries
from trellis.generative.conditioning import labels_or_numbers, real_context
from trellis.generative.transform import Transform
from trellis.networks.generative.sampler import Sampler

Base = Literal["normal", "logistic"]


class Flow(Sampler):
    r"""A density by change of variables, given a transform to the base distribution.

    .. math:: \log p(x) = \log p_0(f(x)) + \log |\det \partial f / \partial x|

    Args:
        shape: of one example.
        transform: f, from ``[B, *shape]`` to ``[B, D]``; in a conditional flow it takes one-hot
            labels ``[B, K]`` or real numbers ``[B, C]`` as its context.
        num_classes: K of a flow given labels, else 0.
        context_features: C of a flow given real numbers, else 0.
        base: distribution of each entry of the noise, all independent.
    Shape:
        x ``[B, *shape]``, y labels ``[B]`` or real ``[B, C]`` -> log-densities ``[B]`` in nats
    Raises:
        ValueError: an unknown base; both labels and real numbers; x of another shape; y missing,
            superfluous, out of range or of another shape.

    Source: Rezende and Mohamed 2015, section 3.1; Papamakarios et al. 2021, eq. 3.
    """

    def __init__(
        self,
        shape: Sequence[int],
        transform: Transform,
        *,
        num_classes: int = 0,
        context_features: int = 0,
        base: Base = "normal",
    ) -> None:
        super().__init__(shape, num_classes)
        self.context_features = not_negative("context_features", context_features)
        labels_or_numbers("a flow", num_classes, context_features)
        self.base = choose_from("base", base, Base)
        self.transform = transform

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        check_examples(x, self.shape, type(self).__name__)
        z, log_det = self.transform(x, self._context(y, x.dtype))
        return self._base_log_prob(z) + log_det

    log_prob = forward

    def _base_log_prob(self, z: Tensor) -> Tensor:
        if self.base == "normal":
            return z.square().sum(1) * -0.5 - 0.5 * z.size(1) * math.log(2 * math.pi)
        return -(F.softplus(z) + F.softplus(-z)).sum(1)

    def _context(self, y: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        if self.context_features:
            return real_context(y, self.context_features, type(self).__name__).to(dtype)
        context = self._one_hot(y)
        return None if context is None else context.to(dtype)

    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """The inverse transform of noise from the base distribution, ``[N, *shape]``."""
        like = next(self.parameters())
        size = (count, num_entries(self.shape))
        z = torch.empty(size, dtype=like.dtype, device=like.device)
        if self.base == "normal":
            z.normal_(generator=generator)
        else:
            z.uniform_(generator=generator).clamp_(1e-7, 1 - 1e-7).logit_()
        return self.transform.inverse(z, self._context(y, z.dtype))[0]
