"""docs/objectives.md: a row for each objective, with no empty cell, and all of it still true."""

import pytest
from every_objective import listed_objectives
from objective_table import COLUMNS, PAGE, found, page


def test_the_page_has_a_cell_for_each_objective_and_condition() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells[0] == ["objective", *COLUMNS]
    assert [row[0] for row in cells[2:]] == sorted(listed_objectives())
    assert all(
        cell == "ok" or cell.startswith("refused (") for row in cells[2:] for cell in row[1:]
    )


def test_a_reason_that_several_share_is_said_once() -> None:
    refused = {column: "ok" for column in COLUMNS} | {"bf16-true": "too\nfew digits"}
    text = page({"B": refused, "A": refused, "C": refused | {"compile": "C: no graph"}})
    assert "| A | ok | ok | ok | refused (1) | ok | ok | ok |\n| B |" in text
    assert text.endswith("\n\n1. too few digits\n2. the objective: no graph\n")


@pytest.mark.long
def test_the_page_is_what_runs() -> None:
    assert found() == PAGE.read_text()
