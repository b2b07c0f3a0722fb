"""The nodes of a graph in the company that random walks bring them into."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative
from trellis.datamodules.engine.base import SPLITS, DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.functional.skip_gram import Noise, Probe, SkipGramBatch, context_windows
from trellis.graph.neighbours import Neighbours
from trellis.graph.walks import check_memory, random_walks
from trellis.random import keyed_generator
from trellis.spec import EmbeddingSpec

_COUNTED, _VALIDATED, _TRAINED = range(3)  # streams of random numbers
MAX_COUNTED = 100_000  # walks that frequencies are counted in


class NodeWalks(DataModule):
    """Pairs of nodes that stand near each other on a walk: DeepWalk, and node2vec with p and q.

    Batch: a ``SkipGramBatch`` of the windows of ``batch_size`` fresh walks. Their steps depend on
    the seed, the epoch and the batch only, not on the number of processes or on a resume.
    Negatives are drawn by how often walks meet a node, to the power of 3/4. A node that no edge
    leaves is the start of no walk, but has an embedding like others.

    Evaluations take the same walks each time, and then classify the validation or test nodes of
    the graph from the embeddings of its training nodes, see ``SkipGram``. Predictions are the
    embeddings of all nodes.

    Args:
        graph: a data module of one graph; its features are not looked at.
        walk_length: steps of a walk.
        walks_per_node: from each node in an epoch.
        window: how many steps away a node is still a context.
        num_negatives: for each centre.
        p: return parameter, see ``random_walks``; 1 for DeepWalk.
        q: in-out parameter; 1 for DeepWalk.
        batch_size: walks in a batch.
        num_val_batches: batches of walks in an evaluation.
    Raises:
        ValueError: a size below 1, p or q that is not positive, or a graph without edges.

    Source: Perozzi et al. 2014, algorithm 1; Grover and Leskovec 2016, algorithm 1. Deviates: the
    walks of an epoch are new ones, and words have one window, not one of random size.
    """

    def __init__(
        self,
        graph: Callable[[], WholeGraph] = Planetoid,
        walk_length: int = 40,
        walks_per_node: int = 1,
        window: int = 5,
        num_negatives: int = 5,
        p: float = 1.0,
        q: float = 1.0,
        batch_size: int = 32,
        num_val_batches: int = 1,
    ) -> None:
        super().__init__()
        self.graph = graph()
        self.walk_length = at_least_one("walk_length", walk_length)
        self.walks_per_node = at_least_one("walks_per_node", walks_per_node)
        self.window = at_least_one("window", window)
        self.num_negatives = at_least_one("num_negatives", num_negatives)
        self.p, self.q = check_memory(p, q)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.num_val_batches = not_negative("num_val_batches", num_val_batches)
        self.neighbours: Neighbours | None = None

    def prepare_data(self) -> None:
        self.graph.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        if self.neighbours is not None:
            return
        self.graph.setup(stage)
        data, spec = self.graph.data, self.graph.spec
        assert data is not None
        self.spec = EmbeddingSpec(data.num_nodes, spec.out_channels, tuple(spec.classes))
        self.neighbours = Neighbours(data.edge_index, data.num_nodes)
        self.starts = (self.neighbours.degrees > 0).nonzero()[:, 0]
        if not len(self.starts):
            raise ValueError(f"{type(self.graph).__name__}: there are no edges to walk along")
        every = -(-len(self.starts) // MAX_COUNTED)
        walks = self._walks(self.starts[::every], keyed_generator(0, _COUNTED))
        # A node that none of them met may be met by others.
        counts = walks[walks >= 0].bincount(minlength=data.num_nodes).clamp(min=1)
        self.noise = Noise(counts)

    def loader(self, split: Split) -> Loader[Any]:
        assert self.neighbours is not None, "setup() comes first"
        if split != "train":
            count = self.num_val_batches + bool(self.spec.out_channels)
            return Loader(count, lambda number: self._evaluated(split, int(number)))

        def fetch(indices: Tensor) -> SkipGramBatch:
            # Another batch of the epoch has another first index.
            generator = keyed_generator(loader.seed, _TRAINED, loader.epoch, int(indices[0]))
            return self._batch(indices % len(self.starts), generator)

        number = self.walks_per_node * len(self.starts)
        loader = Loader(number, fetch, batch_size=self.batch_size, shuffle=True)
        return loader

    def predict_dataloader(self) -> Loader[Tensor]:
        return Loader(self.spec.num_tokens, lambda ids: ids, batch_size=4096)

    def _evaluated(self, split: Split, number: int) -> SkipGramBatch | Probe:
        data: Any = self.graph.data
        if number < self.num_val_batches:
            generator = keyed_generator(number, _VALIDATED, SPLITS.index(split))
            return self._batch(
                torch.randint(len(self.starts), (self.batch_size,), generator=generator), generator
            )
        ids, train = (data[f"{each}_mask"].nonzero()[:, 0] for each in (split, "train"))
        return Probe(ids, data.y[ids], train, data.y[train])

    def _batch(self, numbers: Tensor, generator: torch.Generator) -> SkipGramBatch:
        center, context = context_windows(
            self._walks(self.starts[numbers], generator), self.window
        )
        negatives = self.noise.draw(len(center), self.num_negatives, generator=generator)
        return SkipGramBatch(center, context, negatives)

    def _walks(self, starts: Tensor, generator: torch.Generator) -> Tensor:
        assert self.neighbours is not None
        return random_walks(
            self.neighbours, starts, self.walk_length, p=self.p, q=self.q, generator=generator
        )
