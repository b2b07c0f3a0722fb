"""Spans against all pairs of tokens, and scores of answers against torchmetrics."""

import itertools
import random

import pytest
import torch
from torchmetrics.functional.text import squad

from trellis.sequence.answers import best_spans, exact_match, normalized_answer, token_f1

REFERENCES = ("the city of Rome", "Rome", "a", "York, New York!", "its 3.5 million (people)")
GUESSES = (*REFERENCES, "rome.", "", "An", "New York", "York", "the  Rome of the city", "3.5")


@pytest.mark.parametrize("max_length", [1, 2, 3, 9])
def test_the_best_span_is_the_best_of_all_pairs(max_length: int) -> None:
    generator = torch.Generator().manual_seed(max_length)
    start, end = torch.randn(2, 40, 7, generator=generator)
    inside = torch.zeros(40, 7, dtype=torch.bool)
    for row in range(40):
        first = row % 4 + 1
        inside[row, first : first + 1 + row % 3] = True
    spans = best_spans(start, end, inside, max_length)
    for row in range(40):
        allowed = inside[row].nonzero().flatten().tolist()
        pairs = [
            (i, j) for i, j in itertools.product(allowed, allowed) if i <= j and j - i < max_length
        ]
        scores = {(i, j): float(start[row, i] + end[row, j]) for i, j in pairs}
        best = max(scores, key=scores.__getitem__)
        assert (int(spans.start[row]), int(spans.end[row])) == best
        assert float(spans.score[row]) == pytest.approx(scores[best])


def test_a_window_without_a_passage_has_no_span() -> None:
    inside = torch.tensor([[False, False], [False, True]])
    score = best_spans(torch.ones(2, 2), torch.ones(2, 2), inside, 2).score
    assert score.tolist() == [-torch.inf, 2]


def test_bad_arguments_are_named() -> None:
    inside = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(ValueError, match="max_length=0"):
        best_spans(torch.ones(1, 2), torch.ones(1, 2), inside, 0)
    with pytest.raises(ValueError, match=r"end \[1, 3\]"):
        best_spans(torch.ones(1, 2), torch.ones(1, 3), inside, 1)


def test_scores_are_those_of_torchmetrics() -> None:
    drawn = random.Random(0)
    for number, guess in enumerate(GUESSES * 9):
        right = tuple(drawn.sample(REFERENCES, 1 + number % 3))
        # torchmetrics keeps a reference of articles alone, which SQuAD 2's script drops.
        if len(right) > 1 or normalized_answer(right[0]):
            right = tuple(each for each in right if normalized_answer(each))
        theirs = squad(
            {"prediction_text": guess, "id": "q"},
            {"answers": {"answer_start": [0] * len(right), "text": list(right)}, "id": "q"},
        )
        assert 100 * exact_match(guess, right) == pytest.approx(float(theirs["exact_match"]))
        assert 100 * token_f1(guess, right) == pytest.approx(float(theirs["f1"]), rel=1e-5)


def test_no_answer_agrees_with_none_alone() -> None:
    assert [exact_match(guess, ()) for guess in ("", "the", "Rome")] == [1, 1, 0]
    assert [token_f1(guess, ()) for guess in ("", "the", "Rome")] == [1, 1, 0]
    assert exact_match("", ("Rome",)) == token_f1("", ("Rome",)) == 0
