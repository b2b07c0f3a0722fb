"""Hierarchical softmax: a word is a path of yes-or-no questions through a tree of all words.

Legend: V words, P questions of the longest path.
"""

import heapq

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from trellis.checks import at_least


def huffman_codes(counts: Tensor) -> tuple[Tensor, Tensor]:
    """The binary tree in which paths to frequent words are short: none has a smaller mean depth.

    Args:
        counts: how often each word occurs.
    Returns:
        inner nodes from the root to each word, 0 where the path has ended, and the side that is
        taken there: 1 or -1, and 0 where the path has ended.
    Shape:
        ``[V]`` -> ``[V, P]``, ``[V, P]``
    Raises:
        ValueError: there are less than two words.

    Source: Huffman 1952; Morin and Bengio 2005; Mikolov et al. 2013b, section 2.1.

    >>> nodes, sides = huffman_codes(torch.tensor([5, 1, 1]))
    >>> sides.abs().sum(1)
    tensor([1, 2, 2])
    """
    size = at_least(2, "the number of words", len(counts))
    # Among equal counts those that were there first: the same tree each time.
    heap = [(int(count), number) for number, count in enumerate(counts)]
    heapq.heapify(heap)
    parent = torch.zeros(2 * size - 1, dtype=torch.long).tolist()
    side = list(parent)
    for made in range(size, 2 * size - 1):
        (one, left), (two, right) = heapq.heappop(heap), heapq.heappop(heap)
        parent[left] = parent[right] = made
        side[left], side[right] = 1, -1
        heapq.heappush(heap, (one + two, made))
    root = 2 * size - 2
    paths: list[list[tuple[int, int]]] = []
    for word in range(size):
        path, at = [], word
        while at != root:
            path.append((parent[at] - size, side[at]))
            at = parent[at]
        paths.append(path[::-1])
    longest = max(map(len, paths))
    filled = torch.tensor([path + [(0, 0)] * (longest - len(path)) for path in paths])
    return filled[..., 0].contiguous(), filled[..., 1].contiguous()


class HuffmanTree(nn.Module):
    r"""Log-probabilities of words from logits at the inner nodes of a Huffman tree.

    .. math:: \ln p(w) = \sum_{n \in \text{path}(w)} \ln \sigma(s_{n, w}\, z_n)

    with the side s, 1 or -1, on which the path leaves the node n. There are V - 1 inner nodes, so
    that the table of contexts of an embedding has room for their vectors. The tree is made of
    ``counts``: checkpoints do not hold it.

    Args:
        counts: of the words ``[V]``.
    Raises:
        ValueError: there are less than two words.

    >>> tree = HuffmanTree(torch.tensor([5, 2, 1, 1]))
    >>> logits = torch.tensor([0.3, -2.0, 1.0])  # of the three inner nodes
    >>> p = tree.log_prob(logits[tree.nodes], torch.arange(4)).exp()
    >>> torch.allclose(p.sum(), torch.tensor(1.0))
    True
    """

    nodes: Tensor
    sides: Tensor

    def __init__(self, counts: Tensor) -> None:
        super().__init__()
        nodes, sides = huffman_codes(counts)
        self.register_buffer("nodes", nodes, persistent=False)
        self.register_buffer("sides", sides.to(torch.int8), persistent=False)

    def log_prob(self, logits: Tensor, words: Tensor) -> Tensor:
        """Log-probabilities of words from the logits along their paths.

        Args:
            logits: of ``nodes[words]``.
            words: ids.
        Shape:
            logits ``[..., P]``, words broadcast to ``[...]`` -> ``[...]``
        """
        sides = self.sides[words]
        return torch.where(sides != 0, F.logsigmoid(logits * sides), 0).sum(-1)
