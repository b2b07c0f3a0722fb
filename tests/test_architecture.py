"""The house's rules that a program can check: import direction, docstrings, sizes, names."""

import ast
import doctest
import importlib
import inspect
import pkgutil
import re
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

from trellis.index import family_names

ROOT = Path(__file__).parents[1]
ROOMS = {
    "trellis": ROOT / "src" / "trellis",
    "trellis.lightning_modules": ROOT / "lightning_modules",
    "trellis.datamodules": ROOT / "datamodules",
}
# A room's link in src/trellis shows the same files once more.
FILES = [
    (room, path)
    for room, folder in ROOMS.items()
    for path in sorted(folder.rglob("*.py"))
    if room != "trellis"
    or path.relative_to(folder).parts[0] not in ("lightning_modules", "datamodules")
]
# The floors of each room, lowest first: a floor imports from itself and from those before it.
FLOORS = {
    "trellis": (
        "functional", "nn", "optim", "graph", "sequence", "generative", "rl", "metrics",
        "analysis", "networks.vector", "networks.graph", "networks.image", "networks.sequence",
        "networks.generative", "networks.rl",
    ),
    "trellis.lightning_modules": (
        "engine", "vector", "graph", "sequence", "generative", "rl", "callbacks", "export",
        "commands", "cli",
    ),
    "trellis.datamodules": (
        "engine", "vector", "graph", "image", "sequence", "generative", "rl",
    ),
}  # fmt: skip
# What a room may not import, and the files that stand above their room.
FORBIDDEN = {
    "trellis": ("lightning", "pytorch_lightning", "wandb", "trellis.lightning_modules",
                "trellis.datamodules"),
    "trellis.datamodules": ("wandb", "trellis.lightning_modules"),
    "trellis.lightning_modules": ("trellis.datamodules",),
}  # fmt: skip
ABOVE = {
    "src/trellis/__init__.py",
    "src/trellis/__main__.py",
    "lightning_modules/commands/run.py",
}
# Only these touch private names of another library: one file for each.
PRIVATE = "_private.py"


