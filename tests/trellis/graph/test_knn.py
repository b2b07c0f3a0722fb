import pytest
import torch

from trellis.graph.knn import knn_graph


def naive(x: torch.Tensor, neighbours: int) -> set[tuple[int, int]]:
    edges = set()
    for i in range(len(x)):
        others = [j for j in range(len(x)) if j != i]
        others.sort(key=lambda j: float((x[i] - x[j]).pow(2).sum()))
        for j in others[:neighbours]:
            edges |= {(i, j), (j, i)}
    return edges


@pytest.mark.parametrize("block", [2048, 7, 1])
def test_equals_sorting_each_point_by_itself(block: int) -> None:
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    edge_index = knn_graph(x, 3, block=block)
    edges = list(map(tuple, edge_index.t().tolist()))
    assert edges == sorted(edges)
    assert len(edges) == len(set(edges))
    assert set(edges) == naive(x, 3)


def test_points_on_one_spot_are_not_their_own_neighbours() -> None:
    edge_index = knn_graph(torch.zeros(5, 2), 2)
    assert (edge_index[0] != edge_index[1]).all()


def test_far_from_the_origin_small_distances_still_count() -> None:
    """|a|^2 - 2ab + |b|^2 in single precision cannot tell these neighbours apart."""
    x = 8192 + torch.arange(40.0)[:, None].pow(1.5) / 4
    assert set(map(tuple, knn_graph(x, 1).t().tolist())) == naive(x, 1)


@pytest.mark.parametrize("neighbours", [0, 5, -1])
def test_an_impossible_number_of_neighbours_is_refused(neighbours: int) -> None:
    with pytest.raises(ValueError, match=f"neighbours={neighbours}: 5 points allow 1 to 4"):
        knn_graph(torch.zeros(5, 2), neighbours)
