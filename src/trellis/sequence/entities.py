"""Entities in tagged text: runs of tokens under one name, counted as CoNLL counts them.

Legend: B sentences, T tokens, C tags.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

OUTSIDE = 0  # the kind of a token in no entity


class Tags(NamedTuple):
    """What each tag means.

    Args:
        kinds: ``[C]``: the kind of entity, from 1; ``OUTSIDE`` for O.
        begins: ``[C]``: whether the tag begins an entity whatever stands before it (B-).
    """

    kinds: Tensor
    begins: Tensor


class EntityCounts(NamedTuple):
    """Entities of a batch: correct ones agree in kind, first and last token. Scalars."""

    correct: Tensor
    predicted: Tensor
    gold: Tensor


def bio_tags(classes: Sequence[str]) -> Tags | None:
    """The meaning of tags ``O``, ``B-KIND`` and ``I-KIND``; ``None`` if there are others.

    Args:
        classes: names of the tags, in order of their labels.

    >>> bio_tags(("O", "B-PER", "I-PER", "I-LOC")).kinds
    tensor([0, 1, 1, 2])
    >>> bio_tags(("NOUN", "VERB")) is None
    True
    """
    parts = [name.partition("-") for name in classes]
    named = [part for part in parts if part != ("O", "", "")]
    if len(named) != len(parts) - 1 or not named:  # a scheme of entities has one O
        return None
    if not all(prefix in ("B", "I") and kind for prefix, _, kind in named):
        return None
    numbers = {kind: index for index, kind in enumerate(dict.fromkeys(k for *_, k in named), 1)}
    kinds = torch.tensor([numbers.get(kind, OUTSIDE) for *_, kind in parts])
    return Tags(kinds, torch.tensor([prefix == "B" for prefix, *_ in parts]))


def entity_counts(predicted: Tensor, gold: Tensor, tags: Tags) -> EntityCounts:
    """Entities that are there, that were found, and those among them that are right.

    An entity begins at a B-, and at an I- after a token of no or another kind: so IOB1, IOB2 and
    sequences that no scheme allows are all counted. Tokens whose gold tag is negative (padding,
    later pieces of a word) are left out first: the words around them are neighbours.

    Args:
        predicted: tags below C.
        gold: tags below C, or negative.
        tags: their meaning, see ``bio_tags``.
    Shape:
        predicted and gold ``[B, T]``
    Raises:
        ValueError: the shapes differ, or are not ``[B, T]``.

    Source: Tjong Kim Sang and De Meulder 2003, section 2.3, and its conlleval.

    >>> tags = bio_tags(("O", "B-PER", "I-PER"))
    >>> gold, predicted = torch.tensor([[1, 2, 0, 1]]), torch.tensor([[1, 0, 0, 1]])
    >>> [int(count) for count in entity_counts(predicted, gold, tags)]
    [1, 2, 2]
    """
    if predicted.shape != gold.shape or gold.dim() != 2:
        raise ValueError(
            f"predicted {list(predicted.shape)} and gold {list(gold.shape)}: give both as [B, T]"
        )
    known = gold >= 0
    first = (
        (~known).int().argsort(dim=1, stable=True)
    )  # what is known moves to the front, in order
    words = torch.arange(gold.size(1), device=gold.device) < known.sum(1, keepdim=True)
    found, there = (
        _entities(labels.gather(1, first).where(words, -1), tags) for labels in (predicted, gold)
    )
    same = (found.kind == there.kind) & (found.last == there.last)
    correct = found.begins & there.begins & same
    return EntityCounts(correct.sum(), found.begins.sum(), there.begins.sum())


class _Entities(NamedTuple):
    """``[B, T]`` each: where entities begin, and kind and last token of the one at each token."""

    begins: Tensor
    kind: Tensor
    last: Tensor


def _entities(labels: Tensor, tags: Tags) -> _Entities:
    """Entities of tags that are -1 after the end of a sentence."""
    kind = tags.kinds[labels].where(labels >= 0, OUTSIDE)
    begins = (kind != OUTSIDE) & (tags.begins[labels] | (kind != F.pad(kind, (1, 0))[:, :-1]))
    next_kind, next_begins = F.pad(kind, (0, 1))[:, 1:], F.pad(begins, (0, 1))[:, 1:]
    ends = (kind != next_kind) | next_begins
    column = torch.arange(labels.size(1), device=labels.device).expand_as(labels)
    end = column.where(ends, labels.size(1))
    return _Entities(begins, kind, end.flip(1).cummin(1).values.flip(1))
