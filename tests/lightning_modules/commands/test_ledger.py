"""What a row says of a measurement, and which source has made it."""

import math
from pathlib import Path
from typing import Any

import pytest

import trellis
from trellis.lightning_modules.commands import ledger as module
from trellis.lightning_modules.commands.ledger import (
    BOUNDS,
    Row,
    ledger,
    measured,
    source_digest,
    summary,
)


def row(**options: Any) -> Row:
    return Row("name", "config.yaml", "test/loss", "source", **options)


@pytest.mark.parametrize(
    ("options", "mean", "held"),
    [
        ({"published": 2.0, "within": 0.5}, 2.5, True),
        ({"published": 2.0, "within": 0.5}, 2.6, False),
        ({"published": 2.0, "within": 0.5}, 1.4, False),
        ({"published": 2.0, "at_least": 1.5}, 1.5, True),
        ({"published": 2.0, "at_least": 1.5}, 1.4, False),
        ({"published": 2.0, "at_most": 2.5}, 2.5, True),
        ({"published": 2.0, "at_most": 2.5}, 2.6, False),
        ({"at_most": 2.5}, 2.6, False),
        ({"published": [1.0, 2.0], "within": 0.1}, [1.05, 2.05], True),
        ({"published": [1.0, 2.0], "within": 0.1}, [1.05, 2.15], False),
        ({"published": [1.0, 2.0], "within": 0.1}, [1.05], False),
        ({"published": [1.0, 2.0], "at_most": [1.1, 2.0]}, [1.1, 2.0], True),
        ({"published": [1.0, 2.0], "at_most": [1.1, 2.0]}, [1.0, 2.1], False),
        ({"published": [1.0, 2.0], "at_most": [1.1, 2.0]}, [1.2, 1.0], False),
        ({"published": 2.0, "within": 0.5}, math.nan, False),
        ({"published": 2.0, "at_most": 2.5}, math.nan, False),
    ],
)
def test_bounds_include_their_ends(options: dict[str, Any], mean: Any, held: bool) -> None:
    assert row(**options).confirms(mean) is held


def test_only_a_published_value_can_be_confirmed() -> None:
    assert row(published=2.0, at_most=2.5).verdict(2.1) == "confirmed"
    assert row(published=2.0, at_most=2.5).verdict(2.6) == "not confirmed"
    assert row(at_most=2.5).verdict(2.1) == "own measurement, within its own tolerance"
    assert row(at_most=2.5).verdict(2.6) == "own measurement, outside its own tolerance"
    assert row().verdict(2.6) == "own measurement"
    for name, result in measured().items():
        assert result["verdict"] == ledger()[name].verdict(result["mean"]), name
        assert (result["std"] is None) == (len(result["values"]) == 1), name


@pytest.mark.parametrize(
    ("published", "source", "trust"),
    [
        (81.5, "Kipf and Welling 2017", "published"),
        (1.9, "analytic, least squares", "analytic"),
        (None, "analytic, the entropy of the data is 1.008 nats", "own"),
    ],
)
def test_a_row_says_whose_number_it_is(published: float | None, source: str, trust: str) -> None:
    assert Row("name", "config.yaml", "test/loss", source, published).trust == trust


def test_what_confirms_a_published_value_is_near_it() -> None:
    """A mean that is worse by more than a tenth is no reproduction, whatever the row allows."""
    for each in ledger().values():
        if each.published is None:
            continue
        values = each.published if isinstance(each.published, list) else [each.published]
        bounds = (each.bound(name, len(values)) for name in BOUNDS)
        largest = max(map(abs, values)) if len(each.metrics) == 1 else 0  # of a curve
        for value, within, least, most in zip(values, *bounds, strict=True):
            near = 0.1 * max(abs(value), largest)
            assert least >= value - near or math.isinf(least), each.name
            assert most <= value + near or math.isinf(most), each.name
            assert within <= near or math.isinf(within), each.name
        assert not each.unbounded, each.name


@pytest.mark.parametrize("std", [None, 0.0])
def test_one_run_has_no_standard_deviation(std: float | None) -> None:
    assert summary({"mean": 1.909, "std": std, "values": [1.909]}) == "1.909 (1 run)"
    curve = {"mean": [1.0, 2.0], "std": std, "values": [[1.0, 2.0]]}
    assert summary(curve) == "1 2 (1 run)"
    assert summary({"mean": 2.0, "std": 0.0, "values": [2.0, 2.0]}) == "2 ± 0 (2 runs)"


def test_other_source_has_another_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package, room = tmp_path / "trellis", tmp_path / "room"
    package.mkdir()
    room.mkdir()
    (package / "__init__.py").write_text("a = 1\n")
    (room / "part.py").write_text("b = 1\n")
    (package / "room").symlink_to(room)  # as the rooms of a checkout are
    monkeypatch.setattr(module.trellis, "__file__", str(package / "__init__.py"))
    first = source_digest()
    assert source_digest() == first
    (package / "notes.txt").write_text("no source")
    assert source_digest() == first
    (room / "part.py").write_text("b = 2\n")
    second = source_digest()
    assert second != first
    (room / "part.py").write_text("b = 1\n")
    assert source_digest() == first
    (room / "part.py").rename(room / "other.py")
    assert source_digest() not in (first, second)
    (package / "new.py").write_text("")
    assert source_digest() not in (first, second)


def test_the_source_of_a_checkout_has_all_three_rooms() -> None:
    root = Path(trellis.__file__).parent
    assert (root / "lightning_modules" / "cli.py").is_file()
    assert (root / "datamodules" / "engine").is_dir()
