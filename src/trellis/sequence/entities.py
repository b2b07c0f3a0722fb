"""Named entities in tagged text, counted as in the CoNLL evaluation.

Legend: B sentences, T tokens, C tags.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import check_same_shape
from trellis.sequence.linear_chain_crf import Allowed
from trellis.sequence.masking import known_first

OUTSIDE = 0  # the kind of a token outside all entities


class Tags(NamedTuple):
    """The meaning of each tag.

    Args:
        kinds: ``[C]``: the kind of entity, from 1; ``OUTSIDE`` for O.
        begins: ``[C]``: whether the tag always begins an entity (B-).
    """

    kinds: Tensor
    begins: Tensor


class EntityCounts(NamedTuple):
    """Numbers of entities in a batch; correct ones agree in kind, first and last token."""

    correct: Tensor
    predicted: Tensor
    gold: Tensor


def bio_tags(classes: Sequence[str]) -> Tags | None:
    """The meaning of the tags ``O``, ``B-KIND`` and ``I-KIND``; ``None`` if there are others.

    Args:
        classes: names of the tags, in order of their labels.

    >>> bio_tags(("O", "B-PER", "I-PER", "I-LOC")).kinds
    tensor([0, 1, 1, 2])
    >>> bio_tags(("NOUN", "VERB")) is None
    True
    """
    parts = [name.partition("-") for name in classes]
    named = [part for part in parts if part != ("O", "", "")]
    if len(named) != len(parts) - 1 or not named:  # a BIO scheme has exactly one O
        return None
    if not all(prefix in ("B", "I") and kind for prefix, _, kind in named):
        return None
    numbers = {kind: index for index, kind in enumerate(dict.fromkeys(k for *_, k in named), 1)}
    kinds = torch.tensor([numbers.get(kind, OUTSIDE) for *_, kind in parts])
    return Tags(kinds, torch.tensor([prefix == "B" for prefix, *_ in parts]))


def bio_allowed(classes: Sequence[str]) -> Allowed:
    """Which tags may follow each other where every entity begins with a B-: ``IOB2``.

    Args:
        classes: names of the tags, in order of their labels.
    Raises:
        ValueError: they are not ``O``, ``B-KIND`` and ``I-KIND``, or a kind has no B-.

    >>> bio_allowed(("O", "B-PER", "I-PER")).transitions.int().tolist()
    [[1, 1, 0], [1, 1, 1], [1, 1, 1]]
    """
    if (tags := bio_tags(classes)) is None:
        raise ValueError(f"classes={list(classes)}: give O, B-KIND and I-KIND")
    lacking = [name for name in classes if name[0] == "I" and f"B{name[1:]}" not in classes]
    if lacking:
        raise ValueError(f"{lacking[0]} without B{lacking[0][1:]}: not every entity has a B-")
    begins = tags.begins | (tags.kinds == OUTSIDE)
    return Allowed(begins | (tags.kinds[:, None] == tags.kinds), begins)


def entity_counts(predicted: Tensor, gold: Tensor, tags: Tags) -> EntityCounts:
    """Count correct, predicted and gold entities.

    An entity begins at a B-, and at an I- after an O or another kind: this covers IOB1, IOB2 and
    sequences that are invalid in either. Tokens whose gold tag is negative (padding, word pieces
    but the first) are removed first, so that the words around them are neighbours.

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
    check_same_shape("give both as [B, T]", predicted=predicted, gold=gold)
    if gold.dim() != 2:
        raise ValueError(f"gold {list(gold.shape)}: give [B, T]")
    first, words = known_first(gold >= 0)
    found, true = (
        _entities(labels.gather(1, first).where(words, -1), tags) for labels in (predicted, gold)
    )
    same = (found.kind == true.kind) & (found.last == true.last)
    correct = found.begins & true.begins & same
    return EntityCounts(correct.sum(), found.begins.sum(), true.begins.sum())


class _Entities(NamedTuple):
    """``[B, T]`` each: whether an entity begins, and kind and last token of the entity there."""

    begins: Tensor
    kind: Tensor
    last: Tensor


def _entities(labels: Tensor, tags: Tags) -> _Entities:
    """Entities in tags ``[B, T]``, which are -1 after the end of a sentence."""
    kind = tags.kinds[labels].where(labels >= 0, OUTSIDE)
    begins = (kind != OUTSIDE) & (tags.begins[labels] | (kind != F.pad(kind, (1, 0))[:, :-1]))
    next_kind, next_begins = F.pad(kind, (0, 1))[:, 1:], F.pad(begins, (0, 1))[:, 1:]
    ends = (kind != next_kind) | next_begins
    column = torch.arange(labels.size(1), device=labels.device).expand_as(labels)
    end = column.where(ends, labels.size(1))
    return _Entities(begins, kind, end.flip(1).cummin(1).values.flip(1))
