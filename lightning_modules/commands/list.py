"""``trellis list``: what there is, read from the source without importing it."""

import argparse
import ast
import importlib.util
from collections.abc import Iterator
from pathlib import Path

from trellis.lightning_modules.commands.ledger import configs_dir, ledger, measured, shown

KINDS = ("networks", "objectives", "data", "configs", "ledger")
# What a spec can say: a network asks for nothing else, all other arguments have defaults.
SIZES = {
    *("in_channels", "out_channels", "shape", "num_parameters"),
    *("num_tokens", "pad_id"),
    *("source_tokens", "target_tokens", "source_pad_id", "target_pad_id"),
    *("observation_shape", "num_actions", "action_dim", "action_low", "action_high"),
}
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
        base: only what descends from this and leaves nothing abstract; ``None`` takes every class
            that can be built from the sizes of some kind of data, which is what makes a network.
    """
    spec = importlib.util.find_spec(package)
    folders = (spec and spec.submodule_search_locations) or []
    files = sorted(file for folder in folders for file in Path(folder).glob("*.py"))
    nodes = [node for file in files for node in ast.parse(file.read_text("utf-8")).body]
    known = {node.name: node for node in nodes if isinstance(node, ast.ClassDef)}
    found = []
    for name, node in known.items():
        line = [*_line(node, known)]
        if base is None:
            fits = _is_network(_required(line))
        else:
            fits = known.get(base) in line[1:] and not _is_abstract(line)
        if fits and not name.startswith("_"):
            found.append((name, (ast.get_docstring(node) or "").split("\n")[0]))
    return found


def _line(node: ast.ClassDef, known: dict[str, ast.ClassDef]) -> Iterator[ast.ClassDef]:
    """A class and those of the package it descends from, nearest first."""
    yield node
    for base in node.bases:
        if (parent := known.get(ast.unparse(base))) is not None:
            yield from _line(parent, known)


def _methods(line: list[ast.ClassDef]) -> dict[str, ast.FunctionDef]:
    """The methods that count: of each name the nearest."""
    items = [item for node in reversed(line) for item in node.body]
    return {item.name: item for item in items if isinstance(item, ast.FunctionDef)}


def _required(line: list[ast.ClassDef]) -> set[str]:
    """Names of the arguments of the constructor that have no defaults."""
    init = _methods(line).get("__init__")
    if init is None:
        return set()
    positional = init.args.args[1 : len(init.args.args) - len(init.args.defaults)]
    named = zip(init.args.kwonlyargs, init.args.kw_defaults, strict=True)
    return {each.arg for each in positional} | {each.arg for each, value in named if value is None}


def _is_network(required: set[str]) -> bool:
    # What takes channels and does not say what comes out is a part of one.
    is_part = "in_channels" in required and "out_channels" not in required
    return bool(required) and required <= SIZES and not is_part


def _is_abstract(line: list[ast.ClassDef]) -> bool:
    decorators = [d for method in _methods(line).values() for d in method.decorator_list]
    return any(ast.unparse(decorator) == "abstractmethod" for decorator in decorators)


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
