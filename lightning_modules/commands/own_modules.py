"""The user's own classes that a command line names: imported, or refused with the real error.

The parser tries many readings of a name and tells only that none fits; an error inside the user's
module would never be seen.
"""

import os
import re
from collections.abc import Iterator
from typing import Any

from trellis.index import did_you_mean
from trellis.lightning_modules.commands.precheck import options
from trellis.own_code import import_own_module

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\.[A-Z]\w*")
# Gymnasium's way to say which module registers an environment.
_ENVIRONMENT = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):[\w/.-]+-v\d+")
LIBRARIES = ("trellis", "torch", "lightning", "torch_geometric")


def import_own(words: list[str], configs: list[Any]) -> None:
    """Import the modules of classes and environments that are typed, also from the working folder.

    Args:
        words: the command line after ``trellis``; never what a checkpoint says.
        configs: contents of the config files.
    Raises:
        ValueError: no such module or class, or the module's own error with its file and line.
    """
    sections = ("model", "data", "trainer")
    typed = [value for name, value in options(words) if name.partition(".")[0] in sections]
    for value in dict.fromkeys([*typed, *_texts(configs)]):
        if not isinstance(value, str) or os.path.exists(value):
            continue
        if _CLASS.fullmatch(value):
            _import(value)
        elif environment := _ENVIRONMENT.fullmatch(value):
            import_own_module(environment[1], value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _import(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    if module.partition(".")[0] in LIBRARIES:
        return
    found = import_own_module(module, name)
    if not hasattr(found, attribute):
        raise ValueError(
            f"{name}: the module {module} has no {attribute}{did_you_mean(attribute, vars(found))}"
        )
