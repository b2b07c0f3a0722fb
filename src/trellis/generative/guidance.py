"""Classifier-free guidance: samples that look more like their class than the data do.

Legend: B examples, K classes; label K stands for none.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from trellis.checks import fraction, not_negative

Predictor = Callable[[Tensor, Tensor, Tensor], Tensor]


class Guidance:
    r"""One network with and without labels, whose predictions are extrapolated.

    .. math:: \tilde f(x, t, y) = f(x, t, y) + w\,\bigl(f(x, t, y) - f(x, t, \varnothing)\bigr)

    where f predicts the noise, the example or a velocity: they are linear in each other, so that
    all mean the same. Likelihoods stay those of :math:`f(x, t, y)`.

    Args:
        weight: w; 0 draws from the conditional density, more trades variety for typical samples.
        dropout: share of the training examples whose label is withheld.
    Raises:
        ValueError: a negative weight, or a share outside (0, 1).

    Source: Ho and Salimans 2022, eq. 6 and algorithms 1 and 2.
    """

    def __init__(self, weight: float = 1.0, dropout: float = 0.1) -> None:
        self.weight = not_negative("weight", weight)
        self.dropout = fraction("dropout", dropout)

    def withhold(self, y: Tensor, num_classes: int) -> Tensor:
        """Labels ``[B]``, some of them K."""
        return y.masked_fill(torch.rand(y.shape, device=y.device) < self.dropout, num_classes)

    def guided(self, predict: Predictor, num_classes: int) -> Predictor:
        """The extrapolated prediction, by one call with every example twice.

        Args:
            predict: ``(x [B, *shape], t [B], y [B]) -> [B, *shape]``.
            num_classes: K.
        """

        def both(x: Tensor, t: Tensor, y: Tensor) -> Tensor:
            nobody = torch.full_like(y, num_classes)
            twice = predict(torch.cat([x, x]), torch.cat([t, t]), torch.cat([y, nobody]))
            labelled, unlabelled = twice.chunk(2)
            return labelled + self.weight * (labelled - unlabelled)

        return both
