"""The tree beside a running sum."""

import pytest
import torch

from trellis.rl.sum_tree import SumTree


@pytest.mark.parametrize("size", [1, 2, 3, 64, 65, 200, 5000])
def test_finds_what_a_running_sum_does(size) -> None:
    generator = torch.Generator().manual_seed(size)
    tree, weights = SumTree(size), torch.zeros(size).double()
    for _ in range(20):
        where = torch.randperm(size, generator=generator)[: 1 + size // 2]
        new = torch.rand(len(where), generator=generator).double()
        new[new < 0.2] = 0.0
        tree.set(where, new)
        weights[where] = new
        assert tree.total == pytest.approx(float(weights.sum()))
        assert torch.equal(tree.get(torch.arange(size)), weights)
        if tree.total == 0:
            continue
        mass = torch.rand(200, generator=generator).double() * tree.total
        expected = torch.searchsorted(weights.cumsum(0), mass, right=True)
        assert torch.equal(tree.find(mass), expected)


def test_an_empty_leaf_is_never_found() -> None:
    tree = SumTree(500)
    tree.set(torch.tensor([1, 300]), torch.tensor([1.0, 2.0]))
    assert tree.find(torch.tensor([0.0, 1.0, 3.0, 3.1])).tolist() == [1, 300, 300, 300]


def test_rounding_does_not_add_up() -> None:
    tree, where = SumTree(100), torch.arange(100)
    for weight in (1e9, 1e-9, 1e9, 1e-9):
        tree.set(where, torch.full((100,), weight).double())
    assert tree.total == pytest.approx(1e-7, rel=1e-12)


def test_bad_input() -> None:
    with pytest.raises(ValueError, match="size=0: give at least 1"):
        SumTree(0)
    with pytest.raises(ValueError, match="all weights are 0"):
        SumTree(4).find(torch.zeros(1))
