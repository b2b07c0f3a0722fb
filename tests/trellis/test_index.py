"""What the index reads from sources without importing them."""

import ast

import pytest

from trellis import index


@pytest.mark.parametrize("name", ["GCN", "TableMLP", "BilinearDecoder", "td_lambda", "ranks"])
def test_a_summary_is_the_first_line_of_the_docstring(name: str) -> None:
    found = index.definition(index.home(name), name)
    assert found is not None
    expected = (ast.get_docstring(found[1]) or "").partition("\n")[0]
    assert index.summary(name) == expected != ""
