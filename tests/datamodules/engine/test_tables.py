"""What separates cells, what is a comment, and which lines rows stand on."""

from pathlib import Path

import pytest

from trellis.datamodules.engine.tables import parsed_rows


def rows(folder: Path, text: str, ids: set[str] | None = None) -> list[tuple[int, list[str]]]:
    (folder / "t.csv").write_bytes(text.encode())
    return parsed_rows((folder / "t.csv").read_bytes(), "t.csv", ids)


def test_rows_have_the_numbers_of_their_lines(tmp_path: Path) -> None:
    found = rows(tmp_path, "# one\r\n\r\na,b\r\n# two\r\n#c, d \r\n,\r\n", {"a", "#c"})
    assert found == [(3, ["a", "b"]), (5, ["#c", "d"])]


@pytest.mark.parametrize(
    ("text", "cells"),
    [
        ("a,b;c", ["a,b", "c"]),
        ("a;1,5;-2,5e3;x,y", ["a", "1.5", "-2.5e3", "x,y"]),
        ("a, 1,5", ["a", "1", "5"]),
        ('"a;b",c', ["a;b", "c"]),
        ("a\t b,c", ["a", "b,c"]),
        ("  a   b ", ["a", "b"]),
        ("sep=|\na|b,c", ["a", "b,c"]),
    ],
)
def test_the_first_line_tells_the_separator(tmp_path: Path, text: str, cells: list[str]) -> None:
    assert rows(tmp_path, text)[0][1] == cells


def test_without_ids_nothing_is_a_comment(tmp_path: Path) -> None:
    assert rows(tmp_path, "#id,label\n%,x\n") == [(1, ["#id", "label"]), (2, ["%", "x"])]
