"""Short answers to a wrong command line, and short names that mean the house's classes."""

import difflib
import inspect
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NoReturn

import lightning as L
import torch
from jsonargparse import _typehints
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import Logger

# The lines of jsonargparse's long answers that say what is wrong.
_TELLING = re.compile(
    r"not accepted|Expected|Expecting|Key|No such|not found|[Mm]ultiple|required|[Ii]nvalid"
    r"|unrecognized|does not|Import|must"
)


class Parser(LightningArgumentParser):
    """A parser that answers a mistake in two lines, with the nearest valid name."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        text, known = str(message), _options(self)
        prog = self.prog.replace(" [options]", "")
        near = _near_options(text, known) or _near_classes(text)
        sys.stderr.write(f"{prog}: error: {_shortened(text)}\n")
        if near:
            sys.stderr.write(f"did you mean {' or '.join(near)}?\n")
        sys.exit(2)


@contextmanager
def house_rules() -> Iterator[None]:
    """Read a command line as its user means it; jsonargparse offers no hooks for this.

    ``GCN`` means trellis's class where torch_geometric has one of that name too. Another class
    starts from its own defaults: of the class it replaces it keeps only what was chosen, not
    what happened to be the default there.
    """
    find, discard = (
        _typehints.get_all_subclass_paths,
        _typehints.discard_init_args_on_class_path_change,
    )

    def find_house_first(*args: Any, **options: Any) -> list[str]:
        paths = find(*args, **options)
        house = {path.rsplit(".", 1)[-1] for path in paths if path.startswith("trellis.")}
        return [
            path
            for path in paths
            if path.startswith("trellis.") or path.rsplit(".", 1)[-1] not in house
        ]

    def discard_defaults(parser_or_action: Any, previous: Any, value: Any) -> None:
        if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
            replaced = _typehints.import_object(previous["class_path"])
            for name, parameter in inspect.signature(replaced).parameters.items():
                if previous["init_args"].get(name, inspect.Parameter.empty) == parameter.default:
                    previous["init_args"].pop(name, None)
        discard(parser_or_action, previous, value)

    _typehints.get_all_subclass_paths = find_house_first
    _typehints.discard_init_args_on_class_path_change = discard_defaults
    try:
        yield
    finally:
        _typehints.get_all_subclass_paths = find
        _typehints.discard_init_args_on_class_path_change = discard


def _options(parser: LightningArgumentParser) -> list[str]:
    options = {word for action in parser._actions for word in action.option_strings}
    return sorted(option for option in options if option.startswith("--"))


def _shortened(text: str) -> str:
    """The line of jsonargparse's answer that says what is wrong."""
    lines = [line.strip(" -") for line in text.strip().splitlines() if line.strip(" -")]
    telling = [line for line in lines if _TELLING.search(line)]
    chosen = telling[-1] if telling else lines[-1]
    chosen = re.sub(r"Expected a <class 'NoneType'>.*", "no class of that name fits", chosen)
    return chosen if chosen == lines[0] else f"{lines[0][:160]} {chosen[:400]}"


def _near_options(text: str, known: list[str]) -> list[str]:
    near: list[str] = []
    for word in re.findall(r"(?:unrecognized arguments: |[Oo]ption '|Key ')(?:--)?([\w.]+)", text):
        near += difflib.get_close_matches(f"--{word}", known, 1)
    return list(dict.fromkeys(near))


def _near_classes(text: str) -> list[str]:
    """Short names of classes near to those in the message or on the command line."""
    bases = (torch.nn.Module, L.LightningDataModule, L.Callback, Logger, torch.optim.Optimizer)
    names = {path.rsplit(".", 1)[-1] for base in bases for path in _subclasses(base)}
    near: list[str] = []
    for word in re.findall(r"\b[A-Z]\w+", " ".join([text, *sys.argv[2:]])):
        if word not in names and word not in ("Parser", "Expected", "NoneType"):
            near += difflib.get_close_matches(word, names, 1, cutoff=0.75)
    return list(dict.fromkeys(near))


def _subclasses(base: type) -> list[str]:
    with house_rules():
        return list(_typehints.get_all_subclass_paths(base))
