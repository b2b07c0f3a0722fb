"""The public names of every room, read from its ``__init__`` files without importing them.

A family's ``__init__.py`` lists what is public. What a short name on the command line means, what
``trellis list`` shows and what a checkpoint may name all come from here.
"""

import ast
import difflib
from collections.abc import Iterable, Iterator
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

# Public names that have changed; checkpoints and configs of earlier layouts use the old ones.
RENAMED: dict[str, str] = {
    "ActorCritic": "A2C",
    "Choice": "FastCategorical",
    "PixelTrunk": "PixelEncoder",
    "PolicyGradient": "REINFORCE",
    "PrioritizedSample": "ReplayBatch",
    "Trunk": "ObservationEncoder",
}
_PACKAGE = Path(__file__).resolve().parent
_UPPER_ROOMS = ("lightning_modules", "datamodules")


@cache
def public_names() -> dict[str, str]:
    """Short name -> dotted path of where it is defined, for every public name.

    >>> public_names()["GCN"]
    'trellis.networks.graph.gnn.GCN'
    """
    found: dict[str, str] = {}
    for path in _family_files():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trellis."):
                found |= {alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return found


def _family_files() -> Iterator[Path]:
    """The ``__init__.py`` of each family."""
    for path in sorted(_PACKAGE.rglob("*/__init__.py")):
        if path.relative_to(_PACKAGE).parts[0] not in _UPPER_ROOMS:
            yield path
    for room in _UPPER_ROOMS:
        # In a checkout the upper rooms lie beside ``src``; installed they lie in the package.
        inside = _PACKAGE / room
        folder = inside if inside.is_dir() else _PACKAGE.parents[1] / room
        yield from sorted(folder.resolve().rglob("*/__init__.py"))


def family_names(room: str) -> dict[str, str]:
    """The public names of one room or family.

    Args:
        room: such as ``trellis.networks`` or ``trellis.networks.graph``.
    """
    return {n: path for n, path in public_names().items() if path.startswith(f"{room}.")}


def current_path(name: str) -> str | None:
    """Where the class or function of this name is today; ``None`` if no public one has it.

    Args:
        name: a short name, or the dotted path of any layout there ever was.

    >>> current_path("trellis.networks.gnn.GCN")
    'trellis.networks.graph.gnn.GCN'
    """
    package, _, short = name.rpartition(".")
    if package and package.partition(".")[0] != "trellis":
        return None
    return public_names().get(RENAMED.get(short, short))


def find(name: str) -> Any:
    """The public object of this name, imported.

    Args:
        name: see ``current_path``.
    Raises:
        ValueError: there is none; names the nearest.
    """
    path = current_path(name)
    if path is None:
        raise ValueError(f"there is no {name}{did_you_mean(name, public_names())}")
    module, _, attribute = path.rpartition(".")
    return getattr(import_module(module), attribute)


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint at the nearest of the valid names, or nothing.

    >>> did_you_mean("GNC", ["GCN", "MLP"])
    '; did you mean GCN?'
    """
    near = difflib.get_close_matches(word, list(known), 1, cutoff)
    return f"; did you mean {near[0]}?" if near else ""
