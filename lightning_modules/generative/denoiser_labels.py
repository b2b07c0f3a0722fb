"""What diffusion and flow matching share: a network of noisy examples, with or without labels."""

from collections.abc import Callable
from typing import Any, Protocol

from torch import Tensor, nn

from trellis.generative.guidance import Guidance
from trellis.generative.probability_flow import Field


class DenoiserFactory(Protocol):
    """Builds a network ``(x, t, [y]) -> [B, *shape]`` from the shape of an example.

    Called by keyword; a conditional objective also gives ``num_classes``, or ``context_features``
    where targets are real. Times ``t [B]`` are in
    [0, 1].
    """

    def __call__(self, shape: tuple[int, ...]) -> nn.Module: ...


class DenoiserLabels:
    """Labels of a denoiser in training, in likelihoods and in samples.

    Args:
        conditional: whether the network takes labels.
        guidance: makes the guidance of samples, for which the network has a class more.
    Raises:
        ValueError: guidance of a network without labels.
    """

    def __init__(self, conditional: bool, guidance: Callable[[], Guidance] | None) -> None:
        if guidance is not None and not conditional:
            raise ValueError(
                "guidance needs labels to guide by: give conditional=True, or leave guidance out"
            )
        self.conditional, self.num_classes = conditional, 0
        self.guidance = None if guidance is None else guidance()

    def sizes(self, sizes: dict[str, Any]) -> dict[str, Any]:
        """The sizes with which a network is built, from those of the data.

        Raises:
            ValueError: guidance by real targets.
        """
        if self.guidance is not None and "num_classes" not in sizes:
            raise ValueError("guidance is by class labels, but the data has real targets")
        self.num_classes = sizes.get("num_classes", 0)
        return sizes | ({"num_classes": self.num_classes + 1} if self.guidance else {})

    def in_training(self, y: Tensor) -> Tensor | None:
        """What the network is told of labels ``[B]``."""
        if self.guidance is not None:
            return self.guidance.withhold(y, self.num_classes)
        return y if self.conditional else None

    def field(
        self, network: Callable[..., Tensor], y: Tensor | None, *, guided: bool = False
    ) -> Field:
        """Predictions ``(x, t)`` given y, which repeats where there are more examples.

        Args:
            network: ``(x, t, [y])``.
            y: labels ``[B]`` or real targets ``[B, C]``; a network that takes none is not told.
            guided: for samples: with guidance, if there is any.
        """
        if y is None or not self.conditional:
            return network
        if guided and self.guidance is not None:
            network = self.guidance.guided(network, self.num_classes)
        rest = (1,) * (y.ndim - 1)
        return lambda x, t: network(x, t, y.repeat(len(x) // len(y), *rest))
