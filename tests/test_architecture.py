"""The house's rules that a program can check: import direction, docstrings, sizes, names."""

import ast
import doctest
import importlib
import pkgutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
import torch

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
IDS = [str(path.relative_to(ROOT)) for _, path in FILES]
# The floors of each room, lowest first: a floor imports from itself and from those before it.
FLOORS = {
    "trellis": (
        "functional", "nn", "optim", "graph", "sequence", "generative", "rl", "metrics",
        "analysis", "networks.vector", "networks.graph", "networks.image", "networks.sequence",
        "networks.generative", "networks.rl",
    ),
    "trellis.lightning_modules": (
        "engine", "vector", "graph", "sequence", "generative", "rl", "callbacks", "commands",
        "cli",
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


def imports(tree: ast.AST) -> list[str]:
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names.append(node.module or ".")
    return names


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_imports_point_down(room: str, path: Path) -> None:
    names = imports(ast.parse(path.read_text()))
    own = [n for n in names if within(n, "lightning_modules") or within(n, "datamodules")]
    assert not own, f"without the trellis prefix this is a second copy of each class: {own}"
    if path.relative_to(ROOT).as_posix() not in ABOVE:
        upward = [n for n in names for bad in FORBIDDEN[room] if within(n, bad)]
        assert not upward


def floor(room: str, name: str) -> int:
    """Which floor of a room a module stands on; -1 is the ground, which all use."""
    inside = name.removeprefix(f"{room}.") if within(name, room) else ""
    found = [i for i, each in enumerate(FLOORS[room]) if within(inside, each)]
    return found[0] if found else -1


def module_name(room: str, path: Path) -> str:
    inside = path.relative_to(ROOMS[room]).with_suffix("")
    return ".".join((room, *inside.parts)).removesuffix(".__init__")


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_imports_point_down_between_floors(room: str, path: Path) -> None:
    own = floor(room, module_name(room, path))
    upward = [
        name
        for name in imports(ast.parse(path.read_text()))
        if within(name, room)
        and room == max((each for each in ROOMS if within(name, each)), key=len)
        and floor(room, name) > own
    ]
    if path.relative_to(ROOT).as_posix() not in ABOVE:
        assert not upward


def test_every_folder_is_a_floor() -> None:
    for room, folder in ROOMS.items():
        packages = {path.parent for path in folder.rglob("*.py")} - {folder}
        names = {".".join(each.relative_to(folder).parts) for each in packages}
        assert names - {"networks", "lightning_modules", "datamodules"} <= set(FLOORS[room])


def test_no_modules_import_in_circles() -> None:
    names = {module_name(room, path): path for room, path in FILES}
    graph = {
        name: {each for each in at_import(ast.parse(path.read_text())) if each in names}
        for name, path in names.items()
        if path.name != "__init__.py"
    }
    TopologicalSorter(graph).prepare()  # raises CycleError


def at_import(tree: ast.Module) -> list[str]:
    """What a module imports when it is imported itself: not in functions, not for types alone."""
    return [
        name
        for node in tree.body
        if not isinstance(node, ast.If) and isinstance(node, (ast.Import, ast.ImportFrom))
        for name in imports(node)
    ]


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
    trees = [ast.parse(path.read_text()) for _, path in FILES if not path.name.endswith(PRIVATE)]
    return {name for tree in trees for name in defined_names(tree) if is_private(name)}


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_private_names_of_other_libraries_stand_in_one_file_each(room: str, path: Path) -> None:
    if path.name.endswith(PRIVATE):
        return
    touched = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            touched.append(node.attr)
        elif isinstance(node, ast.ImportFrom) and not (node.module or "").startswith("trellis"):
            parts = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
            touched += [part for part in parts if is_private(part)]
    public = {"_asdict", "_fields", "_replace"}  # of named tuples
    assert not set(touched) - OWN_PRIVATE_NAMES - public


OWN_PRIVATE_NAMES = ours()


@pytest.mark.parametrize("name", [module_name(room, path) for room, path in FILES
                                  if not path.name.endswith(PRIVATE)])  # fmt: skip
def test_no_class_overrides_a_private_name_of_another_library(name: str) -> None:
    module = importlib.import_module(name)
    for cls in vars(module).values():
        if isinstance(cls, type) and cls.__module__ == name:
            foreign = [base for base in cls.__mro__ if not base.__module__.startswith("trellis")]
            taken = {each for base in foreign for each in vars(base) if is_private(each)}
            # Python's own bookkeeping of abstract classes and protocols.
            own = {each for each in vars(cls) if is_private(each) and not each.startswith("_abc_")}
            assert not own & taken - {"_is_protocol", "_is_runtime_protocol"}


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_graph_libraries_are_imported_for_graphs_only(room: str, path: Path) -> None:
    """PyTorch Geometric takes a second to import, which nobody else should wait for."""
    if "graph" not in path.parts and path.name != "torch_geometric_private.py":
        names = imports(ast.parse(path.read_text()))
        assert not [name for name in names if within(name, "torch_geometric")]


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_files_and_functions_fit_in_a_head(room: str, path: Path) -> None:
    text = path.read_text()
    assert text.count("\n") <= 400
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            doc = ast.get_docstring(node)
            length = node.end_lineno - node.lineno + 1 - (doc.count("\n") + 2 if doc else 0)
            assert length <= 60, f"{node.name} has {length} lines"
            assert len(node.args.args) + len(node.args.kwonlyargs) <= 14, node.name


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_public_names_are_documented(room: str, path: Path) -> None:
    tree = ast.parse(path.read_text())
    assert ast.get_docstring(tree)
    kinds = (ast.ClassDef, ast.FunctionDef)
    bare = [
        node.name
        for node in tree.body
        if isinstance(node, kinds)
        and not node.name.startswith("_")
        and not ast.get_docstring(node)
    ]
    bare = [name for name in bare if name != "NetworkFactory.__call__"]
    assert not bare


@pytest.mark.parametrize(("room", "path"), FILES, ids=IDS)
def test_no_class_is_called_like_one_of_torch(room: str, path: Path) -> None:
    taken = {name for name in dir(torch.nn) if name[0].isupper()}
    classes = [n.name for n in ast.parse(path.read_text()).body if isinstance(n, ast.ClassDef)]
    assert not taken.intersection(classes)


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
