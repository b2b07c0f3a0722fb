"""The base of the networks that draw samples.

Legend: B examples, N samples, K classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trellis.generative.conditioning import one_hot_labels


class Sampler(nn.Module, ABC):
    """Base of the networks that draw samples, given labels if they are conditional.

    Args:
        shape: of an example.
        num_classes: K of a conditional network, 0 for an unconditional one.
    """

    def __init__(self, shape: Sequence[int], num_classes: int) -> None:
        super().__init__()
        self.shape, self.num_classes = tuple(shape), num_classes

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw samples.

        Args:
            num_samples: N.
            y: labels, for a conditional network.
            generator: of the random numbers, on the network's device; torch's own by default.
        Shape:
            y ``[N]`` -> ``[N, *shape]``, or parameters of distributions of examples
        """
        return self._draw(num_samples, y, generator)

    @abstractmethod
    def _draw(self, count: int, y: Tensor | None, generator: torch.Generator | None) -> Tensor:
        """See ``sample``."""

    def _one_hot(self, y: Tensor | None) -> Tensor | None:
        """Labels ``[B]`` as ``[B, K]``, checked; ``None`` for an unconditional network."""
        return one_hot_labels(y, self.num_classes, type(self).__name__)
