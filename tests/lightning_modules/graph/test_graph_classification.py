"""Graphs without nodes are graphs, wherever they stand in a batch."""

from functools import partial
from pathlib import Path

import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.lightning_modules.graph.graph_classification import GraphClassification
from trellis.networks.graph.graph_network import GraphNetwork
from trellis.spec import GraphSpec


class SomeEmpty(DataModule):
    """Six paths of 3, 2, 0, 1, 0 and 0 nodes."""

    spec = GraphSpec(4, 2)

    def __init__(self) -> None:
        super().__init__()
        graphs = []
        for number, nodes in enumerate((3, 2, 0, 1, 0, 0)):
            path = torch.arange(nodes)
            edges = torch.stack((path[:-1], path[1:])) if nodes else torch.empty(2, 0).long()
            x = torch.randn(nodes, 4)
            graphs.append(Data(x=x, edge_index=edges, y=torch.tensor([number % 2])))
        self.graphs = InMemoryGraphs.from_data_list(graphs)

    def loader(self, split: str) -> Loader[Batch]:
        return Loader(6, self.graphs.batch, batch_size=3, shuffle=split == "train")


@pytest.mark.parametrize("readout", ["sum", "mean", "max", "virtual_node"])
def test_graphs_without_nodes_are_learnt_and_predicted(tmp_path: Path, readout: str) -> None:
    objective = GraphClassification(partial(GraphNetwork, hidden_channels=8, readout=readout))
    trainer = quiet_trainer(tmp_path, max_epochs=3)
    trainer.fit(objective, datamodule=SomeEmpty())
    rows = torch.cat(trainer.predict(objective, datamodule=SomeEmpty()))
    assert rows.shape == (6, 2)
    torch.testing.assert_close(rows.sum(1), torch.ones(6))


class Guesses(nn.Module):
    """Counts the graphs by the last node's, as many networks do."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_channels, out_channels)

    def forward(self, x: Tensor, edge_index: Tensor, batch: Tensor) -> Tensor:
        sums = x.new_zeros(int(batch.max()) + 1, x.size(1)).index_add(0, batch, x)
        return self.linear(sums)


def test_a_network_that_miscounts_the_graphs_is_refused(tmp_path: Path) -> None:
    objective = GraphClassification(Guesses, spec=SomeEmpty.spec)
    objective.configure_model()
    graphs = SomeEmpty().graphs
    assert objective.training_step(graphs.batch(torch.tensor([2, 4, 0])), 0) > 0
    with pytest.raises(ValueError, match="Guesses returned 1 rows for 3 graphs, .* num_graphs"):
        objective.training_step(graphs.batch(torch.tensor([0, 2, 4])), 0)
