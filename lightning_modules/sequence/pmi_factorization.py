"""Embeddings as singular vectors of what words tell about each other."""

from collections.abc import Callable

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.checks import at_least, positive
from trellis.functional.pointwise_information import positive_information, subspace_iteration
from trellis.functional.skip_gram import PairCounts
from trellis.lightning_modules.sequence.embedding_objective import EmbeddingObjective
from trellis.networks.sequence.skip_gram_embedding import SkipGramEmbedding
from trellis.spec import EmbeddingSpec


class PMIFactorization(EmbeddingObjective):
    r"""Positive pointwise mutual information, factorized by its largest singular values.

    .. math:: M_{ij} = \max\Bigl(0, \ln \frac{p(i, j)}{p(i)\, p_\alpha(j)} - \ln k\Bigr)
        \approx (U \sqrt S)(V \sqrt S)^\top

    Each step is one of subspace iteration, in float32: ``loss`` is half the squared distance of
    both tables from the next iterate, so that SGD with a learning rate of 1 takes it,
    and a loss of 0 means that they are singular vectors. Some ten steps are enough.

    It reads on the device which pairs there are: products are those of a sparse matrix.

    Batch: ``PairCounts`` of all pairs, see ``Cooccurrences`` with ``batch_size=None``. See
    ``EmbeddingObjective`` for evaluations and predictions.

    Args:
        network: from ``num_tokens`` to a module with the tables ``center`` and ``context``.
        shift: k, as many negatives as it would be for skip-gram.
        smoothing: alpha, the power of the counts of contexts.
    Raises:
        ValueError: ``shift`` is below 1, ``smoothing`` is not positive, a network without these
            tables, or one that is wider than there are words.

    Source: Levy and Goldberg 2014, section 3; Levy et al. 2015, sections 2.2 and 3.3 (the
    exponent of the singular values); Halko et al. 2011, algorithm 4.4.
    """

    def __init__(
        self,
        network: Callable[[int], nn.Module] = SkipGramEmbedding,
        optimizer: OptimizerCallable = torch.optim.SGD,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EmbeddingSpec | None = None,
        shift: float = 1.0,
        smoothing: float = 0.75,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)
        self.shift = at_least(1, "shift", shift)
        self.smoothing = positive("smoothing", smoothing)

    def build(self, spec: EmbeddingSpec) -> None:
        super().build(spec)
        tables = [getattr(self.network, name, None) for name in ("center", "context")]
        if not all(isinstance(table, nn.Embedding) for table in tables):
            raise ValueError(
                f"PMIFactorization sets the tables network.center and network.context, which "
                f"{type(self.network).__name__} does not have: choose SkipGramEmbedding"
            )
        width = self.network.center.embedding_dim
        if width > spec.num_tokens:
            raise ValueError(f"embed_dim={width}: {spec.num_tokens} words have no more dimensions")

    def loss(self, batch: PairCounts) -> Tensor:
        """Half the squared distance from the next iterate, a scalar."""
        center, context = self.network.center.weight, self.network.context.weight
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            size = self.spec.num_tokens
            matrix = positive_information(batch, size, shift=self.shift, smoothing=self.smoothing)
            next_center, next_context = subspace_iteration(matrix, center.float())
        apart = (center - next_center.to(center)).square().sum()
        return (apart + (context - next_context.to(context)).square().sum()) / 2

    def weight(self, batch: PairCounts) -> int:
        """One: it is no mean."""
        return 1
