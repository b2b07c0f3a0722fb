"""Tries every objective under several conditions, and writes docs/objectives.md of it.

Usage: python tests/objective_table.py [FILE]
"""

import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "lightning_modules"))
sys.path.insert(0, str(Path(__file__).parent))
from every_objective import OBJECTIVES, listed_objectives, short_run
from footnotes import Footnotes
from learning_cases import Kill, assert_equal_weights
from pair_of_processes import in_two_processes

from trellis.files import atomic_write_text

PAGE = Path(__file__).parents[1] / "docs" / "objectives.md"
HEAD = """# What objectives run with

Written by `python tests/objective_table.py`, which takes a short run of every objective in each
column on a CPU; `make test-all` checks that it is still so. "Two processes" end with the same
weights in both; "resume" is bit-equal after Ctrl-C. What is refused says so in one line at the
start, which is below.
"""
PRECISIONS = ("bf16-mixed", "16-mixed", "bf16-true", "64-true")
COLUMNS = ("two processes", *PRECISIONS, "compile", "resume")
OK = "ok"


def cells_of(name: str, root: Path) -> dict[str, str]:
    """What one process finds of an objective: "ok", or the error."""
    tries = {precision: {"precision": precision} for precision in PRECISIONS}
    found = {}
    for column, options in {**tries, "compile": {"compile": True}}.items():
        error = short_run(name, root / column, enable_checkpointing=False, **options).error
        found[column] = OK if error is None else str(error)
    return {**found, "resume": _resumed(name, root)}


def _resumed(name: str, root: Path) -> str:
    whole = short_run(name, root / "whole")
    begun = short_run(name, root / "begun", callbacks=[Kill(1)])
    resumed = short_run(name, root / "resumed", ckpt_path=begun.last)
    if resumed.error is not None:
        return str(resumed.error)
    assert_equal_weights(whole, resumed)
    return OK


def page(cells: dict[str, dict[str, str]]) -> str:
    """The text of the page.

    Args:
        cells: objective -> column -> what was found.
    """
    notes = Footnotes(OK)
    rows = [f"| objective | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name in sorted(cells):
        texts = (cells[name][column].replace(name, "the objective") for column in COLUMNS)
        shown = [notes.cell(" ".join(text.split())) for text in texts]
        rows.append(f"| {name} | {' | '.join(shown)} |")
    return "\n".join([HEAD, *rows, "", *notes.lines()]).strip() + "\n"


def found() -> str:
    """The page as it is to be."""
    assert set(listed_objectives()) == set(OBJECTIVES)
    with tempfile.TemporaryDirectory() as folder:
        two = in_two_processes("objectives", Path(folder))
        cells = {
            name: {"two processes": two[name], **cells_of(name, Path(folder, name))}
            for name in OBJECTIVES
        }
    return page(cells)


if __name__ == "__main__":
    atomic_write_text(Path(sys.argv[1]) if len(sys.argv) > 1 else PAGE, found())
