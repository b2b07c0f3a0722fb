"""Typing errors answered at once: what can be told wrong without importing torch and Lightning.

The parser itself would say the same, five seconds later. What is not certain passes.
"""

import ast
import importlib.util
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from trellis.index import did_you_mean, public_names
from trellis.own_code import own_names

# Options of Lightning's four commands beside those of trainer, model and data.
OPTIONS = (
    "config", "seed_everything", "trainer", "model", "data", "ckpt_path", "init_from",
    "input", "weights_only", "verbose", "return_predictions", "print_config", "help",
)  # fmt: skip
ROOMS = {"model": "trellis.lightning_modules.", "data": "trellis.datamodules."}


def check_words(words: list[str]) -> None:
    """Refuse a command line of ``fit``, ``validate``, ``test`` or ``predict`` that must fail.

    Args:
        words: the command line after ``trellis``.
    Raises:
        ValueError: an option that does not exist, or a class with a name near to a public one.
        FileNotFoundError: no such checkpoint.
    """
    for name, value in options(words):
        head, _, rest = name.partition(".")
        if head not in OPTIONS:
            known = [f"--{each}" for each in OPTIONS]
            raise ValueError(f"unrecognized option --{name}{did_you_mean(f'--{name}', known)}")
        if head == "trainer" and rest:
            _check_trainer_option(rest.partition(".")[0])
        if head in ROOMS and not rest and value is not None:
            _check_class(head, value)
        if head in ("ckpt_path", "init_from") and value and not _is_there(value):
            raise FileNotFoundError(f"there is no checkpoint {value}")


def options(words: list[str]) -> Iterator[tuple[str, str | None]]:
    """The options of a command line without their dashes, each with the value typed behind it."""
    for word, following in zip(words, [*words[1:], "--"], strict=True):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            spaced = None if following.startswith("-") else following
            yield name, value if equals else spaced


def _is_there(path: str) -> bool:
    return path in ("best", "last", "null") or "://" in path or Path(path).is_file()


def _check_trainer_option(name: str) -> None:
    known = trainer_options()
    if known and name.rstrip("+") not in known:
        full = [f"--trainer.{each}" for each in sorted(known)]
        raise ValueError(
            f"unrecognized option --trainer.{name}{did_you_mean(f'--trainer.{name}', full)}"
        )


def _check_class(head: str, value: str) -> None:
    """Another package's class has a dot in its name, an own config a brace or an ending."""
    if not value.isidentifier() or value in public_names() or value in own_names():
        return
    ours = [name for name, path in public_names().items() if path.startswith(ROOMS[head])]
    if hint := did_you_mean(value, ours, cutoff=0.8):
        raise ValueError(f"--{head} {value}: no class of that name fits{hint}")


@cache
def trainer_options() -> frozenset[str]:
    """Arguments of the trainer, read from its source; empty if that cannot be found."""
    found: set[str] = set()
    for path in trainer_sources():
        found |= _arguments(ast.parse(path.read_text(encoding="utf-8")))
    return frozenset(found)


def trainer_sources() -> list[Path]:
    """Files of our trainer and of Lightning's; none if one cannot be found."""
    ours = Path(__file__).parents[1] / "engine" / "trainer.py"
    package = importlib.util.find_spec("lightning")
    folders = (package and package.submodule_search_locations) or []
    theirs = [Path(folder) / "pytorch" / "trainer" / "trainer.py" for folder in folders]
    found = [path for path in (ours, *theirs) if path.is_file()]
    return found if theirs and len(found) == 1 + len(theirs) else []


def _arguments(tree: ast.Module) -> set[str]:
    """Arguments of the constructor of the class ``Trainer``."""
    return {
        argument.arg
        for node in tree.body
        if isinstance(node, ast.ClassDef) and node.name == "Trainer"
        for item in node.body
        if isinstance(item, ast.FunctionDef) and item.name == "__init__"
        for argument in (*item.args.args[1:], *item.args.kwonlyargs)
    }
