"""Features of edges reach the networks that take them, and no others."""

from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from learning_cases import quiet_trainer
from torch import Tensor, nn
from torch_geometric.data import Batch, Data

from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph import GraphFromFiles, SampledNodes
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.lightning_modules.export.interface import example_inputs
from trellis.lightning_modules.graph import (
    GraphClassification,
    GraphRegression,
    GraphTasks,
    NodeClassification,
    NodeRegression,
)
from trellis.networks.graph import GCN, GIN, GINE, GraphNetwork, GraphTransformer
from trellis.spec import GraphSpec, NodeSpec

OBJECTIVES = {"labels": GraphClassification, "real": GraphRegression, "binary": GraphTasks}
adam = partial(torch.optim.Adam, lr=0.02)
reading = partial(GINE, hidden_channels=16, num_layers=2)


class Rings(DataModule):
    """80 rings of six random atoms; what is asked is how many bonds are of the second kind."""

    def __init__(self, targets: str) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        nodes = torch.arange(6)
        edges = torch.stack((nodes, nodes.roll(1)))
        graphs = []
        for number in range(80):
            kinds = (torch.rand(6, generator=generator) < number % 2 * 0.6 + 0.2).long()
            count = kinds.sum()
            y = count.float() if targets == "real" else (count > 3).float()
            graphs.append(
                Data(
                    x=torch.randn(6, 1, generator=generator),
                    edge_index=torch.cat((edges, edges.flip(0)), 1),
                    edge_attr=nn.functional.one_hot(kinds.repeat(2), 2).float(),
                    y=y.long()[None] if targets == "labels" else y[None, None],
                )
            )
        self.graphs = InMemoryGraphs.from_data_list(graphs)
        outputs = 2 if targets == "labels" else 1
        self.spec = GraphSpec(1, outputs, targets=targets, edge_channels=2)

    def loader(self, split: str) -> Loader[Batch]:
        return Loader(80, self.graphs.batch, batch_size=20, shuffle=split == "train")


@pytest.mark.parametrize(
    ("targets", "metric", "blind", "seeing"),
    [("labels", "accuracy", 0.8, 0.95), ("real", "rmse", 1.3, 0.5), ("binary", "auc", 0.8, 0.98)],
)
def test_graphs_that_differ_in_their_edges_are_learnt(
    targets: str, metric: str, blind: float, seeing: float, tmp_path: Path
) -> None:
    found = {}
    for encoder in (reading, partial(GIN, hidden_channels=16, num_layers=2)):
        L.seed_everything(0, verbose=False)
        network = partial(GraphNetwork, encoder=encoder, hidden_channels=16, dropout=0.0)
        objective, data = OBJECTIVES[targets](network, adam), Rings(targets)
        trainer = quiet_trainer(tmp_path, max_epochs=15, limit_val_batches=0)
        trainer.fit(objective, datamodule=data)
        [tested] = trainer.test(objective, datamodule=data, verbose=False)
        found[encoder.func] = tested[f"test/{metric}"]
    sign = -1 if metric == "rmse" else 1
    assert sign * found[GINE] > sign * seeing, found
    assert sign * found[GIN] < sign * blind, found


