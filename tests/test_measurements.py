"""The table of benchmarks says who is faster, and by how much."""

from pathlib import Path

import pytest
from measurements import Measurement, write_section


@pytest.mark.parametrize(
    ("unit", "ours", "theirs"), [("steps/s", [30.0, 20.0, 10.0], [10.0]), ("ms", [2.0], [4.0])]
)
def test_a_ratio_above_one_says_that_ours_is_faster(
    unit: str, ours: list[float], theirs: list[float]
) -> None:
    first, second = Measurement("what", unit, {"trellis": ours, "peer": theirs}).rows()
    assert first.startswith("| what | trellis |")
    assert second.endswith("| once | 2.00 |")


def test_median_and_quartiles() -> None:
    (row,) = Measurement("what", "ms", {"trellis": [1.0, 2.0, 3.0, 4.0, 5000.0]}).rows()
    assert "| 3 ms | 2 – 4 |" in row


def test_a_section_is_replaced_and_the_others_kept(tmp_path: Path) -> None:
    path = tmp_path / "BENCHMARKS.md"
    for name, text in (("cpu", "old"), ("gpu", "card"), ("cpu", "new")):
        write_section(path, name, text)
    whole = path.read_text()
    assert whole.startswith("# Benchmarks")
    assert "old" not in whole
    assert whole.index("new") < whole.index("card")
    assert whole.count("<!-- cpu -->") == 1
