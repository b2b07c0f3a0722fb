"""Triples of a knowledge graph, and how well the missing entity of one is found.

Legend: B triples, Q questions, N entities, R relations, K candidates. The question after the tail
is ``(head, relation, ?)``; that after the head is asked as ``(tail, relation + R, ?)``, of the
inverse of the relation.
"""

from typing import NamedTuple

import torch
from torch import Tensor


class Questions(NamedTuple):
    """Questions after entities, their answers, and what else is true.

    Args:
        entity: that is known ``[Q]``.
        relation: from it to the answer ``[Q]``, in ``0 .. 2 R - 1``.
        answer: ``[Q]``; -1 where it is not known.
        known: ``[2, F]``: rows of questions, and entities that answer them as well in any split;
            empty in training.
        edge_index: training triples as edges ``[2, E]``, both ways.
        edge_type: their relations ``[E]``.
    """

    entity: Tensor
    relation: Tensor
    answer: Tensor
    known: Tensor
    edge_index: Tensor
    edge_type: Tensor


def ranks(scores: Tensor, answers: Tensor, known: Tensor | None = None) -> Tensor:
    """Ranks of the answers among the scores of all entities, from 1 on; equal scores count half.

    Args:
        scores: ``[Q, N]``.
        answers: ``[Q]``.
        known: ``[2, F]``, rows and entities that are left out of the count: "filtered".
    Returns:
        ranks ``[Q]``, in the type of the scores.

    Source: Bordes et al. 2013; Sun et al. 2020 ("A re-evaluation of knowledge graph
    completion methods", on equal scores).

    >>> scores, answers = torch.tensor([[0.1, 0.9, 0.5, 0.5]]), torch.tensor([2])
    >>> ranks(scores, answers), ranks(scores, answers, known=torch.tensor([[0], [1]]))
    (tensor([2.5000]), tensor([1.5000]))
    """
    given = scores.gather(1, answers[:, None])
    wins = (scores > given).to(scores.dtype) + (scores == given).to(scores.dtype) / 2
    wins.scatter_(1, answers[:, None], 0.0)
    if known is not None:
        wins[known[0], known[1]] = 0.0
    return 1 + wins.sum(1)


class KnownAnswers:
    """The answers to each question that are among some triples.

    Args:
        triples: ``[T, 3]``: head, relation, tail.
        num_entities: N.
        num_relations: R, without inverses.

    >>> known = KnownAnswers(torch.tensor([[0, 0, 1], [0, 0, 2]]), num_entities=3, num_relations=1)
    >>> known.others(torch.tensor([0, 2]), torch.tensor([0, 1]), torch.tensor([1, 0]))
    tensor([[0],
            [2]])
    """

    def __init__(self, triples: Tensor, num_entities: int, num_relations: int) -> None:
        self.num_entities = num_entities
        head, relation, tail = both_ways(triples, num_relations)
        keys = relation * num_entities + head
        order = keys.argsort(stable=True)
        self._keys, self._answers = keys[order], tail[order]

    def others(self, entity: Tensor, relation: Tensor, answer: Tensor) -> Tensor:
        """Rows of questions ``[Q]`` and their answers that are not ``answer``: ``[2, F]``."""
        keys = relation * self.num_entities + entity
        first = torch.searchsorted(self._keys, keys)
        count = torch.searchsorted(self._keys, keys, right=True) - first
        rows = torch.arange(len(keys)).repeat_interleave(count)
        within = torch.arange(len(rows)) - (count.cumsum(0) - count)[rows]
        answers = self._answers[first[rows] + within]
        return torch.stack([rows, answers])[:, answers != answer[rows]]


def both_ways(triples: Tensor, num_relations: int) -> tuple[Tensor, Tensor, Tensor]:
    """Heads, relations and tails of triples ``[T, 3]``, then of their inverses: ``[2 T]`` each."""
    head, relation, tail = triples.unbind(1)
    return (
        torch.cat([head, tail]),
        torch.cat([relation, relation + num_relations]),
        torch.cat([tail, head]),
    )
