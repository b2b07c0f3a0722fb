"""Sets that word vectors are judged by: pairs that people rated as similar, and analogies.

Legend: B pairs or questions, V words, D numbers of a vector.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class RatedPairs(NamedTuple):
    """Pairs of words with people's ratings.

    Args:
        name: of the set.
        ids: of the words ``[B, 2]``; only pairs of known words.
        ratings: of the pairs ``[B]``.
        unknown: pairs that were left out, as a word is not in the vocabulary.
    """

    name: str
    ids: Tensor
    ratings: Tensor
    unknown: int


class Analogies(NamedTuple):
    """Questions "a is to b as c is to what?".

    Args:
        ids: of a, b, c and the answer ``[B, 4]``; only questions of known words.
        unknown: questions that were left out, as a word is not in the vocabulary.
    """

    ids: Tensor
    unknown: int


class WordTests(NamedTuple):
    """What vectors of words are judged by.

    Args:
        pairs: sets of rated pairs.
        analogies: questions; ``None``: there are none.
    """

    pairs: list[RatedPairs]
    analogies: Analogies | None


def rated_pairs(text: str, name: str, ids: Mapping[str, int], *, lowercase: bool) -> RatedPairs:
    """Pairs from lines ``word word rating``; lines that begin with # are comments.

    Args:
        text: of the file.
        name: of the file, for messages; its stem is the name of the set.
        ids: word -> its id.
        lowercase: look up words in lower case.
    Raises:
        ValueError: a line has no two words and a number; names it.

    >>> rated_pairs("Tiger cat 7.35", "some.tsv", {"cat": 0, "tiger": 1}, lowercase=True).ids
    tensor([[1, 0]])
    """
    known, ratings, unknown = [], [], 0
    for number, line in _content(text, "#"):
        fields = line.split()
        try:
            one, other, rating = fields[0], fields[1], float(fields[2])
        except (IndexError, ValueError):
            raise ValueError(
                f"{name}, line {number}: {line[:60]!r} is not two words and a rating"
            ) from None
        pair = [ids.get(word.lower() if lowercase else word) for word in (one, other)]
        if None in pair:
            unknown += 1
        else:
            known.append(pair)
            ratings.append(rating)
    pairs = torch.tensor(known, dtype=torch.long).view(-1, 2)
    return RatedPairs(Path(name).name.partition(".")[0], pairs, torch.tensor(ratings), unknown)


def analogies(text: str, name: str, ids: Mapping[str, int], *, lowercase: bool) -> Analogies:
    """Questions from lines of four words; lines that begin with a colon name a section.

    Args:
        text: of the file.
        name: of the file, for messages.
        ids: word -> its id.
        lowercase: look up words in lower case.
    Raises:
        ValueError: a line has not four words; names it.
    """
    known, unknown = [], 0
    for number, line in _content(text, ":"):
        words = (line.lower() if lowercase else line).split()
        if len(words) != 4:
            raise ValueError(f"{name}, line {number}: {line[:60]!r} is not four words")
        question = [ids.get(word) for word in words]
        if None in question:
            unknown += 1
        else:
            known.append(question)
    return Analogies(torch.tensor(known, dtype=torch.long).view(-1, 4), unknown)


def _content(text: str, skipped: str) -> list[tuple[int, str]]:
    lines = enumerate(map(str.strip, text.split("\n")), 1)
    return [(number, line) for number, line in lines if line and not line.startswith(skipped)]


def solve_analogies(vectors: Tensor, questions: Tensor, block: int = 512) -> Tensor:
    r"""Answers to "a is to b as c is to what?".

    .. math:: \arg\max_{w \notin \{a, b, c\}} \cos(w,\; \hat b - \hat a + \hat c)

    with vectors of length 1.

    Args:
        vectors: of all words.
        questions: ids of a, b and c.
        block: questions at once.
    Shape:
        ``[V, D]``, ``[B, 3]`` -> ``[B]``

    Source: Mikolov et al. 2013c, section 4 (3CosAdd).

    >>> vectors = torch.tensor([[1.0, 0], [1, 1], [-1, 0], [-1, 1], [0, -1]])
    >>> solve_analogies(vectors, torch.tensor([[0, 1, 2]]))
    tensor([3])
    """
    unit = F.normalize(vectors, dim=1)
    answers = []
    for some in questions.split(block):
        a, b, c = unit[some].unbind(1)
        scores = (b - a + c) @ unit.t()  # [block, V]
        answers.append(scores.scatter(1, some, -torch.inf).argmax(1))
    return torch.cat(answers) if answers else questions.new_zeros(0)
