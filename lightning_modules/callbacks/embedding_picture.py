"""A map of embeddings, after a fit."""

from typing import TYPE_CHECKING

import lightning as L
import torch

from trellis.analysis.points import scatter_picture
from trellis.checks import at_least, positive
from trellis.functional.skip_gram import Probe
from trellis.lightning_modules.callbacks.after_fit import (
    PictureAfterFit,
    evaluation,
    require_objective,
    validation_batches,
)
from trellis.lightning_modules.sequence.skip_gram import SkipGram

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class EmbeddingPicture(PictureAfterFit):
    """The embeddings of labelled words or nodes in the plane, ``embeddings``: by t-SNE.

    It shows those of the validation and the training split, coloured by their class, the same
    picture each time.

    Args:
        max_points: to show at most; t-SNE takes a minute for some ten thousand.
        perplexity: about how many neighbours each point is to keep, less than there are points.
    Raises:
        ValueError: the objective is not ``SkipGram``, its data has no labels, or a number is too
            small.

    Source: van der Maaten and Hinton 2008, in scikit-learn's implementation.
    """

    key = "embeddings"

    def __init__(self, max_points: int = 2000, perplexity: float = 30.0) -> None:
        self.max_points = at_least(3, "max_points", max_points)
        self.perplexity = positive("perplexity", perplexity)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        require_objective("EmbeddingPicture", pl_module, SkipGram)
        if not getattr(pl_module.spec, "out_channels", 0):
            raise ValueError("EmbeddingPicture colours by class, and the data has no labels")

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        from sklearn.manifold import TSNE

        probes = [each for each in validation_batches(trainer) if isinstance(each, Probe)]
        if not probes:
            return None
        ids = torch.cat([part for probe in probes for part in (probe.ids, probe.train_ids)])
        labels = torch.cat([p for probe in probes for p in (probe.labels, probe.train_labels)])
        ids, labels = ids[: self.max_points], labels[: self.max_points].cpu()
        with evaluation(pl_module):
            vectors = pl_module(ids).float().cpu().numpy()
        perplexity = min(self.perplexity, (len(vectors) - 1) / 3)
        tsne = TSNE(perplexity=perplexity, init="pca", random_state=0)
        return scatter_picture(torch.from_numpy(tsne.fit_transform(vectors)), labels)
