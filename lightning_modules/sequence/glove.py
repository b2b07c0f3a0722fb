"""Embeddings from how often words stand near each other."""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.checks import not_negative, positive
from trellis.functional.skip_gram import PairCounts
from trellis.lightning_modules.sequence.embedding_objective import EmbeddingObjective
from trellis.networks.sequence.glove_embedding import GloVeEmbedding
from trellis.spec import EmbeddingSpec


class GloVe(EmbeddingObjective):
    r"""Weighted least squares of the logarithms of how often two words stand near each other.

    .. math:: L = f(X_{ij}) \bigl(u_i^\top v_j + a_i + b_j - \ln X_{ij}\bigr)^2, \quad
        f(x) = \min\bigl(1, (x / x_{\max})^\alpha\bigr)

    as a mean over the pairs of a batch.

    Batch: ``PairCounts``. See ``EmbeddingObjective`` for evaluations and predictions.

    Args:
        network: from ``num_tokens`` to a module ``(center, context) -> ln X [B, J]``, whose
            ``embed`` maps ids to vectors.
        x_max: pairs that are as frequent as this have the full weight.
        alpha: how fast the weight grows below it.
    Raises:
        ValueError: ``x_max`` is not positive or ``alpha`` is negative; see ``EmbeddingObjective``.

    Source: Pennington et al. 2014, eqs. 8 and 9. Deviates: its reference code learns by Adagrad
    with one pair at a time; ``torch.optim.Adagrad`` is the default here, on batches.
    """

    def __init__(
        self,
        network: Callable[[int], nn.Module] = GloVeEmbedding,
        optimizer: OptimizerCallable = torch.optim.Adagrad,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EmbeddingSpec | None = None,
        x_max: float = 100.0,
        alpha: float = 0.75,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)
        self.x_max = positive("x_max", x_max)
        self.alpha = not_negative("alpha", alpha)

    def loss(self, batch: PairCounts) -> Tensor:
        """Mean over the pairs of a batch, a scalar."""
        weights = (batch.counts / self.x_max).clamp(max=1) ** self.alpha
        found = self.network(batch.center, batch.context[:, None])[:, 0]
        errors = found - batch.counts.log()
        return (weights * errors.square()).mean()

    def weight(self, batch: PairCounts) -> int:
        """Pairs of a batch."""
        return len(batch.counts)
