"""Where a node is in its graph: against eigenvectors and powers of matrices."""

from pathlib import Path
from typing import get_args

import pytest
import torch
import torch.nn.functional as F
from gin_files import text, write
from torch import Tensor
from torch_geometric.data import Data

from trellis.datamodules.graph.encodings import Encoding, encoded
from trellis.datamodules.graph.gin_dataset import GINDataset
from trellis.datamodules.graph.karate_club import KarateClub
from trellis.datamodules.graph.whole_graph import WholeGraph


def club() -> Data:
    data = KarateClub()
    data.setup()
    return data.data


def adjacency(data: Data) -> Tensor:
    return torch.zeros(34, 34).index_put_(tuple(data.edge_index), torch.ones(156))


def test_laplacian_vectors_are_eigenvectors_with_the_smallest_values() -> None:
    data, a = club(), adjacency(club())
    d = a.sum(1).pow(-0.5).diag()
    laplacian = torch.eye(34) - d @ a @ d
    (vectors,) = encoded(data, ["laplacian"], 5)
    values = torch.linalg.eigvalsh(laplacian)[1:6]
    torch.testing.assert_close(laplacian @ vectors, vectors * values, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(vectors.t() @ vectors, torch.eye(5), rtol=1e-4, atol=1e-5)
    assert (vectors.max(0).values >= -vectors.min(0).values).all()


def test_walks_are_diagonals_of_powers() -> None:
    data, a = club(), adjacency(club())
    step = a / a.sum(1, keepdim=True)
    (walks,) = encoded(data, ["walks"], 4)
    expected = torch.stack([torch.matrix_power(step, k).diag() for k in range(1, 5)], dim=1)
    torch.testing.assert_close(walks, expected)


@pytest.mark.parametrize(
    ("name", "power"), [("adjacency", 1), ("adjacency_2", 2), ("adjacency_4", 4)]
)
def test_factors_have_the_angles_of_singular_vectors(name: str, power: int) -> None:
    """Between nodes: of the vectors themselves any rotation would do as well."""
    left, values, _ = torch.linalg.svd(torch.matrix_power(adjacency(club()).double(), power))
    expected = F.normalize(left[:, :6] * values[:6].sqrt())
    (found,) = encoded(club(), [name], 6)
    torch.testing.assert_close(
        found @ found.t(), (expected @ expected.t()).float(), atol=1e-4, rtol=0
    )


def test_nodes_without_a_common_neighbour_have_no_factors() -> None:
    """Two pairs and a star of four: in the pairs nobody shares a neighbour."""
    edges = torch.tensor([[0, 2, 4, 4, 4], [1, 3, 5, 6, 7]])
    data = Data(edge_index=torch.cat((edges, edges.flip(0)), 1), num_nodes=8)
    for x in encoded(data, ["jaccard", "adamic_adar"], 1):
        assert x[:, 0].tolist() == pytest.approx([0] * 5 + [1] * 3)


def test_anonymous_walks_are_counted_from_each_node() -> None:
    """Path 0-1-2, and 3 alone: 0-1-0 or 0-1-2 from the ends, 1-0-1 or 1-2-1 in the middle."""
    edges = torch.tensor([[0, 1, 1, 2, 0], [1, 0, 2, 1, 0]])  # a loop is no step
    data = Data(edge_index=edges, num_nodes=4)
    (shares,) = encoded(data, ["anonymous_walks"], 2)
    assert shares.sum(1).tolist() == [1, 1, 1, 0]
    assert shares[1].tolist() == [1, 0]
    torch.testing.assert_close(shares[[0, 2]], torch.full((2, 2), 0.5), atol=0.2, rtol=0)
    (wider,) = encoded(data, ["anonymous_walks"], 7)  # three steps have five shapes
    assert wider[:, 5:].abs().sum() == 0
    # 0101 and 0102, 0121 and never 0120 or 0123, in the order of their numbers.
    assert (wider[:3] > 0).any(0)[:5].tolist() == [True, True, False, True, False]
    assert encoded(data, ["anonymous_walks"], 7)[0].equal(wider)


@pytest.mark.parametrize("nodes", [0, 1, 2, 3])
def test_small_graphs_have_zeros_in_the_places_left(nodes: int) -> None:
    path = torch.arange(nodes)
    edges = torch.stack((path[:-1], path[1:])) if nodes else torch.empty(2, 0).long()
    edges = torch.cat((edges, edges.flip(0)), 1)
    for x in encoded(Data(edge_index=edges, num_nodes=nodes), get_args(Encoding), 4):
        assert x.shape == (nodes, 4)
        assert x.isfinite().all()
    vectors = encoded(Data(edge_index=edges, num_nodes=nodes), ["laplacian"], 4)[0]
    assert vectors[:, max(nodes - 1, 0) :].abs().sum() == 0


def test_the_global_stream_of_random_numbers_stays_where_it_was() -> None:
    data = club()
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    first = encoded(data, ["laplacian"], 3)[0]
    assert torch.rand(3).equal(expected)
    assert encoded(data, ["laplacian"], 3)[0].equal(first)


class Mine(WholeGraph):
    spec = KarateClub.spec

    def __init__(self, **options) -> None:
        super().__init__(**options)

    def read(self) -> Data:
        return club()


def test_encodings_join_the_features_of_one_graph() -> None:
    data = Mine(encodings=["walks", "laplacian"], encoding_dim=3)
    data.setup()
    assert data.spec.in_channels == data.data.x.size(1) == 34 + 6
    walks, laplacian = encoded(club(), ["walks", "laplacian"], 3)
    torch.testing.assert_close(data.data.x[:, 34:], torch.cat((walks, laplacian), 1))


def test_encodings_can_be_all_features_there_are() -> None:
    data = Mine(features="none", encodings=["jaccard"], encoding_dim=5)
    data.setup()
    assert data.spec.in_channels == 5
    assert data.data.x.equal(encoded(club(), ["jaccard"], 5)[0])
    with pytest.raises(ValueError, match="features='none' leaves no features: give encodings"):
        Mine(features="none")


def test_labels_as_features_are_those_of_the_training_nodes_alone() -> None:
    data = Mine(features="labels")
    data.setup()
    graph = data.data
    assert data.spec.in_channels == 4
    assert graph.x[graph.train_mask].argmax(1).equal(graph.y[graph.train_mask])
    assert graph.x[graph.train_mask].sum(1).tolist() == [1] * 4
    assert graph.x[~graph.train_mask].abs().sum() == 0


def test_encodings_join_the_features_of_each_graph_of_many(tmp_path: Path) -> None:
    write(tmp_path, text())
    data = GINDataset("TOY", data_dir=str(tmp_path), encodings=["walks"], encoding_dim=2)
    data.setup()
    assert data.spec.in_channels == 5
    ring = data.graphs.batch(
        torch.tensor([5])
    )  # of four nodes: back after two steps, half of them
    assert ring.x[:, 3:].tolist() == [[0.0, 0.5]] * 4


def test_names_that_do_not_exist_are_listed() -> None:
    with pytest.raises(ValueError, match="encodings='degree': choose from laplacian, walks"):
        Mine(encodings=["degree"])
    with pytest.raises(ValueError, match="encoding_dim=0: give at least 1"):
        Mine(encoding_dim=0)
    with pytest.raises(ValueError, match="features='words': choose from own, labels"):
        Mine(features="words")
