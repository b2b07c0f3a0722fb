"""Collections of labelled graphs under ten-fold cross-validation."""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Batch, Data

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.division import check_fold
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.encodings import Encoding, check_encodings, encoded
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.spec import GraphSpec

NUM_FOLDS = 10
Validation = Literal["test_fold", "next_fold"]


class FoldedGraphs(DataModule):
    """Base of the collections with ten folds, of which one is tested on.

    Real attributes of nodes have mean 0 and standard deviation 1 over the training graphs: a sum
    over a graph of attributes in the hundreds would drown the first steps of any network.

    Args:
        fold: the test fold, 0 to 9.
        batch_size: graphs per batch.
        validation: ``"test_fold"`` trains on all other graphs and validates on the test fold: the
            protocol of the GIN paper, for curves averaged over the ten folds; optimistic for a
            single one. ``"next_fold"`` validates on fold + 1 and trains on the others.
        encodings: more features, of where a node is in its graph: ``laplacian`` eigenvectors,
            returning ``walks``, shapes of ``anonymous_walks``; see
            ``trellis.datamodules.graph.encodings``.
        encoding_dim: numbers of each encoding.
    Raises:
        ValueError: a fold, size or name that does not exist.
    """

    def __init__(
        self,
        fold: int = 0,
        batch_size: int = 32,
        validation: Validation = "test_fold",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
    ) -> None:
        super().__init__()
        check_fold(fold, NUM_FOLDS)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.fold = fold
        self.validation = choose_from("validation", validation, Validation)
        self.encodings = check_encodings(encodings, encoding_dim)
        self.encoding_dim = encoding_dim
        self.graphs: InMemoryGraphs | None = None

    @abstractmethod
    def read(self) -> InMemoryGraphs:
        """All graphs, labelled 0 to the number of classes - 1; called once."""

    @abstractmethod
    def folds(self, y: Tensor) -> list[Tensor]:
        """Indices of the graphs that each fold tests on, of labels ``y [G]``."""

    def setup(self, stage: str | None = None) -> None:
        if self.graphs is None:
            graphs = self.read()
            folds = self.folds(graphs.y)
            val = self.fold if self.validation == "test_fold" else (self.fold + 1) % NUM_FOLDS
            train = torch.ones(len(graphs), dtype=torch.bool)
            train[torch.cat((folds[self.fold], folds[val]))] = False
            self.splits = {
                "train": train.nonzero().flatten(),
                "val": folds[val],
                "test": folds[self.fold],
            }
            graphs.x = standardized(graphs.x, graphs.batch(self.splits["train"]).x)
            if self.encodings:
                graphs.x = torch.cat((graphs.x, self._encoded(graphs)), dim=1)
            self.graphs = graphs
            self.spec = GraphSpec(graphs.x.size(1), int(graphs.y.max()) + 1)

    def _encoded(self, graphs: InMemoryGraphs) -> Tensor:
        parts = []
        for nodes, edge_index in zip(
            graphs.nodes.tolist(), graphs.edge_index.split(graphs.edges.tolist(), 1), strict=True
        ):
            graph = Data(edge_index=edge_index, num_nodes=nodes)
            parts.append(torch.cat(encoded(graph, self.encodings, self.encoding_dim), dim=1))
        return torch.cat(parts)

    def loader(self, split: Split) -> Loader[Batch]:
        assert self.graphs is not None, "setup() comes first"
        graphs, chosen, train = self.graphs, self.splits[split], split == "train"
        return Loader(
            len(chosen),
            lambda indices: graphs.batch(chosen[indices]),
            batch_size=self.batch_size,
            shuffle=train,
        )


def stratified_folds(y: Tensor, seed: int) -> list[Tensor]:
    """Indices of the ten folds, each with the class frequencies of ``y [G]``.

    Raises:
        ValueError: a class has fewer members than there are folds.
    """
    from sklearn.model_selection import StratifiedKFold

    smallest = int(y.bincount().min())
    if smallest < NUM_FOLDS:
        raise ValueError(
            f"a class has {smallest} graphs: {NUM_FOLDS} folds need at least as many of each class"
        )
    splitter = StratifiedKFold(NUM_FOLDS, shuffle=True, random_state=seed)
    return [torch.from_numpy(test) for _, test in splitter.split(np.zeros(len(y)), y.numpy())]


def standardized(x: Tensor, train: Tensor) -> Tensor:
    """``x [N, C]`` with real columns scaled by those of ``train``; those of 0 and 1 stay.

    >>> standardized(torch.tensor([[1.0, 300.0], [0.0, 500.0]]), torch.tensor([[1.0, 400.0]]))
    tensor([[   1., -100.],
            [   0.,  100.]])
    """
    real = ((x != 0) & (x != 1)).any(0)
    if not real.any():
        return x
    std, mean = torch.std_mean(train, 0, correction=0)
    scale = torch.where(std > 0, std, 1)
    return torch.where(real, (x - mean) / scale, x)


def one_hot(values: Tensor) -> Tensor:
    """A column for each value that occurs, in ascending order.

    >>> one_hot(torch.tensor([7, -1, 7]))
    tensor([[0., 1.],
            [1., 0.],
            [0., 1.]])
    """
    return F.one_hot(values.unique(return_inverse=True)[1]).float()
