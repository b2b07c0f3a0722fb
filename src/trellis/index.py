"""The public names of every room, read from its ``__init__`` files without importing them.

A family's ``__init__.py`` lists what is public. What a short name on the command line means, what
``trellis list`` shows and what a checkpoint may name all come from here.
"""

import ast
import difflib
import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

# Public names that have changed; checkpoints and configs of earlier layouts use the old ones.
RENAMED: dict[str, str] = {
    "ActorCritic": "A2C",
    "Alone": "NodewiseLinear",
    "BestAndLast": "BestAndLastCheckpoint",
    "Choice": "FastCategorical",
    "PixelTrunk": "PixelEncoder",
    "PolicyGradient": "REINFORCE",
    "PrioritizedSample": "ReplayBatch",
    "Trunk": "ObservationEncoder",
}
_PACKAGE = Path(__file__).resolve().parent
_UPPER_ROOMS = ("lightning_modules", "datamodules")


def public_names() -> dict[str, str]:
    """Short name -> dotted path, for every public name.

    >>> public_names()["GCN"]
    'trellis.networks.graph.GCN'
    """
    return {name: f"{family}.{name}" for name, (family, _) in _homes().items()}


@cache
def _homes() -> dict[str, tuple[str, str]]:
    """Short name -> family that it belongs to, module that defines it."""
    found: dict[str, tuple[str, str]] = {}
    for family, path in _families():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("trellis."):
                found |= {alias.name: (family, node.module or "") for alias in node.names}
    return found


def summary(name: str) -> str:
    """First line of the docstring of a public class or function; nothing is imported.

    >>> summary("GCN")
    'Graph convolutional network.'
    """
    module = home(name)
    path = _source(module)
    # To parse whole modules would take half of the time of ``trellis list``.
    found = re.search(
        rf'^(?:class|def) {name}\b.*?"""([^\n]*?)(?:"""|\n)',
        path.read_text(encoding="utf-8") if path.is_file() else "",
        re.DOTALL | re.MULTILINE,
    )
    if found is not None and "\\" not in found[1]:  # which may be an escape
        return found[1]
    node = definition(module, name)
    return "" if node is None else (ast.get_docstring(node[1]) or "").partition("\n")[0]


def home(name: str) -> str:
    """The module that defines a public name.

    >>> home("GCN")
    'trellis.networks.graph.gnn'
    """
    return _homes()[name][1]


def definition(module: str, name: str) -> tuple[str, ast.ClassDef | ast.FunctionDef] | None:
    """What a name means in one of our modules: the module that defines it, and its source.

    Args:
        module: dotted name.
        name: defined or imported there.
    Returns:
        ``None`` for what other packages define.
    """
    tree = _tree(module)
    for node in () if tree is None else tree.body:
        if isinstance(node, (ast.ClassDef, ast.FunctionDef)) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return definition(node.module, alias.name)
    return None


@cache
def _tree(module: str) -> ast.Module | None:
    if not module.startswith("trellis."):
        return None
    path = _source(module)
    path = path if path.is_file() else path.with_suffix("") / "__init__.py"
    return ast.parse(path.read_text(encoding="utf-8"))


def _families() -> Iterator[tuple[str, Path]]:
    """Dotted name and ``__init__.py`` of each family."""
    rooms = {"trellis": _PACKAGE, **{f"trellis.{room}": _room(room) for room in _UPPER_ROOMS}}
    for room, folder in rooms.items():
        for path in sorted(folder.rglob("*/__init__.py")):
            parts = path.parent.relative_to(folder).parts
            if parts[0] not in _UPPER_ROOMS:  # the links that a checkout has
                yield ".".join((room, *parts)), path


def _room(name: str) -> Path:
    """Folder of an upper room: in a checkout beside ``src``, installed in the package."""
    inside = _PACKAGE / name
    return (inside if inside.is_dir() else _PACKAGE.parents[1] / name).resolve()


def _source(module: str) -> Path:
    """The file of one of our modules."""
    first, *rest = module.split(".")[1:]
    folder = _room(first) if first in _UPPER_ROOMS else _PACKAGE / first
    return folder.joinpath(*rest).with_suffix(".py")


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
    'trellis.networks.graph.GCN'
    """
    package, _, short = name.rpartition(".")
    if package and package.partition(".")[0] != "trellis":
        return None
    return public_names().get(RENAMED.get(short, short))


def public_path(name: str) -> str:
    """The path that users write for what a module of ours defines; others stay as they are.

    >>> public_path("trellis.networks.graph.gnn.GCN")
    'trellis.networks.graph.GCN'
    """
    module, _, short = name.rpartition(".")
    family, home = _homes().get(short, ("", ""))
    return f"{family}.{short}" if module == home else name


def did_you_mean(word: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """A hint at the nearest of the valid names, or nothing.

    >>> did_you_mean("GNC", ["GCN", "MLP"])
    '; did you mean GCN?'
    """
    near = nearest(word, known, cutoff)
    return f"; did you mean {near}?" if near else ""


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The valid name that is most like ``word``, if one is.

    Args:
        word: as it was typed.
        known: the valid names.
        cutoff: how much alike, from 0 to 1.

    >>> nearest("Planetiod", ["Planetoid", "KarateClub"])
    'Planetoid'
    """
    return next(iter(difflib.get_close_matches(word, list(known), 1, cutoff)), None)
