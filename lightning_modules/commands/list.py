"""``trellis list``: what there is, read from the source without importing it."""

import argparse
from pathlib import Path
from textwrap import fill

from trellis import index
from trellis.index import did_you_mean, family_names
from trellis.lightning_modules.commands.ledger import (
    configs_dir,
    ledger,
    measured,
    shown,
    summary,
)
from trellis.options import options

KINDS = ("networks", "objectives", "data", "configs", "ledger")
ROOMS = {
    "networks": "trellis.networks",
    "objectives": "trellis.lightning_modules",
    "data": "trellis.datamodules",
}
MACHINERY = ("engine", "callbacks", "commands")
MARKS = ("<!-- ledger -->", "<!-- /ledger -->")


def main(words: list[str]) -> None:
    """Print one kind of part, or all of them."""
    parser = argparse.ArgumentParser(prog="trellis list", description=__doc__)
    parser.add_argument("kind", nargs="?", choices=KINDS, help="all by default")
    parser.add_argument("name", nargs="?", help="of one of them: what it takes, with defaults")
    parser.add_argument("--write", metavar="FILE", help="put the ledger's table into a README")
    args = parser.parse_args(words[1:])
    if args.write:
        write_table(Path(args.write))
        return
    if args.name:
        print("\n".join(details(args.kind, args.name)))
        return
    for kind in (args.kind,) if args.kind else KINDS:
        if args.kind is None:
            print(f"{kind}:")
        for line in lines(kind):
            print(line if args.kind else f"  {line}")


def details(kind: str, name: str) -> list[str]:
    """What one part is and takes: the options of a class, the text of a config, a ledger row.

    Raises:
        ValueError: there is none of this name; names the nearest.
    """
    if kind not in ROOMS:
        if found := [line for line in lines(kind) if name in line.split()[0]]:
            return found
        raise ValueError(f"{kind} has no {name}{did_you_mean(name, _names(kind))}")
    if name not in _names(kind):
        others = [room for room in ROOMS if name in _names(room)]
        hint = f"; it is among {others[0]}" if others else did_you_mean(name, _names(kind))
        raise ValueError(f"{kind} has no {name}{hint or f'; see trellis list {kind}'}")
    shown = [f"{name}: {index.summary(name)}", f"from {index.public_names()[name]}", ""]
    for option in options(name):
        default = f" = {option.default}" if option.default else ""
        shown += [f"  {option.name}: {option.kind}{default}"]
        shown += [fill(option.meaning, 99, initial_indent=" " * 6, subsequent_indent=" " * 6)]
    return shown


def _names(kind: str) -> list[str]:
    return [line.split()[0] for line in lines(kind)]


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
    return [f"{name:<22} {line}" for name, line in classes(ROOMS[kind])]


def classes(room: str) -> list[tuple[str, str]]:
    """Public classes of a room's families with the first line of their docstrings.

    Args:
        room: dotted name; its files are read, not imported.
    """
    families = [
        name for name, path in family_names(room).items() if path.split(".")[2] not in MACHINERY
    ]
    return [(name, index.summary(name)) for name in families if name[0].isupper()]


def _first_comment(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().lstrip("# ").strip()


def ledger_lines() -> list[str]:
    """A line for each row: what was published and what was measured."""
    results = measured()
    lines = []
    for row in ledger().values():
        ours = "never measured"
        if row.name in results:
            result = results[row.name]
            ours = f"measured {summary(result)}: {row.verdict(result['mean'])}"
        lines.append(f"{row.name:<16} {row.metric:<14} {row.expected()}; {ours} ({row.source})")
    return lines


def table() -> str:
    """The ledger as a Markdown table."""
    results = measured()
    rows = [
        "| result | metric | published | measured | verdict | minutes | source |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in ledger().values():
        result = results.get(row.name)
        ours = verdict = minutes = "-"
        if result:
            ours, verdict = summary(result), row.verdict(result["mean"])
            minutes = f"{result['minutes']:.1f}"
        cells = [
            f"`{row.name}`",
            f"`{row.metric}`",
            shown(row.published),
            ours,
            verdict,
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
