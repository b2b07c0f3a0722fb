import time

import pytest
import torch

from trellis.analysis import graph_layout


def two_cliques(size: int) -> torch.Tensor:
    """Two complete graphs joined by one edge."""
    clique = torch.combinations(torch.arange(size)).T
    return torch.cat([clique, clique + size, torch.tensor([[0], [size]])], dim=1)


def distances(x: torch.Tensor) -> torch.Tensor:
    return torch.cdist(x, x)


def test_a_group_of_neighbours_lies_together_and_apart_from_the_other():
    x = graph_layout(two_cliques(12), 24)
    inside = distances(x)[:12, :12].max()
    between = distances(x)[:12, 12:]
    assert between.mean() > 1.5 * inside
    assert x.mean(0).abs().max() < 1e-5
    assert x.norm(dim=-1).mean() == pytest.approx(1, abs=1e-5)


def test_nodes_do_not_fall_onto_each_other():
    d = distances(graph_layout(two_cliques(12), 24)).fill_diagonal_(9)
    assert d.min() > 0.05


def test_a_path_is_drawn_in_its_order():
    n = 20
    x = graph_layout(torch.stack([torch.arange(n - 1), torch.arange(1, n)]), n)
    one, two = (distances(x).diagonal(offset=offset) for offset in (1, 2))
    assert one.max() < two.min()  # it may bend, but nowhere folds


def test_direction_duplicates_and_loops_change_nothing():
    edges = torch.randint(0, 40, (2, 60), generator=torch.Generator().manual_seed(0))
    loops = torch.arange(0, 40, 3).repeat(2, 1)
    same = torch.cat([edges.flip(0), edges, edges, loops], dim=1)
    torch.testing.assert_close(graph_layout(edges, 40), graph_layout(same, 40))


def test_lonely_nodes_stay_in_the_picture():
    clique = torch.combinations(torch.arange(12)).T
    x = graph_layout(clique, 16)
    # Were they to drift away, the others would shrink to a dot.
    assert distances(x)[:12, :12].max() > 0.3
    assert x.norm(dim=-1).max() < 2.6


@pytest.mark.parametrize("nodes", [0, 1, 2])
def test_tiny_graphs_have_a_layout(nodes):
    x = graph_layout(torch.zeros(2, 0, dtype=torch.long), nodes)
    assert x.shape == (nodes, 2)
    assert x.isfinite().all()


@pytest.mark.long
def test_thousands_of_nodes_take_no_longer_than_a_glance():
    torch.manual_seed(0)
    edges = torch.randint(0, 2700, (2, 5400))
    start = time.process_time()
    x = graph_layout(edges, 2700)
    assert time.process_time() - start < 6  # about 1.4 s on an idle machine
    assert x.isfinite().all()


def test_the_picture_is_the_same_every_time():
    edges = torch.randint(0, 60, (2, 120), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(graph_layout(edges, 60), graph_layout(edges, 60))


def test_an_edge_to_nowhere_is_refused():
    with pytest.raises(ValueError, match="holds node 5: give 0 to num_nodes - 1 = 4"):
        graph_layout(torch.tensor([[0], [5]]), 5)
