import pytest
import torch
from torch_geometric.data import Batch, Data

from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs


def some_graphs(count: int = 12, features: bool = False) -> list[Data]:
    """Random directed multigraphs; some have no edges, their edges are in no order."""
    generator = torch.Generator().manual_seed(0)
    graphs = []
    for number in range(count):
        nodes = int(torch.randint(1, 6, (), generator=generator))
        edges = 0 if number % 4 == 1 else int(torch.randint(1, 9, (), generator=generator))
        graphs.append(
            Data(
                x=torch.randn(nodes, 3, generator=generator),
                edge_index=torch.randint(0, nodes, (2, edges), generator=generator),
                y=torch.tensor([number % 3]),
            )
        )
        if features:
            graphs[-1].edge_attr = torch.randn(edges, 2, generator=generator)
    return graphs


@pytest.mark.parametrize(
    "chosen", [[0], [1], [3, 0, 7], [1, 5, 9], list(range(12)), [11, 11, 2], [4, 1, 4]]
)
@pytest.mark.parametrize("features", [False, True])
def test_a_batch_is_what_pyg_would_collate(chosen: list[int], features: bool) -> None:
    objects = some_graphs(features=features)
    ours = InMemoryGraphs.from_data_list(objects).batch(torch.tensor(chosen))
    theirs = Batch.from_data_list([objects[i] for i in chosen])
    assert isinstance(ours, Batch)
    assert isinstance(ours, Data)
    assert set(ours.keys()) == set(theirs.keys())
    for key in theirs.keys():  # noqa: SIM118
        assert torch.equal(ours[key], theirs[key]), key
        assert ours[key].dtype == theirs[key].dtype
    assert ours.num_graphs == theirs.num_graphs == len(chosen)
    assert ours.num_nodes == theirs.num_nodes
    assert ours.num_edges == theirs.num_edges


def test_a_batch_comes_apart_again_and_moves() -> None:
    objects = some_graphs(features=True)
    batch = InMemoryGraphs.from_data_list(objects).batch(torch.tensor([6, 1, 2])).to("cpu")
    assert batch.num_graphs == 3
    for got, number in zip(batch.to_data_list(), [6, 1, 2], strict=True):
        assert torch.equal(got.x, objects[number].x)
        assert torch.equal(got.edge_index, objects[number].edge_index)
        assert torch.equal(got.edge_attr, objects[number].edge_attr)
        assert torch.equal(got.y, objects[number].y)
    assert torch.equal(batch[1].x, objects[1].x)
    assert batch.clone().num_graphs == 3


def test_edges_may_come_in_any_order() -> None:
    objects = some_graphs(features=True)
    whole = Batch.from_data_list(objects)
    order = torch.randperm(whole.num_edges, generator=torch.Generator().manual_seed(1))
    edges, features = whole.edge_index[:, order], whole.edge_attr[order]
    shuffled = InMemoryGraphs(whole.x, edges, whole.y, whole.ptr.diff(), features)
    for number, graph in enumerate(objects):
        got = shuffled.batch(torch.tensor([number]))
        assert described(got) == described(graph)


def described(graph: Data) -> list[list[float]]:
    """The edges with their features, in an order of their own."""
    return sorted(torch.cat((graph.edge_index.t(), graph.edge_attr), dim=1).tolist())


def test_an_edge_between_two_graphs_is_refused() -> None:
    with pytest.raises(ValueError, match="edge 1 -> 2 joins two graphs"):
        InMemoryGraphs(
            torch.zeros(4, 1),
            torch.tensor([[0, 1], [1, 2]]),
            torch.zeros(2, dtype=torch.long),
            torch.tensor([2, 2]),
        )


@pytest.mark.parametrize(("targets", "nodes"), [(3, [2, 2]), (2, [2, 1])])
def test_contradicting_sizes_are_refused(targets: int, nodes: list[int]) -> None:
    with pytest.raises(ValueError, match="give one target per graph and one row per node"):
        InMemoryGraphs(
            torch.zeros(4, 1),
            torch.zeros(2, 0, dtype=torch.long),
            torch.zeros(targets, dtype=torch.long),
            torch.tensor(nodes),
        )


def test_features_of_some_edges_only_are_refused() -> None:
    nodes, edges = torch.tensor([2]), torch.tensor([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match="1 rows of edge_attr for 2 edges: give one each"):
        InMemoryGraphs(torch.zeros(2, 1), edges, torch.zeros(1), nodes, torch.zeros(1, 3))
