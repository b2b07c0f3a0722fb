"""Error rates against distances that nltk computes, and by hand."""

import random

import pytest
from nltk import edit_distance

from trellis.lightning_modules.sequence.pronunciation_scores import PronunciationScores


def scores(said: list[str], references: list[tuple[str, ...]]) -> dict[str, float]:
    metric = PronunciationScores()
    for one, known in zip(said, references, strict=True):  # one batch after the other
        metric.update([one], [known])
    return {name: float(value) for name, value in metric.compute().items()}


def test_by_hand() -> None:
    said = ["K AE T", "R IY D", "AO", "HH AH L OW"]
    references = [("K AE T",), ("R EH D", "R IY D"), ("K AO L",), ("HH EH L", "HH EH L OW Z")]
    # A second pronunciation is as right as the first; 2 of 3 are missing; 2 of 3, or 2 of 5.
    expected = {"word_error_rate": 2 / 4, "phoneme_error_rate": (0 + 0 + 2 + 2) / (3 + 3 + 3 + 3)}
    assert scores(said, references) == pytest.approx(expected)


def test_nearest_reference_by_nltk() -> None:
    rng = random.Random(0)
    words = [rng.choices("ABCD", k=rng.randrange(0, 7)) for _ in range(60)]
    known = [[rng.choices("ABCD", k=rng.randrange(1, 7)) for _ in range(3)] for _ in words]
    known[::5] = [[*several, said] for several, said in zip(known[::5], words[::5], strict=True)]
    known = [[one or ["A"] for one in several] for several in known]
    nearest = [
        min((edit_distance(said, one), len(one)) for one in several)
        for said, several in zip(words, known, strict=True)
    ]
    errors, phonemes = map(sum, zip(*nearest, strict=True))
    found = scores(
        [" ".join(said) for said in words],
        [tuple(" ".join(one) for one in several) for several in known],
    )
    wrong = sum(said not in several for said, several in zip(words, known, strict=True))
    assert found == pytest.approx(
        {"word_error_rate": wrong / len(words), "phoneme_error_rate": errors / phonemes}
    )
    assert 0 < wrong < len(words)


def test_batches_may_be_cut_anywhere() -> None:
    said, known = ["A B", "C", "D D"], [("A",), ("C",), ("D", "D E")]
    whole = PronunciationScores()
    whole.update(said, known)
    assert {n: float(v) for n, v in whole.compute().items()} == pytest.approx(scores(said, known))


def test_no_words_have_no_scores() -> None:
    metric = PronunciationScores()
    metric.update([], [])
    assert metric.compute() == {}
