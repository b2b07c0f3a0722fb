"""Pages made of the public names, their docstrings, the configs and the ledger.

``write`` puts them beside the other pages, as ``families/*.rst``, ``results.rst``, ``ladder.rst``
and ``api/*.rst``: reStructuredText, as the docstrings are. Of ``trellis`` only the pictures need
torch here; Sphinx imports what the API pages name.
"""

import ast
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from docstrings import FIELD, SECTION, fields
from ladder import ladder_page
from pictures import results_picture

from trellis.index import definition, family_names, home, public_names
from trellis.lightning_modules.commands.ledger import (
    Row,
    configs_dir,
    ledger,
    measured,
    shown,
    summary,
    whole_configs,
)
from trellis.lightning_modules.commands.list import MACHINERY, ROOMS

TITLES = {
    "vector": "Tables and vectors",
    "graph": "Graphs",
    "image": "Images",
    "sequence": "Text and sequences",
    "generative": "Generative models",
    "rl": "Agents",
}
# What is public and stands in no family's ``__init__``.
BESIDE = {"trellis": ("load", "Trainer")}
_BRIEF = ("result", "metric", "published", "measured", "verdict", "source")


def write(folder: Path) -> None:
    """Write all pages; one that is as it was keeps its date, so that Sphinx reads it once."""
    for name, text in pages().items():
        path = folder / name
        if path.is_file() and path.read_text(encoding="utf-8") == text:
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if path.parent.name == "families" and (rows := _drawn(path.stem)):
            results_picture(rows, measured()).savefig(path.with_suffix(".svg"))


def pages() -> dict[str, str]:
    """Text of each page by its path."""
    return {
        **{f"families/{family}.rst": family_page(family) for family in families()},
        **{f"api/{package}.rst": api_page(package, names) for package, names in packages()},
        "families/index.rst": _contents("Families", families()),
        "api/index.rst": _contents("API", [package for package, _ in packages()]),
        "ladder.rst": ladder_page(),
        "results.rst": results_page(),
    }


def families() -> list[str]:
    """The folders of the configs, and what is public in any of the rooms, by name."""
    found = {path.parent.name for path in whole_configs()}
    for room in ROOMS.values():
        found |= {path.split(".")[2] for path in family_names(room).values()}
    known = [family for family in TITLES if family in found]
    return known + sorted(found - {*known, *MACHINERY})


def packages() -> list[tuple[str, list[str]]]:
    """Each package that has public names, with them."""
    found: dict[str, list[str]] = {package: [*names] for package, names in BESIDE.items()}
    for name, path in public_names().items():
        found.setdefault(path.rpartition(".")[0], []).append(name)
    return sorted(found.items())


def api_page(package: str, names: Iterable[str]) -> str:
    """A page of ``autodoc`` directives."""
    lines = [*_title(package), _text_of_package(package), ""]
    for name in names:
        node = definition(home(name), name) if name in public_names() else None
        kind = "function" if isinstance(node and node[1], ast.FunctionDef) else "class"
        if node is None:
            kind = "class" if name[0].isupper() else "function"
        elif not isinstance(node[1], (ast.FunctionDef, ast.ClassDef)):
            kind = "data"
        lines += [f".. auto{kind}:: {package}.{name}", ""]
    return "\n".join(lines)


def family_page(family: str) -> str:
    """Results, networks, objectives, data and configs of a family."""
    lines = _title(TITLES.get(family, family.capitalize()))
    rows = _rows(family)
    if rows:
        lines += [*_heading("Results"), *_results(rows), ""]
    if _drawn(family):
        lines += [
            f".. figure:: {family}.svg",
            "",
            "   Each dot is a run, the blue bar their mean, the red line what was published; the",
            "   shade is the row's tolerance.",
            "",
        ]
    for title, room in ROOMS.items():
        names = family_names(f"{room}.{family}")
        if names:
            lines += _heading(title.capitalize())
            for name in names:
                lines += _part(name)
    if configs := [path for path in whole_configs() if path.parent.name == family]:
        lines += _heading("Configs")
        for path in configs:
            lines += _config(path, [row for row in rows if row.config == _short(path)])
    return "\n".join(lines)


def results_page() -> str:
    """The whole ledger."""
    lines = [
        *(":hide-toc:", ""),
        *_title("Results"),
        "``trellis reproduce NAME`` runs a row again and says whether it still holds. Seeds are",
        "numbered from the config's ``seed_everything``, so the same command gives the same",
        "numbers. Minutes are those of all seeds together on two CPU cores, without a GPU; the",
        "commit is that of the code that was measured.",
        "",
        "How far a row is to be trusted:",
        "",
        "published",
        "   somebody else's number, from the paper or the code named as its source;",
        "analytic",
        "   a number that follows from the data and the mathematics;",
        "own",
        "   our own measurement, whose tolerance shows a change; it confirms nothing.",
        "",
    ]
    for family in families():
        if rows := _rows(family):
            lines += [*_heading(TITLES.get(family, family)), *_results(rows, full=True), ""]
    return "\n".join(lines)


