"""Answers that are spans of a passage: how to find the best one, and how good a text is.

Legend: B windows, T tokens.
"""

import re
import string
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from trellis.checks import at_least_one, check_same_shape

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Question(NamedTuple):
    """A question about a passage.

    Args:
        name: its id.
        passage: the text that its answer is a span of.
        text: of the question.
        answers: texts of the answers that are right; none if the passage does not have it, or if
            it is not known.
        begin: where the first of them begins in the passage; -1 if there is none.
    """

    name: str
    passage: str
    text: str
    answers: tuple[str, ...] = ()
    begin: int = -1


class PassageWindows(NamedTuple):
    """Windows of passages, each after a question: [CLS] question [SEP] window [SEP].

    Args:
        tokens: ``[B, T]``.
        segments: ``[B, T]``: 1 for the passage and what ends it, else 0.
        places: ``[B, T, 2]``: where the text of a token begins and ends in the passage; (0, 0) for
            what is none of the passage.
        starts: ``[B]``: first token of the answer; 0, the [CLS], where the window lacks it.
        ends: ``[B]``: its last token, likewise.
        asked: ``[B]``: index in ``questions``, whose windows lie side by side.
        questions: of all windows; none in training.
    """

    tokens: Tensor
    segments: Tensor
    places: Tensor
    starts: Tensor
    ends: Tensor
    asked: Tensor
    questions: tuple[Question, ...] = ()

    @property
    def inside(self) -> Tensor:
        """``[B, T]``: whether a token is one of the passage."""
        return self.places[..., 1] > 0


class Spans(NamedTuple):
    """The best span of each window, ``[B]`` each: its score, and its first and last token."""

    score: Tensor
    start: Tensor
    end: Tensor


def best_spans(start: Tensor, end: Tensor, inside: Tensor, max_length: int) -> Spans:
    r"""The span of the highest score in each window.

    .. math:: \arg\max_{i \le j < i + \mathrm{max\_length}} s_i + e_j

    Args:
        start: logits s of the first token.
        end: logits e of the last token.
        inside: where a span may begin and end: tokens of the passage, which lie side by side.
        max_length: tokens of the longest span.
    Shape:
        ``[B, T]`` each -> three of ``[B]``; a window without a passage has the score -inf
    Raises:
        ValueError: the shapes differ, or ``max_length`` is below 1.

    Source: Devlin et al. 2019, section 4.2.

    >>> start, end = torch.tensor([[9.0, 1, 5, 0]]), torch.tensor([[0.0, 9, 1, 2]])
    >>> inside = torch.tensor([[False, True, True, True]])
    >>> [int(each) for each in best_spans(start, end, inside, 2)]
    [10, 1, 1]
    """
    at_least_one("max_length", max_length)
    check_same_shape("give [B, T] each", start=start, end=end, inside=inside)
    start, end = (x.masked_fill(~inside, -torch.inf) for x in (start, end))
    width = min(max_length, start.size(1))
    ends = F.pad(end, (0, width - 1), value=-torch.inf).unfold(1, width, 1)  # [B, T, width]
    score, place = (start.unsqueeze(2) + ends).flatten(1).max(1)
    first = place // width
    return Spans(score, first, first + place % width)


def normalized_answer(text: str) -> str:
    """A text in lower case, without punctuation, articles and superfluous spaces.

    Source: the evaluation script of SQuAD.

    >>> normalized_answer("The  Eiffel-Tower, Paris.")
    'eiffeltower paris'
    """
    plain = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", plain).split())


def exact_match(answer: str, references: Sequence[str]) -> float:
    """1 if an answer is one of the right ones but for what ``normalized_answer`` drops, else 0.

    Args:
        answer: the text; empty: the passage has no answer.
        references: right answers; none: the passage has no answer.

    Source: Rajpurkar et al. 2016, section 6.1; for no answer: Rajpurkar et al. 2018.
    """
    found = normalized_answer(answer)
    return float(any(found == normalized_answer(each) for each in _right(references)))


def token_f1(answer: str, references: Sequence[str]) -> float:
    """Harmonic mean of precision and recall of the words of an answer; see ``exact_match``.

    The highest over all references. No answer agrees with none, and with nothing else.

    >>> round(token_f1("in the city of Rome", ["Rome", "city of Rome"]), 3)
    0.857
    """
    return max(_overlap(answer, each) for each in _right(references))


def _right(references: Sequence[str]) -> Sequence[str]:
    """The references that say something; those of a question without an answer are empty."""
    return [each for each in references if normalized_answer(each)] or [""]


def _overlap(answer: str, reference: str) -> float:
    found, right = (Counter(normalized_answer(text).split()) for text in (answer, reference))
    if not found or not right:
        return float(found == right)
    common, total = (found & right).total(), found.total() + right.total()
    return 2 * common / total
