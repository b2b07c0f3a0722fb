"""Dates as people write them, to be converted to ISO 8601."""

from datetime import date
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from trellis.datamodules.engine.base import DataModule, Inputs, Split, passed_on
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.sequence.new_lines import new_sources
from trellis.datamodules.sequence.synthetic_pairs import Random, SyntheticPairs, padded
from trellis.random import hashed_integers
from trellis.sequence.batches import TokenPairs
from trellis.sequence.tokenizer import BOS, EOS, PAD, CharTokenizer
from trellis.spec import TokenPairSpec

MONTHS = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
]
WEEKDAYS = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
# Date formats and their relative frequencies. Numeric dates are unambiguous: with dots the day
# comes first, with slashes the month, with hyphens the year.
FORMATS = (
    ("{d} {month} {y}", 3),
    ("{d} {mon} {y}", 2),
    ("{dd} {mon} {y}", 1),
    ("{d}. {month} {y}", 1),
    ("{nth} of {month} {y}", 1),
    ("the {nth} of {month}, {y}", 1),
    ("{month} {d}, {y}", 3),
    ("{month} {d} {y}", 1),
    ("{mon} {d}, {y}", 2),
    ("{mon}. {d}, {y}", 1),
    ("{month} {nth}, {y}", 1),
    ("{weekday} {month} {d} {y}", 2),
    ("{weekday}, {month} {d}, {y}", 2),
    ("{weekday}, {d} {month} {y}", 2),
    ("{wd} {d} {mon} {y}", 1),
    ("{wd}, {mon} {d}, {y}", 1),
    ("{d} {mon} '{yy}", 1),
    ("{mon} {d} '{yy}", 1),
    ("{dd}.{mm}.{yy}", 2),
    ("{dd}.{mm}.{y}", 1),
    ("{d}.{m}.{y}", 1),
    ("{m}/{d}/{yy}", 1),
    ("{m}/{d}/{y}", 1),
    ("{mm}/{dd}/{y}", 1),
    ("{y}-{m}-{d}", 1),
    ("{y} {month} {d}", 1),
    ("{y}, {d} {mon}", 1),
    ("{y}{mm}{dd}", 1),
)
_DRAWN = [text for text, often in FORMATS for _ in range(often)]
FIRST, LAST = date(1950, 1, 1).toordinal(), date(2049, 12, 31).toordinal()
_SALT = 1998  # of the split of the days, which does not depend on the seed


class DateFormats(DataModule):
    """Human-written dates and their ISO form: "saturday, 9 may 1998" to "1998-05-09".

    Batch: ``TokenPairs`` of characters; those of evaluation have ``references``. Days are those of
    1950 to 2049, written in 28 formats, all of them unambiguous: two-digit years are in this
    range, ``10.11.19`` is the tenth of November, ``10/11/19`` the eleventh of October.

    A tenth of the days is for validation and another tenth for test, whatever the seed: no date of
    one split occurs in another, in any format.

    Args:
        num_train: dates per epoch; those of each epoch are new.
        num_val: dates to validate on.
        num_test: dates to test on.
        batch_size: dates per batch.
        seed: of the training dates; ``None`` uses that of ``seed_everything``.

    Source: the task of the attention exercise of deeplearning.ai's course on sequence models, with
    other formats and days.
    """

    batch_size = passed_on("examples", "batch_size")

    def __init__(
        self,
        num_train: int = 20_000,
        num_val: int = 1_000,
        num_test: int = 1_000,
        batch_size: int = 64,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self.examples = SyntheticPairs(
            self.pairs,
            num_train=num_train,
            num_val=num_val,
            num_test=num_test,
            batch_size=batch_size,
            seed=seed,
        )
        written = " ".join([*MONTHS, *WEEKDAYS, "the of st nd rd th 0123456789 .,/'-"])
        self.source = CharTokenizer([written], special=True)
        self.target = CharTokenizer(["0123456789-"], special=True)
        self.spec = TokenPairSpec(self.source.spec, self.target.spec)

    def loader(self, split: Split) -> Loader[TokenPairs]:
        return self.examples.loader(split)

    def inputs(self, path: str, spec: Any) -> Inputs:
        return new_sources(path, spec, max_tokens=64 * self.batch_size)

    def pairs(self, split: Split, random: Random) -> TokenPairs:
        """A batch of a split, from random numbers: see ``SyntheticPairs``."""
        days = _days(split)
        chosen = days[random(len(days), 0)].flatten().tolist()
        formats = random(len(_DRAWN), 1).flatten().tolist()
        dates = [date.fromordinal(day) for day in chosen]
        written = [write(day, _DRAWN[which]) for day, which in zip(dates, formats, strict=True)]
        meant = [day.isoformat() for day in dates]
        return TokenPairs(
            padded([[*self.source.encode(text), EOS] for text in written], PAD),
            padded([[BOS, *self.target.encode(text), EOS] for text in meant], PAD),
            () if split == "train" else tuple(meant),
        )


def write(day: date, pattern: str) -> str:
    """``day`` in the format ``pattern``, one of ``FORMATS``.

    >>> write(date(1998, 5, 9), "{wd}, {mon} {d}, {y}")
    'sat, may 9, 1998'
    """
    month, weekday = MONTHS[day.month - 1], WEEKDAYS[day.weekday()]
    return pattern.format(
        d=day.day,
        dd=f"{day.day:02}",
        nth=f"{day.day}{_ending(day.day)}",
        m=day.month,
        mm=f"{day.month:02}",
        mon=month[:3],
        month=month,
        y=day.year,
        yy=f"{day.year % 100:02}",
        wd=weekday[:3],
        weekday=weekday,
    )


def _ending(number: int) -> str:
    if number in (11, 12, 13):
        return "th"
    return {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")


@lru_cache
def _days(split: Split) -> Tensor:
    """Ordinals of the days of a split."""
    days = torch.arange(FIRST, LAST + 1)
    tenth = hashed_integers(10, _SALT, days)
    if split == "train":
        return days[tenth > 1]
    return days[tenth == (0 if split == "val" else 1)]
