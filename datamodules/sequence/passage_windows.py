"""Questions and windows of their passages, as tokens."""

import re
from collections.abc import Iterator, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from trellis.datamodules.sequence.labelled_files import ends_of, pieces_of
from trellis.datamodules.sequence.synthetic_pairs import padded
from trellis.sequence.answers import PassageWindows, Question
from trellis.sequence.tokenizer import Tokenizer
from trellis.sequence.words import INVISIBLE, combining_marks

NO_PLACE = (0, 0)


class Passage(NamedTuple):
    """The tokens of a passage, and where the text of each begins and ends."""

    tokens: list[int]
    places: list[tuple[int, int]]


class Window(NamedTuple):
    """A part of the tokens of a passage: the number of its question, first token and end."""

    question: int
    first: int
    end: int


class WindowedQuestions:
    """Questions whose passages are cut into windows that overlap.

    A text is split into runs of letters and digits and single other characters, each of which is
    tokenised by itself, so that an answer can be cut out of the passage as it is written there.

    Args:
        questions: at least one.
        tokenizer: has ``bos_id`` and ``eos_id``.
        max_length: tokens of a question with a window, and three special ones.
        stride: tokens from the beginning of a window to that of the next.
        source: what messages call the questions' file.
    Raises:
        ValueError: a question leaves a window fewer than ``stride`` tokens; names its id.
    """

    def __init__(
        self,
        questions: Sequence[Question],
        tokenizer: Tokenizer,
        max_length: int,
        stride: int,
        source: str,
    ) -> None:
        self.questions, self.pad_id = questions, tokenizer.pad_id or 0
        self.begin, self.separator = ends_of(tokenizer)
        texts = {question.passage for question in questions} | {q.text for q in questions}
        encoded = _tokenised(sorted(texts), tokenizer)
        self.asked = [encoded[question.text].tokens for question in questions]
        self.passages = [encoded[question.passage] for question in questions]
        self.windows: list[Window] = []
        self.first_window = [0]
        for number, question in enumerate(questions):
            room = max_length - 3 - len(self.asked[number])
            if room < stride:
                raise ValueError(
                    f"{source}, question {question.name!r}: it has {len(self.asked[number])} "
                    f"tokens, which leave {max(room, 0)} of max_length={max_length} to a window "
                    f"of the passage, fewer than stride={stride}: shorten it, or change these"
                )
            self.windows += _cut(number, len(self.passages[number].tokens), room, stride)
            self.first_window.append(len(self.windows))
        asked = torch.tensor([len(self.asked[window.question]) for window in self.windows])
        sizes = torch.tensor([window.end - window.first for window in self.windows])
        self.lengths = asked + sizes + 3

    def question_lengths(self) -> Tensor:
        """Tokens of all windows of each question."""
        return torch.stack([part.sum() for part in self.lengths.split(self._counts())])

    def _counts(self) -> list[int]:
        return np.diff(self.first_window).tolist()

    def training_batch(self, windows: Tensor) -> PassageWindows:
        """Windows by their numbers ``[B]``."""
        return self._batch(windows.tolist(), ())

    def whole_questions(self, questions: Tensor) -> PassageWindows:
        """All windows of some questions, with what their answers are judged by."""
        numbers = questions.tolist()
        windows = [
            window
            for number in numbers
            for window in range(self.first_window[number], self.first_window[number + 1])
        ]
        return self._batch(windows, tuple(self.questions[number] for number in numbers))

    def _batch(self, numbers: list[int], questions: tuple[Question, ...]) -> PassageWindows:
        chosen = [self.windows[number] for number in numbers]
        order = {n: place for place, n in enumerate(dict.fromkeys(w.question for w in chosen))}
        rows, segments, places = [], [], []
        for number, first, end in chosen:
            asked, passage = self.asked[number], self.passages[number]
            before = [*self.begin, *asked, *self.separator]
            rows.append([*before, *passage.tokens[first:end], *self.separator])
            after = end - first + len(self.separator)
            segments.append([0] * len(before) + [1] * after)
            places.append([NO_PLACE] * len(before) + passage.places[first:end])
        tokens = padded(rows, self.pad_id)
        where = torch.zeros(*tokens.shape, 2, dtype=torch.long)
        for row, each in zip(where, places, strict=True):
            row[: len(each)] = torch.tensor(each)
        starts, ends = zip(*map(self._answer, chosen), strict=True)
        return PassageWindows(
            tokens,
            padded(segments, 0),
            where,
            torch.tensor(starts),
            torch.tensor(ends),
            torch.tensor([order[window.question] for window in chosen]),
            questions,
        )

    def _answer(self, window: Window) -> tuple[int, int]:
        """First and last token of the answer in a window; 0, the [CLS], where it is not whole."""
        question = self.questions[window.question]
        if question.begin < 0:
            return 0, 0
        begin, end = question.begin, question.begin + len(question.answers[0])
        places = self.passages[window.question].places
        inside = [i for i, (a, b) in enumerate(places) if a < end and b > begin]
        if not inside or inside[0] < window.first or inside[-1] >= window.end:
            return 0, 0
        shift = len(self.begin) + len(self.asked[window.question]) + len(self.separator)
        return inside[0] - window.first + shift, inside[-1] - window.first + shift


def words_of(text: str) -> list[str]:
    """The parts of a text that are tokenised by themselves.

    >>> words_of("Built in 1889, it's tall.")
    ['Built', 'in', '1889', ',', 'it', "'", 's', 'tall', '.']
    """
    return _word().findall(text)


@cache
def _word() -> re.Pattern[str]:
    return re.compile(rf"\w[\w{combining_marks()}{INVISIBLE}]*|\S")


def _tokenised(texts: list[str], tokenizer: Tokenizer) -> dict[str, Passage]:
    found = [(text, [match.span() for match in _word().finditer(text)]) for text in texts]
    words = list(dict.fromkeys(text[a:b] for text, spans in found for a, b in spans))
    ids = pieces_of(tokenizer, words)
    passages = {}
    for text, spans in found:
        pairs = [(token, span) for span in spans for token in ids[text[span[0] : span[1]]]]
        passages[text] = Passage([token for token, _ in pairs], [span for _, span in pairs])
    return passages


def _cut(question: int, length: int, room: int, stride: int) -> Iterator[Window]:
    """Windows of at most ``room`` tokens, of which the last reaches the end."""
    for first in range(0, max(length - room, 0) + stride, stride):
        yield Window(question, first, min(first + room, length))
        if first + room >= length:
            return