def _results(rows: Sequence[Row], full: bool = False) -> list[str]:
    """The rows as a table, on the page of results with how they were measured."""
    found = [_result(row, measured().get(row.name)) for row in rows]
    shown_too = ("trust", "seeds", "minutes", "commit") if full else ()
    names = [name for name in found[0] if name in (*_BRIEF, *shown_too)]
    table = [".. list-table::", "   :header-rows: 1", "   :class: results", ""]
    for line in (names, *([cells[name] for name in names] for cells in found)):
        table += [f"   {'* -' if n == 0 else '  -'} {cell}" for n, cell in enumerate(line)]
    return table


def _result(row: Row, result: Mapping[str, Any] | None) -> dict[str, str]:
    """What a table may tell of a row, by column."""
    ours, verdict = "", "never measured"
    told = dict.fromkeys(("seeds", "minutes", "commit"), "")
    if result:
        ours, verdict = summary(result), row.verdict(result["mean"])
        told = {
            "seeds": str(result["seeds"]),
            "minutes": f"{result['minutes']:.1f}",
            "commit": f"``{result['commit']}``",
        }
    return {
        "result": f"``{row.name}``",
        "metric": f"``{row.metric}``",
        "published": "" if row.published is None else shown(row.published),
        "measured": ours,
        "verdict": verdict.removeprefix("own measurement, "),
        "trust": row.trust,
        **told,
        "source": _literal(row.source),
    }


def _part(name: str) -> Iterator[str]:
    """What the docstring of a class says before its arguments, and its source."""
    path = public_names()[name]
    found = definition(home(name), name)
    text = (found and ast.get_docstring(found[1])) or ""
    inside, kept = True, []
    for line in text.splitlines():
        if match := FIELD.match(line):
            inside = match[1] != "Shape"
        elif SECTION.match(line) or line.startswith(">>>"):
            inside = False
        if inside:
            kept.append(line)
    role = "class" if isinstance(found and found[1], ast.ClassDef) else "func"
    yield from _heading(f":{role}:`~{path}`", "^")
    yield from fields(kept)
    yield ""


def _config(path: Path, rows: Sequence[Row]) -> list[str]:
    """A config with what its first comment says, its rows and its text, folded."""
    source = path.read_text(encoding="utf-8").splitlines()
    count = next(n for n, line in enumerate(source) if not line.startswith("#"))
    comment = " ".join(line.lstrip("# ").strip() for line in source[:count])
    commands = [f"trellis fit --config {_short(path).removesuffix('.yaml')}"]
    commands += [f"trellis reproduce {row.name}" for row in rows]
    folded = [f"<details><summary>{_short(path)}</summary>", "</details>"]
    return [
        *_heading(path.stem, "^"),
        *(_literal(comment), ""),
        *(".. code-block:: console", "", *(f"   {command}" for command in commands), ""),
        *(".. raw:: html", "", f"   {folded[0]}", ""),
        *(".. code-block:: yaml", "", *(f"   {line}" for line in source[count:]), ""),
        *(".. raw:: html", "", f"   {folded[1]}", ""),
    ]


def _rows(family: str) -> list[Row]:
    return [row for row in ledger().values() if row.config.partition("/")[0] == family]


def _drawn(family: str) -> list[Row]:
    """Rows whose measurement has something to be seen beside."""
    runs = {name: len(result["values"]) for name, result in measured().items()}
    return [
        row
        for row in _rows(family)
        if runs.get(row.name, 0) > 1 or (row.published is not None and row.name in runs)
    ]


def _short(path: Path) -> str:
    return path.relative_to(configs_dir()).as_posix()


def _literal(text: str) -> str:
    """Words of a comment, in which no sign is markup."""
    return re.sub(r"([*`|\\]|_(?=\W|$))", r"\\\1", text)


def _text_of_package(package: str) -> str:
    """What the ``__init__`` of a package says."""
    parent = find_spec(package)
    assert parent is not None
    assert parent.origin is not None
    source = Path(parent.origin).read_text(encoding="utf-8")
    return ast.get_docstring(ast.parse(source)) or ""


def _contents(title: str, names: Iterable[str]) -> str:
    return "\n".join([*_title(title), ".. toctree::", "", *(f"   {name}" for name in names), ""])


def _title(text: str) -> list[str]:
    return _heading(text, "=")


def _heading(text: str, line: str = "-") -> list[str]:
    return [text, line * len(text), ""]
