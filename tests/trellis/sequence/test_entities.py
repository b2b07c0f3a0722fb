"""Entities against hand-made sentences and the shared task's rules, written as a loop."""

import pytest
import torch

from trellis.sequence.entities import bio_tags, entity_counts

CLASSES = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
TAGS = bio_tags(CLASSES)


def ids(*sentences: str) -> torch.Tensor:
    """Tags by name, ``_`` for none; rows are filled with none."""
    rows = [[CLASSES.index(t) if t != "_" else -100 for t in s.split()] for s in sentences]
    longest = max(map(len, rows))
    return torch.tensor([row + [-100] * (longest - len(row)) for row in rows])


def counts(predicted: torch.Tensor, gold: torch.Tensor) -> tuple[int, ...]:
    return tuple(int(count) for count in entity_counts(predicted, gold, TAGS))


@pytest.mark.parametrize(
    ("gold", "predicted", "expected"),
    [
        ("B-PER I-PER O B-LOC", "B-PER I-PER O B-LOC", (2, 2, 2)),
        ("B-PER I-PER O B-LOC", "B-PER O O B-LOC", (1, 2, 2)),  # cut short
        ("B-PER O O", "B-PER I-PER O", (0, 1, 1)),  # too long
        ("O B-PER I-PER", "B-PER I-PER I-PER", (0, 1, 1)),  # begins too early
        ("B-PER I-PER", "B-LOC I-LOC", (0, 1, 1)),  # another kind
        ("B-PER B-PER", "B-PER I-PER", (0, 1, 2)),  # neighbours are two
        ("B-PER I-PER", "B-PER B-PER", (0, 2, 1)),
        ("B-PER I-PER", "I-PER I-PER", (1, 1, 1)),  # an I may begin, as in IOB1
        ("O B-LOC", "O I-LOC", (1, 1, 1)),
        ("B-PER I-LOC", "B-PER B-LOC", (2, 2, 2)),  # an I of another kind begins
        ("B-PER I-LOC", "B-PER I-PER", (0, 1, 2)),
        ("B-PER I-LOC I-PER", "B-PER I-PER I-PER", (0, 1, 3)),
        ("O O", "O O", (0, 0, 0)),
        ("B-PER I-PER I-PER", "B-PER O I-PER", (0, 2, 1)),
        ("B-PER _ I-PER O", "B-PER O I-PER O", (1, 1, 1)),  # later pieces of a word are no gap
        ("B-PER _ O", "B-PER I-PER O", (1, 1, 1)),
        ("_ B-LOC _", "B-PER B-LOC I-LOC", (1, 1, 1)),
        ("_ _", "B-PER I-PER", (0, 0, 0)),
    ],
)
def test_by_hand(gold, predicted, expected):
    assert counts(ids(predicted), ids(gold)) == expected


def test_sentences_of_different_length_do_not_touch():
    gold = ids("B-PER I-PER", "I-PER O O", "O O B-LOC I-LOC")
    predicted = gold.clamp(min=0)
    predicted[0, 2:] = CLASSES.index("I-PER")  # behind the end
    assert counts(predicted, gold) == (3, 3, 3)


def conlleval(sentence: list[str]) -> set[tuple[int, int, str]]:
    """Entities as the task's script finds them: chunks that end and start between two tags."""
    found, start, before = set(), None, "O"
    for position, tag in enumerate([*sentence, "O"]):
        (old, _, old_kind), (new, _, kind) = before.partition("-"), tag.partition("-")
        ends = (old, new) in {("B", "B"), ("B", "O"), ("I", "B"), ("I", "O")}
        ends |= old != "O" and old_kind != kind
        starts = (old, new) in {("B", "B"), ("I", "B"), ("O", "B"), ("O", "I")}
        starts |= new != "O" and old_kind != kind
        if ends:
            found.add((start, position, old_kind))
        if starts:
            start = position
        before = tag
    return found


@pytest.mark.parametrize("seed", range(3))
def test_random_tags_are_counted_as_the_task_counts_them(seed):
    generator = torch.Generator().manual_seed(seed)
    gold, predicted = torch.randint(len(CLASSES), (2, 200, 12), generator=generator)
    # Half of the tokens agree, some count for nothing.
    predicted = gold.where(torch.rand(gold.shape, generator=generator) < 0.5, predicted)
    gold = gold.masked_fill(torch.rand(gold.shape, generator=generator) < 0.2, -100)
    expected = torch.zeros(3, dtype=torch.long)
    for guesses, answers in zip(predicted.tolist(), gold.tolist(), strict=True):
        known = [i for i, answer in enumerate(answers) if answer >= 0]
        found, there = (
            conlleval([CLASSES[labels[i]] for i in known]) for labels in (guesses, answers)
        )
        expected += torch.tensor([len(found & there), len(found), len(there)])
    assert counts(predicted, gold) == tuple(expected.tolist())
    assert 0 < expected[0] < expected[1]


def test_tags_are_read_by_name_in_any_order():
    tags = bio_tags(("I-B-x", "B-y", "O", "B-B-x"))
    assert tags.kinds.tolist() == [1, 2, 0, 1]
    assert tags.begins.tolist() == [False, True, False, True]


@pytest.mark.parametrize(
    "classes",
    [
        (),
        ("O",),
        ("NN", "VB"),
        ("B-PER", "I-PER"),
        ("O", "O", "B-PER"),
        ("O", "S-PER"),
        ("O", "B-"),
        ("O", "B-PER", "B"),
    ],
)
def test_other_tags_are_no_entities(classes):
    assert bio_tags(classes) is None


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"predicted \[2, 3\] and gold \[2, 4\]"):
        entity_counts(torch.zeros(2, 3), torch.zeros(2, 4), TAGS)
    with pytest.raises(ValueError, match=r"gold \[3\]: give \[B, T\]"):
        entity_counts(torch.zeros(3), torch.zeros(3), TAGS)