def files(folder: Path, targets: str = "labels", weight: bool = False) -> dict[str, Any]:
    """Options of ``GraphFromFiles`` for a ring; the edge to a node tells what is asked of it."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(200, generator=generator)
    label = ["low" if v < 0 else "high" for v in values] if targets == "labels" else values
    nodes = [f"{i},1,{label[i]}" for i in range(200)]
    (folder / "nodes.csv").write_text("\n".join(["id,x,label", *nodes]))
    edges = [f"{(i + 1) % 200},{i},{values[i]},7{',2' * weight}" for i in range(200)]
    header = f"source,target,length,year{',weight' * weight}"
    (folder / "edges.csv").write_text("\n".join([header, *edges]))
    paths = {name: str(folder / f"{name}.csv") for name in ("edges", "nodes")}
    return {**paths, "undirected": False, "targets": targets, "steps_per_epoch": 50}


def test_nodes_of_a_graph_in_files_learn_from_their_edges(tmp_path: Path) -> None:
    found = {}
    for network in (reading, partial(GCN, dropout=0.0)):
        L.seed_everything(0, verbose=False)
        trainer = quiet_trainer(tmp_path, max_epochs=1)
        objective, data = NodeClassification(network, adam), GraphFromFiles(**files(tmp_path))
        trainer.fit(objective, datamodule=data)
        [tested] = trainer.test(objective, datamodule=data, verbose=False)
        found[network.func] = tested["test/accuracy"]
    assert found[GINE] > 0.9 > 0.7 > found[GCN], found
    objective = NodeRegression(partial(reading, num_layers=1), adam)
    data, trainer = (
        GraphFromFiles(**files(tmp_path, "real")),
        quiet_trainer(tmp_path, max_epochs=2),
    )
    trainer.fit(objective, datamodule=data)
    [tested] = trainer.test(objective, datamodule=data, verbose=False)
    assert tested["test/rmse"] < 0.4  # the standard deviation is 1


class Reader(nn.Module):
    """A network of one's own, which takes ``edge_attr`` by keyword and asks for no sizes of it."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.linear = nn.Linear(1, out_channels)

    def forward(
        self, x: Tensor, edge_index: Tensor, batch: Tensor, *, edge_attr: Tensor
    ) -> Tensor:
        owner = batch[edge_index[0]]
        sums = edge_attr.new_zeros(4, 1).index_add(0, owner, edge_attr[:, 1:])
        return self.linear(sums)


def test_a_network_of_ones_own_is_given_them_by_name() -> None:
    data = Rings("labels")
    batch = data.graphs.batch(torch.arange(4))
    objective = GraphClassification(Reader, spec=data.spec)
    objective.configure_model()
    logits, _ = objective.logits_and_labels(batch, "test")
    kinds = batch.edge_attr.view(4, 12, 2)[..., 1].sum(1, keepdim=True)
    torch.testing.assert_close(logits, objective.network.linear(kinds))


@pytest.mark.parametrize(
    ("objective", "spec", "message"),
    [
        (
            partial(GraphClassification, partial(GraphNetwork, encoder=GINE)),
            GraphSpec(1, 2),
            "edge_channels=0: give at least 1, by data whose edges have features; GIN does",
        ),
        (
            partial(NodeClassification, GINE),
            NodeSpec(1, 2),
            "edge_channels=0: give at least 1, by data whose edges have features; GIN does",
        ),
        (
            partial(GraphClassification, Reader),
            GraphSpec(1, 2),
            r"GraphClassification calls network\(x, edge_index, batch\), but Reader.forward takes",
        ),
    ],
)
def test_a_network_that_needs_them_is_refused_before_the_first_batch(
    objective: Any, spec: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        objective(spec=spec).configure_model()


@pytest.mark.parametrize("encoder", [GINE, GIN])
def test_an_exported_network_takes_them_if_it_reads_them(encoder: Any) -> None:
    spec = GraphSpec(3, 2, edge_channels=5)
    objective = GraphClassification(partial(GraphNetwork, encoder=encoder), spec=spec)
    objective.configure_model()
    inputs = {each.name: each for each in example_inputs(objective, objective.network)}
    assert ("edge_attr" in inputs) == (encoder is GINE)
    if encoder is GINE:
        assert inputs["edge_attr"].described()["shape"] == ["edges", 5]


def test_what_takes_none_does_without(tmp_path: Path) -> None:
    objective = GraphClassification(partial(GraphTransformer, num_layers=1), adam)
    trainer = quiet_trainer(tmp_path, max_epochs=1)
    trainer.fit(objective, datamodule=Rings("labels"))
    assert trainer.global_step == trainer.num_training_batches > 0


def test_samples_of_a_graph_have_neither_features_nor_weights_of_edges(tmp_path: Path) -> None:
    data = SampledNodes(partial(GraphFromFiles, **files(tmp_path)), fan_out=(2, 2))
    data.setup()
    assert data.spec.edge_channels == 0
    with pytest.raises(ValueError, match="edge_channels=0"):
        NodeClassification(GINE, spec=data.spec).configure_model()
    quiet_trainer(tmp_path, max_epochs=1).fit(NodeClassification(GCN, adam), datamodule=data)
    weighted = partial(GraphFromFiles, **files(tmp_path, weight=True))
    with pytest.raises(ValueError, match="SampledNodes has no weights of edges: .*ignore_weights"):
        SampledNodes(weighted).setup()
    SampledNodes(partial(weighted, ignore_weights=True)).setup()
