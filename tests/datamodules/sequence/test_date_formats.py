import re
import time
from datetime import date, datetime, timedelta

import pytest
import torch
from sequence_cases import check_exact_resume, plain

from trellis.datamodules.sequence.date_formats import (
    FIRST,
    FORMATS,
    LAST,
    MONTHS,
    DateFormats,
    write,
)
from trellis.sequence.tokenizer import BOS, EOS, UNKNOWN

SMALL = {"num_train": 200, "num_val": 50, "num_test": 50, "batch_size": 16}
# What Python's own parser calls the parts of a format.
PARSED = {
    "{d}": "%d", "{dd}": "%d", "{nth}": "%d", "{m}": "%m", "{mm}": "%m", "{mon}": "%b",
    "{month}": "%B", "{y}": "%Y", "{yy}": "%y", "{wd}": "%a", "{weekday}": "%A",
}  # fmt: skip


def understood(text: str, pattern: str) -> date:
    """``text`` as ``strptime`` reads it."""
    for ours, theirs in PARSED.items():
        pattern = pattern.replace(ours, theirs)
    if re.search(r"\d(st|nd|rd|th)\b", text):
        text = re.sub(r"(\d)(st|nd|rd|th)\b", r"\1", text)
    read = datetime.strptime(text, pattern).date()
    # Python's two digits of a year mean 1969 to 2068.
    return read.replace(year=read.year - 100) if read > date(2049, 12, 31) else read


@pytest.mark.parametrize("pattern", [pattern for pattern, _ in FORMATS])
def test_every_format_means_its_day(pattern: str) -> None:
    """Python's parser, which nobody here wrote, reads each one back."""
    for ordinal in range(FIRST, LAST + 1, 97):
        day = date.fromordinal(ordinal)
        assert understood(write(day, pattern), pattern) == day


def test_no_text_means_two_days() -> None:
    """Every day of four years and of the ends of the range, in every format."""
    meaning: dict[str, date] = {}
    years = (1950, 1951, 1999, 2000, 2001, 2010, 2011, 2012, 2049)
    days = [date(year, 1, 1) + timedelta(n) for year in years for n in range(365)]
    for day in days:
        for pattern, _ in FORMATS:
            assert meaning.setdefault(write(day, pattern), day) == day


def test_ordinals_end_as_english_has_them() -> None:
    nth = [write(date(2000, 1, day), "{nth}") for day in range(1, 32)]
    special = {1: "st", 2: "nd", 3: "rd", 21: "st", 22: "nd", 23: "rd", 31: "st"}
    assert nth == [f"{day}{special.get(day, 'th')}" for day in range(1, 32)]


def test_batches_hold_dates_and_their_meaning() -> None:
    data = DateFormats(**SMALL)
    patterns = [pattern for pattern, _ in FORMATS]
    for batch in data.val_dataloader():
        assert (batch.target[:, 0] == BOS).all()
        assert (batch.target[:, -1] == EOS).all(), "ten characters each"
        assert ((batch.source == EOS).sum(1) == 1).all()
        assert not (batch.source == UNKNOWN).any()
        for source, target, reference in zip(*map(list, batch[:3]), strict=True):
            assert data.target.decode(target.tolist()) == reference
            day = date.fromisoformat(reference)
            texts = {write(day, pattern) for pattern in patterns}
            assert data.source.decode(source.tolist()) in texts
    assert next(iter(data.train_dataloader())).references == ()


def test_every_format_is_drawn_as_often_as_it_should() -> None:
    data = DateFormats(num_train=4000, batch_size=4000)
    (batch,) = data.train_dataloader()
    texts = [data.source.decode(row) for row in batch.source.tolist()]
    total = sum(often for _, often in FORMATS)
    long_months = "|".join(month for month in MONTHS if month != "may")
    for pattern, share in (
        (r"\d{8}", 1 / total),
        (r"\d\d\.\d\d\.\d\d", 2 / total),
        (rf"({long_months}) \d+, \d{{4}}", 3 / total * 11 / 12),
    ):
        found = sum(bool(re.fullmatch(pattern, text)) for text in texts)
        assert abs(found / 4000 - share) < 4 * (share / 4000) ** 0.5
    years = [int(data.target.decode(row)[:4]) for row in batch.target.tolist()]
    assert (min(years), max(years)) == (1950, 2049)


def test_no_day_is_in_two_splits_whatever_the_seed() -> None:
    days = {}
    for split in ("train", "val", "test"):
        found: set[str] = set()
        for seed in (0, 1):
            data = DateFormats(**SMALL | {"num_train": 3000, "batch_size": 1000}, seed=seed)
            for batch in data.loader(split):
                found |= {data.target.decode(row) for row in batch.target.tolist()}
        days[split] = found
    assert len(days["train"]) > 2000
    assert not days["train"] & days["val"]
    assert not days["train"] & days["test"]
    assert not days["val"] & days["test"]


def test_held_out_dates_stay_and_training_brings_new_ones() -> None:
    first, second = DateFormats(seed=1, **SMALL), DateFormats(seed=2, **SMALL)
    for split in ("val", "test"):
        assert plain(first.loader(split)) == plain(second.loader(split))
    assert plain(first.loader("train")) != plain(second.loader("train"))
    check_exact_resume(first.train_dataloader(), first.train_dataloader())


def test_sizes_are_checked() -> None:
    with pytest.raises(ValueError, match="num_train=0: give at least 1"):
        DateFormats(num_train=0)


def test_a_batch_costs_a_few_milliseconds_at_most() -> None:
    """0.4 ms on a quiet core; the point is that no worker processes are needed."""
    loader = DateFormats(num_train=6400).train_dataloader()
    times = []
    for _ in range(3):
        start = time.process_time()
        batches = sum(1 for _ in loader)
        times.append((time.process_time() - start) / batches)
    assert min(times) < 6e-3
    assert isinstance(next(iter(loader)).source, torch.Tensor)
