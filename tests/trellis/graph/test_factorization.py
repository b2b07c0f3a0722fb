"""Proximities against networkx, and factors against a dense decomposition."""

import networkx as nx
import numpy as np
import pytest
import torch

from trellis.graph.factorization import factorized, proximity

CLUB = nx.karate_club_graph()
_half = torch.tensor(list(CLUB.edges)).t()
EDGES = torch.cat([_half, _half.flip(0), _half[:, :3], torch.tensor([[4], [4]])], 1)
PAIRS = [(u, v) for u in range(34) for v in range(34) if u != v]


@pytest.mark.parametrize("power", [1, 2, 3])
def test_powers_count_walks(power: int) -> None:
    dense = nx.to_numpy_array(CLUB, nodelist=range(34), weight=None)
    found = proximity(EDGES, 34, power=power).toarray()
    np.testing.assert_allclose(found, np.linalg.matrix_power(dense, power))


@pytest.mark.parametrize(
    ("kind", "theirs"),
    [("jaccard", nx.jaccard_coefficient), ("adamic_adar", nx.adamic_adar_index)],
)
def test_shared_neighbours_weigh_what_they_do_in_networkx(kind, theirs) -> None:
    found = proximity(EDGES, 34, kind).toarray()
    expected = np.zeros((34, 34))
    for u, v, value in theirs(CLUB, PAIRS):
        expected[u, v] = value
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_factors_are_the_best_of_their_rank() -> None:
    matrix = proximity(EDGES, 34, power=2)
    source, target = factorized(matrix, 5)
    left, values, right = np.linalg.svd(matrix.toarray())
    best = (left[:, :5] * values[:5]) @ right[:5]
    np.testing.assert_allclose((source @ target.t()).numpy(), best, atol=1e-3)
    torch.testing.assert_close(source, target, atol=1e-4, rtol=0)  # A A is positive
    assert torch.equal(source, factorized(matrix, 5)[0])


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="kind='jacard'"):
        proximity(EDGES, 34, "jacard")
    with pytest.raises(ValueError, match="power=2: only kind='adjacency' has powers"):
        proximity(EDGES, 34, "jaccard", power=2)
    with pytest.raises(ValueError, match="embed_dim=34: 34 nodes allow 1 to 33"):
        factorized(proximity(EDGES, 34), 34)
