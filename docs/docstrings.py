"""Docstrings of the project as Sphinx reads them, with all arguments of a class."""

import re
from collections.abc import Sequence

from trellis.index import public_names
from trellis.options import options

FIELD = re.compile(r"^(Shape|Source|Deviates|Batch|Logged and evaluated):\s*(.*)$")
_AFTER = re.compile(r"^(Shape|Raises|Source|>>>)")  # what follows the arguments
SECTION = re.compile(r"^[A-Z]\w*( \w+)*:$")


def fields(docstring: Sequence[str]) -> list[str]:
    """A docstring's ``Shape``, ``Source`` and the like as fields beside the arguments."""
    found: list[str] = []
    inside = False
    for line in docstring:
        if match := FIELD.match(line):
            found += ["", f":{match[1]}: {match[2]}".rstrip()]
            inside = True
        elif not line.strip() or SECTION.match(line):
            inside = False
            found.append(line)
        else:
            found.append(f"    {line.strip()}" if inside else line)
    return found


def signature(path: str) -> str | None:
    """Arguments of a public class, those of its bases too; ``None`` of what is not public."""
    name = path.rpartition(".")[2]
    if public_names().get(name) != path:
        return None
    told = (f"{each.name}={each.default}" if each.default else each.name for each in options(name))
    return f"({', '.join(told)})"


def with_options(path: str, docstring: Sequence[str]) -> list[str]:
    """The docstring of a public class with all its arguments: those of its bases, too.

    Args:
        path: dotted; what is not public stays as it is.
        docstring: its lines.
    """
    name = path.rpartition(".")[2]
    if public_names().get(name) != path or not (found := options(name)):
        return [*docstring]
    section = ["Args:"]
    for each in found:
        kind = f"{each.kind} = {each.default}" if each.default else each.kind
        section.append(f"    {each.name} ({kind}): {each.meaning}")
    kept, inside, at = [], False, None
    for line in docstring:
        if line == "Args:":
            inside, at = True, len(kept)
        elif inside and line[:1] not in ("", " "):
            inside = False
        if not inside:
            kept.append(line)
    if at is None:
        at = next((n for n, line in enumerate(kept) if _AFTER.match(line)), len(kept))
        section = ["", *section, ""]
    return [*kept[:at], *section, *kept[at:]]
