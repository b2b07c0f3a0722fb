"""docs/export.md: a row for each network, with no empty cell, and all of it still true."""

from pathlib import Path

import pytest
from device_cases import CASES, listed_networks
from export_table import COLUMNS, EQUAL, PAGE, cells_of, found, page


def test_the_page_has_a_cell_for_each_network_and_form() -> None:
    rows = [line.split("|")[1:-1] for line in PAGE.read_text().splitlines() if line[:1] == "|"]
    cells = [[cell.strip() for cell in row] for row in rows]
    assert cells[0] == ["family", "network", *COLUMNS]
    assert {row[1] for row in cells[2:]} == set(CASES)
    assert {row[1].partition("/")[0] for row in cells[2:]} == set(listed_networks())
    assert all(
        cell == EQUAL or cell.startswith("refused (") for row in cells[2:] for cell in row[2:]
    )


def test_a_reason_stands_below_the_table() -> None:
    equal = dict.fromkeys(COLUMNS, EQUAL)
    text = page({"MLP": equal, "GCN": equal | {"ONNX": "no such operator"}})
    assert f"| graph | GCN | {EQUAL} | refused (1) | {EQUAL} |\n| vector | MLP |" in text
    assert text.endswith("\n\n1. no such operator\n")


@pytest.mark.long
def test_a_network_is_equal_in_a_process_without_trellis(tmp_path: Path) -> None:
    cells = cells_of(["MLP"], tmp_path)
    assert cells == dict.fromkeys(cells, dict.fromkeys(COLUMNS, EQUAL))


@pytest.mark.long
def test_the_page_is_what_is_found() -> None:
    assert found() == PAGE.read_text()
