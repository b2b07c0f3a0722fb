"""A graph in samples: for each batch of labelled nodes, some of what lies around them."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, Literal

import torch
from torch import Tensor
from torch_geometric.data import Data

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.graph.neighbours import Neighbours
from trellis.graph.sampling import NeighbourSampler
from trellis.random import keyed_generator

Labels = Literal["few", "all"]


class SampledNodes(DataModule):
    """Training nodes with sampled neighbourhoods, for graphs too large for a step on all of them.

    Batch to train on: PyG ``Data`` of a sample, see ``NeighbourSampler``, with the ``batch_size``
    training nodes first; ``train_mask`` is true for these alone, so that ``NodeClassification``
    learns from them; ``n_id`` has the numbers of the nodes in the whole graph. A sample depends
    on the seed, the epoch and the batch only. Evaluations and predictions take the whole graph
    without sampling; the network ``LayerWise`` computes them in parts. Networks are not given
    features of edges.

    Args:
        graph: a data module of one graph; sparse features are made dense.
        fan_out: neighbours to draw for each node, the first number for the training nodes
            themselves, as many numbers as the network has layers; -1 takes all.
        batch_size: training nodes in a batch.
        inductive: train on the graph without the nodes to validate and to test on, and without
            their edges.
        labels: ``few`` are those of the graph's training nodes, ``all`` those of every node that
            is neither to validate nor to test on and has one (the split of FastGCN).
    Raises:
        ValueError: a size below 1, a fan-out that is neither -1 nor at least 1, or a graph with
            weights of edges.

    Source: Hamilton et al. 2017, algorithm 2 and section 4; Chen et al. 2018, section 4 (all
    labels).
    """

    def __init__(
        self,
        graph: Callable[[], WholeGraph] = Planetoid,
        fan_out: Sequence[int] = (15, 10),
        batch_size: int = 32,
        inductive: bool = False,
        labels: Labels = "few",
    ) -> None:
        super().__init__()
        NeighbourSampler.check(fan_out)
        self.graph, self.fan_out, self.inductive = graph(), tuple(fan_out), inductive
        self.batch_size = at_least_one("batch_size", batch_size)
        self.labels = choose_from("labels", labels, Labels)
        self.data: Data | None = None

    def prepare_data(self) -> None:
        self.graph.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        if self.data is not None:
            return
        self.graph.setup(stage)
        data: Any = self.graph.data
        if self.graph.spec.edge_weights:
            raise ValueError(
                "SampledNodes has no weights of edges: give the graph ignore_weights=true, or "
                "train on the whole graph"
            )
        if data.x.layout != torch.strided:
            data = data.clone()
            data.x = data.x.to_dense()
        edge_index, seen = data.edge_index, ~(data.val_mask | data.test_mask)
        if self.inductive:
            edge_index = edge_index[:, seen[edge_index].all(0)]
        self.sampler = NeighbourSampler(
            Neighbours(edge_index, data.num_nodes, incoming=True), self.fan_out
        )
        chosen = data.train_mask if self.labels == "few" else seen & (data.y >= 0)
        self.seeds = chosen.nonzero()[:, 0]
        self.data, self.spec = data, replace(self.graph.spec, edge_channels=0)

    def loader(self, split: Split) -> Loader[Data]:
        data = self.data
        assert data is not None, "setup() comes first"
        if split != "train":
            return Loader(1, lambda _: data)

        def fetch(indices: Tensor) -> Data:
            # Another batch of the epoch has another first index.
            generator = keyed_generator(loader.seed, loader.epoch, int(indices[0]))
            return self._batch(self.seeds[indices], generator)

        loader = Loader(len(self.seeds), fetch, batch_size=self.batch_size, shuffle=True)
        return loader

    def _batch(self, seeds: Tensor, generator: torch.Generator) -> Data:
        data: Any = self.data
        nodes, edge_index = self.sampler.sample(seeds, generator)
        return Data(
            x=data.x.index_select(0, nodes),
            edge_index=edge_index,
            y=data.y.index_select(0, nodes),
            train_mask=torch.arange(len(nodes)) < len(seeds),
            n_id=nodes,
        )
