"""Huffman's tree: optimal, free of prefixes, and a distribution over all words."""

import itertools
from functools import cache

import pytest
import torch

from trellis.sequence.huffman import HuffmanTree, huffman_codes


def cheapest(counts: list[int]) -> int:
    """The least sum of counts times depths over all binary trees, by trying all of them."""

    @cache
    def best(words: frozenset[int]) -> int:
        if len(words) == 1:
            return 0
        first, *others = sorted(words)
        splits = []
        for size in range(len(others)):
            for more in itertools.combinations(others, size):
                left = frozenset((first, *more))
                splits.append(best(left) + best(words - left))
        return min(splits) + sum(counts[word] for word in words)

    return best(frozenset(range(len(counts))))


@pytest.mark.parametrize("counts", [[1, 1], [9, 1, 1, 1], [5, 4, 3, 2, 1, 1], [3] * 7])
def test_no_other_tree_has_a_smaller_mean_depth(counts: list[int]) -> None:
    _, sides = huffman_codes(torch.tensor(counts))
    depths = sides.abs().sum(1)
    assert int((depths * torch.tensor(counts)).sum()) == cheapest(counts)
    codes = [tuple(row[: int(d)].tolist()) for row, d in zip(sides, depths, strict=True)]
    assert not [(a, b) for a, b in itertools.permutations(codes, 2) if b[: len(a)] == a], (
        "a code begins another one"
    )


def test_probabilities_of_all_words_sum_to_one() -> None:
    generator = torch.Generator().manual_seed(0)
    counts = torch.randint(1, 1000, (300,), generator=generator)
    tree = HuffmanTree(counts)
    logits = 3 * torch.randn(5, 299, generator=generator)  # of the inner nodes
    words = torch.arange(300)
    p = tree.log_prob(logits[:, tree.nodes[words]], words).exp()  # [5, 300]
    torch.testing.assert_close(p.sum(1), torch.ones(5))
    assert float(p.min()) < 0.1 * float(p.mean()), "logits of 3 are far from even"
    assert int(tree.nodes.max()) == 298


def test_paths_agree_on_the_sides_of_a_node() -> None:
    """The words below a node are split in two, and none of them is there twice."""
    nodes, sides = huffman_codes(torch.tensor([8, 5, 5, 3, 2, 1, 1]))
    for node in range(6):
        on = (nodes == node) & (sides != 0)
        assert on.sum(1).max() == 1
        taken = sides[on]
        assert {1, -1} == {*taken.tolist()}


def test_one_word_needs_no_tree() -> None:
    with pytest.raises(ValueError, match="the number of words=1: give at least 2"):
        huffman_codes(torch.tensor([3]))
