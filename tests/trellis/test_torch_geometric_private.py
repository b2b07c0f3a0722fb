import torch
from torch_geometric.data import Batch, Data

from trellis.torch_geometric_private import remember_parts


def test_a_batch_comes_apart() -> None:
    edge_index = torch.tensor([[0, 1], [1, 0]])
    graphs = [Data(x=torch.ones(2, 1), edge_index=edge_index), Data(x=torch.zeros(3, 1))]
    graphs[1].edge_index = edge_index + 1
    batch = Batch(
        x=torch.cat([graph.x for graph in graphs]),
        edge_index=torch.cat([graphs[0].edge_index, graphs[1].edge_index + 2], dim=1),
        batch=torch.tensor([0, 0, 1, 1, 1]),
        ptr=torch.tensor([0, 2, 5]),
    )
    remember_parts(
        batch,
        {"x": torch.tensor([0, 2, 5]), "edge_index": torch.tensor([0, 2, 4])},
        {"x": torch.zeros(2, dtype=torch.long), "edge_index": torch.tensor([0, 2])},
    )
    parts = batch.to_data_list()
    assert len(parts) == batch.num_graphs == 2, "PyG counts the graphs of a batch in another way"
    for part, graph in zip(parts, graphs, strict=True):
        same = part.x.equal(graph.x) and part.edge_index.equal(graph.edge_index)
        assert same, "Batch.to_data_list no longer reads _slice_dict and _inc_dict"
