"""Arguments of a public class with meaning and default, read from the source without importing it.

The same as ``trellis.signature.arguments_of`` and the docstrings would say, seconds later, once
torch is imported.
"""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from trellis.index import definition, home

_ARGS = re.compile(r"^Args:\n((?:(?: {4}.*)?\n?)*)", re.MULTILINE)
_ARGUMENT = re.compile(r"^ {4}(\w+(?:, \w+)*):\s+(.*(?:\n {5,}.*)*)", re.MULTILINE)
# The module whose names it uses, and what it is.
_Found = tuple[str, ast.ClassDef | ast.FunctionDef]


class Option(NamedTuple):
    """An argument of a constructor.

    Args:
        name: as it is typed.
        kind: its annotation.
        default: as it stands in the source; empty if it must be given.
        meaning: what the docstring says.
    """

    name: str
    kind: str
    default: str
    meaning: str


def options(name: str) -> list[Option]:
    """Arguments of a public class, in order: its own, then those that it passes on to its bases.

    Args:
        name: a short name.

    >>> options("MLP")[4]
    Option(name='dropout', kind='float', default='0.0', meaning='probability after each hidden layer.')
    """  # noqa: E501
    told: dict[str, tuple[str, str]] = {}
    documented: list[ast.AST] = []
    complete = False
    for module, node in _with_bases(definition(home(name), name)):
        documented.append(node)
        if (init := _constructor(node)) is None or complete:
            told |= {n: each for n, each in _fields(node).items() if n not in told}
            continue
        documented.append(init)
        own, target = _arguments(init), _target(module, init)
        if target is not None:
            own |= {n: each for n, each in _keyword_only(target).items() if n not in own}
            documented += [each for _, each in _with_bases(target)]
        told = told | {n: each for n, each in own.items() if n not in told}
        complete = target is not None or not (init.args.kwarg or init.args.vararg)
    meanings = _meanings(documented)
    return [Option(n, *each, meanings.get(n, "")) for n, each in told.items()]


def _with_bases(found: _Found | None) -> Iterator[_Found]:
    """A class and those of its bases that are ours, in the order in which Python looks."""
    if found is None:
        return
    yield found
    module, node = found
    for base in getattr(node, "bases", ()):
        yield from _with_bases(definition(module, ast.unparse(base).partition("[")[0]))


def _constructor(node: ast.AST) -> ast.FunctionDef | None:
    for item in getattr(node, "body", ()):
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return item
    return None


def _fields(node: ast.AST) -> dict[str, tuple[str, str]]:
    """Annotation and default of each field of a dataclass."""
    decorators = map(ast.unparse, getattr(node, "decorator_list", ()))
    if not any(text.partition("(")[0] == "dataclass" for text in decorators):
        return {}
    return {
        item.target.id: (_text(item.annotation), _text(item.value))
        for item in getattr(node, "body", ())
        if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)
    }


def _target(module: str, init: ast.FunctionDef) -> _Found | None:
    """What a constructor takes the options of; see ``trellis.signature.options_of``."""
    for each in init.decorator_list:
        if isinstance(each, ast.Call) and ast.unparse(each.func) == "options_of":
            return definition(module, ast.unparse(each.args[0]))
    return None


def _arguments(function: ast.FunctionDef) -> dict[str, tuple[str, str]]:
    """Annotation and default of each argument but ``self``."""
    positional = function.args.args
    lacking = [None] * (len(positional) - len(function.args.defaults))
    pairs = [*zip(positional, [*lacking, *function.args.defaults], strict=True)]
    pairs += zip(function.args.kwonlyargs, function.args.kw_defaults, strict=True)
    return {
        argument.arg: (_text(argument.annotation), _text(default))
        for argument, default in pairs
        if argument.arg != "self"
    }


def _keyword_only(target: _Found) -> dict[str, tuple[str, str]]:
    _, node = target
    function = _constructor(node) if isinstance(node, ast.ClassDef) else node
    if not isinstance(function, ast.FunctionDef):
        return {}
    names = {argument.arg for argument in function.args.kwonlyargs}
    return {name: each for name, each in _arguments(function).items() if name in names}


def _text(node: ast.AST | None) -> str:
    return "" if node is None else ast.unparse(node)


def _meanings(documented: list[ast.AST]) -> dict[str, str]:
    """What the docstrings say of each argument; the first that names one counts."""
    found: dict[str, str] = {}
    for node in documented:
        text = ast.get_docstring(node) or ""  # type: ignore[arg-type]
        for section in _ARGS.findall(text):
            for names, meaning in _ARGUMENT.findall(section):
                for name in names.split(", "):
                    found.setdefault(name, " ".join(meaning.split()))
    return found
