"""Labels read from files: what looks like a class and is none is an error, not a class."""

import math
from collections.abc import Sequence
from contextlib import suppress

# What spreadsheets and pandas write into empty cells.
MISSING = {
    "#N/A", "#N/A!", "#NA", "#VALUE!", "#DIV/0!", "#REF!", "-NaN", "-nan", "<NA>", "N/A", "NA",
    "NULL", "NaN", "NaT", "None", "n/a", "nan", "null",
}  # fmt: skip
LABEL_HEADERS = {
    "label", "labels", "class", "classes", "category", "target", "tag", "tags", "ner",
    "ner_tag", "ner_tags", "pos", "upos", "xpos", "sentiment", "rating", "score", "y",
}  # fmt: skip
TEXT_HEADERS = {
    "text", "texts", "sentence", "sentences", "review", "document", "content", "tweet",
    "comment", "title", "question", "x", "token", "tokens", "word", "words", "form",
}  # fmt: skip


def is_header(label: str, text: str) -> bool:
    """Whether the first line of a file names its columns."""
    return label.lower() in LABEL_HEADERS and text.lower() in TEXT_HEADERS


def check_class_names(labels: Sequence[str], source: str) -> None:
    """Check that labels are names of classes, of which there are fewer than examples.

    Args:
        labels: one for each labelled example.
        source: their name in the message.
    Raises:
        ValueError: a label is a missing value, all are real numbers, or most are different.
    """
    classes = sorted(set(labels))
    numbers = [number for name in classes if (number := as_number(name)) is not None]
    if missing := [name for name in classes if name in MISSING]:
        raise ValueError(
            f"{source}: label {missing[0]!r} stands for a missing value, "
            f"{labels.count(missing[0])} times: leave such examples out or without a label, or "
            f"rename the class"
        )
    if len(numbers) == len(classes) and any(number % 1 for number in numbers):
        raise ValueError(
            f"{source}: the labels are {len(classes)} real numbers, such as {classes[-1]}: give "
            f"classes, such as ranges of these numbers with names"
        )
    if len(labels) >= 10 and len(classes) > len(labels) / 2:
        raise ValueError(
            f"{source}: {len(labels)} examples have {len(classes)} different labels, such as "
            f"{classes[0][:40]!r}: is this the column of the labels? Give classes"
        )


def class_names(labels: Sequence[str], source: str) -> tuple[str, ...]:
    """The classes among labels, in the order of their numbers, or else of their names.

    Args:
        labels: one for each labelled example.
        source: their name in the message.
    Raises:
        ValueError: there are fewer than two, or they are no classes; see ``check_class_names``.

    >>> class_names(["10", "9", "10"], "here")
    ('9', '10')
    """
    found = set(labels)
    if not found:
        raise ValueError(f"{source}: no example has a label: fill in some")
    if len(found) == 1:
        raise ValueError(f"{source}: all labels are {labels[0]!r}: give at least two classes")
    check_class_names(labels, source)
    numbers = [(number, name) for name in found if (number := as_number(name)) is not None]
    return tuple(
        [name for _, name in sorted(numbers)] if len(numbers) == len(found) else sorted(found)
    )


def as_number(name: str) -> float | None:
    """The finite number that a label is, if it is one."""
    with suppress(ValueError):
        number = float(name)
        return number if math.isfinite(number) else None
    return None
