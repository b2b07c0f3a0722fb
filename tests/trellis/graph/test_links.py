"""Numbers of pairs, and pairs that are not linked."""

import pytest
import torch
from torch import Tensor
from torch_geometric.utils import negative_sampling

from trellis.graph import (
    NonLinks,
    all_pairs_loss,
    link_loss,
    num_pairs,
    numbered_pairs,
    pair_numbers,
    unique_links,
)


@pytest.mark.parametrize("directed", [False, True])
@pytest.mark.parametrize("num_nodes", [2, 3, 6, 7])
def test_every_pair_has_a_number_of_its_own(num_nodes: int, directed: bool) -> None:
    nodes = torch.arange(num_nodes)
    pairs = (torch.cartesian_prod(nodes, nodes) if directed else torch.combinations(nodes)).t()
    pairs = pairs[:, pairs[0] != pairs[1]]
    numbers = pair_numbers(pairs, num_nodes, directed)
    assert sorted(numbers.tolist()) == list(range(num_pairs(num_nodes, directed)))
    assert torch.equal(numbered_pairs(numbers, num_nodes, directed), pairs)
    reverse = pair_numbers(pairs.flip(0), num_nodes, directed)
    assert torch.equal(reverse, numbers) != directed
    assert pair_numbers(nodes.expand(2, -1), num_nodes, directed).tolist() == [-1] * num_nodes


def test_numbers_of_large_graphs_are_exact() -> None:
    nodes = 3_000_000  # numbers of 4.5e12
    pairs = torch.randint(nodes, (2, 1000), generator=torch.Generator().manual_seed(0))
    pairs = torch.stack((pairs.amin(0), pairs.amax(0)))
    assert torch.equal(numbered_pairs(pair_numbers(pairs, nodes), nodes), pairs)


def edges(num_nodes: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(num_nodes, (2, 20), generator=generator)


@pytest.mark.parametrize("directed", [False, True])
def test_what_is_drawn_is_uniform_over_the_pairs_that_are_not_linked(directed: bool) -> None:
    links = unique_links(edges(), 9, directed)
    non_links = NonLinks(torch.cat((links, links.flip(0)[:, :0]), 1), 9, directed)
    assert non_links.count == num_pairs(9, directed) - links.size(1)
    drawn = non_links.draw(60 * non_links.count, torch.Generator().manual_seed(0))
    numbers, times = pair_numbers(drawn, 9, directed).unique(return_counts=True)
    known = pair_numbers(links, 9, directed)
    assert set(numbers.tolist()) == set(range(num_pairs(9, directed))) - set(known.tolist())
    assert 25 < int(times.min()) < int(times.max()) < 100  # 60 each
    # PyG's sampler finds the same pairs, in a tensor of other order.
    theirs = negative_sampling(
        links if directed else torch.cat((links, links.flip(0)), 1),
        9,
        num_neg_samples=10_000,
        method="dense",
        force_undirected=not directed,
    )
    assert set(pair_numbers(theirs, 9, directed).tolist()) == set(numbers.tolist())


def test_distinct_pairs_are_distinct_and_follow_the_seed() -> None:
    non_links = NonLinks(edges(), 9)
    for count in (1, 5, non_links.count):
        drawn = [
            non_links.draw_distinct(count, torch.Generator().manual_seed(s)) for s in (0, 0, 1)
        ]
        assert torch.equal(drawn[0], drawn[1])
        assert count < 5 or not torch.equal(drawn[0], drawn[2])
        assert len(pair_numbers(drawn[0], 9).unique()) == count
    with pytest.raises(ValueError, match=r"\d+ pairs that are not linked are wanted, but only"):
        non_links.draw_distinct(non_links.count + 1)


def test_a_complete_graph_has_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="pairs that are not linked=0: give at least 1: leave"):
        NonLinks(torch.combinations(torch.arange(4)).t(), 4)


def test_the_loss_is_the_weighted_one_of_the_paper() -> None:
    """``norm * mean(weighted_cross_entropy)``, as its code has it."""
    torch.manual_seed(0)
    adjacency = torch.eye(6)
    links = torch.tensor([[0, 1, 2, 4], [1, 3, 5, 0]])
    adjacency[links[0], links[1]] = adjacency[links[1], links[0]] = 1
    logits = 3 * torch.randn(6, 6)
    total = adjacency.sum()
    weight, norm = (36 - total) / total, 36 / ((36 - total) * 2)
    expected = norm * torch.nn.functional.binary_cross_entropy_with_logits(
        logits, adjacency, pos_weight=weight
    )
    torch.testing.assert_close(link_loss(logits, adjacency), expected)
    found = all_pairs_loss(logits, adjacency.nonzero().t(), torch.ones(int(total)))
    torch.testing.assert_close(found, expected)