def broken(rule: Callable[[str, Path], object]) -> dict[str, object]:
    """What each file has that the rule forbids; one test looks at all files and names the bad."""
    found = {str(path.relative_to(ROOT)): rule(room, path) for room, path in FILES}
    return {name: each for name, each in found.items() if each}


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def imported_by(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    return [node.module or "."] if isinstance(node, ast.ImportFrom) else []


@cache
def imports(path: Path) -> list[str]:
    return [name for node in ast.walk(parsed(path)) for name in imported_by(node)]


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def test_no_room_is_imported_by_its_bare_name() -> None:
    """Without the trellis prefix an import makes a second copy of each class."""
    bare = ("lightning_modules", "datamodules")
    assert not broken(lambda _, path: [n for n in imports(path) for b in bare if within(n, b)])


def test_imports_point_down() -> None:
    def upward(room: str, path: Path) -> list[str]:
        if path.relative_to(ROOT).as_posix() in ABOVE:
            return []
        return [n for n in imports(path) for bad in FORBIDDEN[room] if within(n, bad)]

    assert not broken(upward)


def floor(room: str, name: str) -> int:
    """Which floor of a room a module stands on; -1 is the ground, which all use."""
    inside = name.removeprefix(f"{room}.") if within(name, room) else ""
    found = [i for i, each in enumerate(FLOORS[room]) if within(inside, each)]
    return found[0] if found else -1


def module_name(room: str, path: Path) -> str:
    inside = path.relative_to(ROOMS[room]).with_suffix("")
    return ".".join((room, *inside.parts)).removesuffix(".__init__")


def test_imports_point_down_between_floors() -> None:
    def upward(room: str, path: Path) -> list[str]:
        if path.relative_to(ROOT).as_posix() in ABOVE:
            return []
        own = floor(room, module_name(room, path))
        return [
            name
            for name in imports(path)
            if within(name, room)
            and room == max((each for each in ROOMS if within(name, each)), key=len)
            and floor(room, name) > own
        ]

    assert not broken(upward)


def test_every_folder_is_a_floor() -> None:
    for room, folder in ROOMS.items():
        packages = {path.parent for path in folder.rglob("*.py")} - {folder}
        names = {".".join(each.relative_to(folder).parts) for each in packages}
        assert names - {"networks", "lightning_modules", "datamodules"} <= set(FLOORS[room])


def test_no_modules_import_in_circles() -> None:
    names = {module_name(room, path): path for room, path in FILES}
    graph = {
        name: {each for each in at_import(parsed(path)) if each in names}
        for name, path in names.items()
        if path.name != "__init__.py"
    }
    order = [*TopologicalSorter(graph).static_order()]  # CycleError names the circle
    assert order.index("trellis.checks") < order.index("trellis.networks.vector.mlp")


def at_import(tree: ast.Module) -> list[str]:
    """What a module imports when it is imported itself: not in functions, not for types alone."""
    return [name for node in tree.body for name in imported_by(node)]


def defined_names(tree: ast.AST) -> set[str]:
    """Names that a file gives to something of its own."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return names


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def ours() -> set[str]:
    paths = [path for _, path in FILES if not path.name.endswith(PRIVATE)]
    return {name for path in paths for name in defined_names(parsed(path)) if is_private(name)}


def test_private_names_of_other_libraries_stand_in_one_file_each() -> None:
    public = {"_asdict", "_fields", "_replace", "_exit"}  # of named tuples and of os
    allowed = ours() | public

    def touched(_: str, path: Path) -> set[str]:
        names = []
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Attribute):
                names.append(node.attr)
            elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith(
                "trellis"
            ):
                names += [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        own_file = path.name.endswith(PRIVATE)
        return set() if own_file else {name for name in names if is_private(name)} - allowed

    assert not broken(touched)


def test_no_class_overrides_a_private_name_of_another_library() -> None:
    def overridden(room: str, path: Path) -> list[tuple[str, set[str]]]:
        name = module_name(room, path)
        classes = (
            [] if path.name.endswith(PRIVATE) else vars(importlib.import_module(name)).values()
        )
        return [
            (cls.__name__, names)
            for cls in classes
            if isinstance(cls, type)
            and cls.__module__ == name
            and (names := private_overrides(cls))
        ]

    assert not broken(overridden)


def private_overrides(cls: type) -> set[str]:
    foreign = [base for base in cls.__mro__ if not base.__module__.startswith("trellis")]
    taken = {each for base in foreign for each in vars(base) if is_private(each)}
    # Python's own bookkeeping of abstract classes and protocols.
    own = {each for each in vars(cls) if is_private(each) and not each.startswith("_abc_")}
    return own & taken - {"_is_protocol", "_is_runtime_protocol"}


def test_graph_libraries_are_imported_for_graphs_only() -> None:
    """PyTorch Geometric takes a second to import, which nobody else should wait for."""
    assert not broken(
        lambda _, path: (
            "graph" not in path.parts
            and path.name != "torch_geometric_private.py"
            and [name for name in imports(path) if within(name, "torch_geometric")]
        )
    )


def test_files_are_short() -> None:
    lengths = {path: path.read_text().count("\n") for _, path in FILES}
    assert not broken(lambda _, path: lengths[path] > 400 and lengths[path])


def test_functions_fit_in_a_head() -> None:
    def too_long(_: str, path: Path) -> list[str]:
        kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
        functions = [node for node in ast.walk(parsed(path)) if isinstance(node, kinds)]
        return [
            f"{each.name}: {lines_of_code(each)} lines, {number_of_arguments(each)} arguments"
            for each in functions
            if lines_of_code(each) > 60 or number_of_arguments(each) > 14
        ]

    assert not broken(too_long)


def lines_of_code(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    doc = ast.get_docstring(function)
    return function.end_lineno - function.lineno + 1 - (doc.count("\n") + 2 if doc else 0)


def number_of_arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    return len(function.args.args) + len(function.args.kwonlyargs)


def test_public_names_are_documented() -> None:
    def bare(_: str, path: Path) -> list[str]:
        kinds = (ast.ClassDef, ast.FunctionDef)
        public = [
            node
            for node in parsed(path).body
            if isinstance(node, kinds) and not node.name.startswith("_")
        ]
        module = [] if ast.get_docstring(parsed(path)) else ["the module"]
        return [*module, *(node.name for node in public if not ast.get_docstring(node))]

    assert not broken(bare)


def test_arguments_of_public_classes_are_documented() -> None:
    """By the class, by the base that takes them, or by what its options are passed on to."""

    def undocumented(name: str, path: str) -> list[str]:
        module, _, short = path.rpartition(".")
        cls = getattr(importlib.import_module(module), short)
        if not isinstance(cls, type):
            return []
        sources = [each for base in cls.__mro__ for each in (base, vars(base).get("__init__"))]
        text = "\n".join(each.__doc__ or "" for each in sources if each is not None)
        named = re.findall(r"^ {8}(\w+(?:, \w+)*):\s", text, re.MULTILINE)
        told = {each for names in named for each in names.split(", ")}
        return [argument for argument in inspect.signature(cls).parameters if argument not in told]

    families = ("trellis.networks", "trellis.lightning_modules", "trellis.datamodules")
    found = {name: undocumented(name, path) for room in families
             for name, path in family_names(room).items()}  # fmt: skip
    assert len(found) > 60
    assert not {name: missing for name, missing in found.items() if missing}


def test_no_class_is_called_like_one_of_torch() -> None:
    taken = {name for name in dir(torch.nn) if name[0].isupper()}
    assert not broken(
        lambda _, path: [
            node.name
            for node in parsed(path).body
            if isinstance(node, ast.ClassDef) and node.name in taken
        ]
    )


def test_the_oldest_python_that_is_promised_can_read_every_file() -> None:
    promised = re.search(r'python_requires=">=3\.(\d+)"', (ROOT / "setup.py").read_text())
    assert promised
    files = [path for _, path in FILES] + sorted((ROOT / "tests").rglob("*.py"))
    for path in files:
        ast.parse(path.read_text(), str(path), feature_version=(3, int(promised[1])))


def modules() -> list[str]:
    names = []
    for room in ROOMS:
        package = importlib.import_module(room)
        names += [room, *(m.name for m in pkgutil.walk_packages(package.__path__, f"{room}."))]
    return sorted(set(names))


@pytest.mark.parametrize("name", modules())
def test_doctests(name: str) -> None:
    from functools import partial

    result = doctest.testmod(
        importlib.import_module(name),
        extraglobs={"torch": torch, "partial": partial},
        optionflags=doctest.NORMALIZE_WHITESPACE,
    )
    assert result.failed == 0


def test_doctests_are_found_at_all() -> None:
    assert doctest.testmod(importlib.import_module("trellis.hyperparameters"),
                           extraglobs={"torch": torch, "partial": __import__("functools").partial},
                           ).attempted > 0  # fmt: skip


@pytest.mark.parametrize("room", ["lightning_modules", "datamodules"])
def test_a_room_refuses_its_bare_name(room: str) -> None:
    """From the repository's root the bare name would import a second copy of each class."""
    done = subprocess.run(
        [sys.executable, "-c", f"import {room}"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert f"import trellis.{room}" in done.stderr


@pytest.mark.parametrize("module", ["trellis", "trellis.lightning_modules.cli"])
def test_import_is_cheap(module: str) -> None:
    code = f"import {module}, sys; print('torch' in sys.modules, 'lightning' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
