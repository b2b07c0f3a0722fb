"""``trellis list``: what there is, read from the source without importing it."""

import argparse
import ast
import importlib.util
from pathlib import Path

from trellis.lightning_modules.ledger import configs_dir, ledger, measured, shown

KINDS = ("networks", "objectives", "data", "configs", "ledger")
MARKS = ("<!-- ledger -->", "<!-- /ledger -->")


def main(words: list[str]) -> None:
    """Print one kind of part, or all of them.

    Args:
        words: the command line after ``trellis``.
    """
    parser = argparse.ArgumentParser(prog="trellis list", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="all by default")
    parser.add_argument("--write", metavar="FILE", help="put the ledger's table into a README")
    args = parser.parse_args(words[1:])
    if args.write:
        write_table(Path(args.write))
        return
    for kind in (args.kind,) if args.kind else KINDS:
        if args.kind is None:
            print(f"{kind}:")
        for line in lines(kind):
            print(line if args.kind else f"  {line}")


def lines(kind: str) -> list[str]:
    """A line for each part of ``kind``."""
    if kind == "ledger":
        return ledger_lines()
    if kind == "configs":
        root = configs_dir()
        return [
            f"{path.relative_to(root).as_posix():<28} {_first_comment(path)}"
            for path in sorted(root.glob("*/*.yaml"))
        ]
    package, base = {
        "networks": ("trellis.networks", None),
        "objectives": ("trellis.lightning_modules", "Objective"),
        "data": ("trellis.datamodules", "DataModule"),
    }[kind]
    return [f"{name:<22} {summary}" for name, summary in classes(package, base)]


def classes(package: str, base: str | None) -> list[tuple[str, str]]:
    """Public classes of a package's files with the first line of their docstrings.

    Args:
        package: dotted name; its files are parsed, not imported.
        base: only direct subclasses of this; ``None`` takes every class that takes
            ``in_channels`` and ``out_channels``, which is what makes a network.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or []
    found = []
    for file in sorted(file for folder in folders for file in Path(folder).glob("*.py")):
        for node in ast.parse(file.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                summary = (ast.get_docstring(node) or "").split("\n")[0]
                fits = _is_network(node) if base is None else base in map(ast.unparse, node.bases)
                if fits:
                    found.append((node.name, summary))
    return found


def _is_network(node: ast.ClassDef) -> bool:
    return any(
        isinstance(item, ast.FunctionDef)
        and item.name == "__init__"
        and [argument.arg for argument in item.args.args[1:]] == ["in_channels", "out_channels"]
        for item in node.body
    )


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


def ledger_lines() -> list[str]:
    """A line for each row: what was published and what was measured."""
    results = measured()
    return [
        f"{row.name:<16} {row.metric:<14} {row.expected()}; measured "
        f"{shown(results[row.name]['mean']) if row.name in results else 'never'} ({row.source})"
        for row in ledger().values()
    ]


def table() -> str:
    """The ledger as a Markdown table."""
    results = measured()
    rows = [
        "| result | metric | published | measured | minutes | source |",
        "|---|---|---|---|---|---|",
    ]
    for row in ledger().values():
        result = results.get(row.name)
        ours = "-"
        minutes = "-"
        if result:
            runs = len(result["values"])
            ours = f"{shown(result['mean'])} ± {shown(result['std'], 2)} ({runs} runs)"
            minutes = f"{result['minutes']:.1f}"
        cells = [
            f"`{row.name}`",
            f"`{row.metric}`",
            shown(row.published),
            ours,
            minutes,
            row.source,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    return "\n".join(rows)


def write_table(path: Path) -> None:
    """Replace what stands between the marks in ``path`` by the table.

    Raises:
        ValueError: the file has no marks.
    """
    text = path.read_text(encoding="utf-8")
    if not all(mark in text for mark in MARKS):
        raise ValueError(f"{path} has no place for the table: add {MARKS[0]} and {MARKS[1]}")
    head, _, rest = text.partition(MARKS[0])
    tail = rest.partition(MARKS[1])[2]
    path.write_text(f"{head}{MARKS[0]}\n{table()}\n{MARKS[1]}{tail}", encoding="utf-8")
