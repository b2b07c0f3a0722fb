"""The user's own classes that a command line names: imported, or refused with the real error.

The parser tries many readings of a name and tells only that none fits; an error inside the user's
module would never be seen.
"""

import os
import re
import sys
import traceback
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from trellis.index import did_you_mean
from trellis.lightning_modules.commands.precheck import options

_CLASS = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*\.[A-Z]\w*")
LIBRARIES = ("trellis", "torch", "lightning", "torch_geometric")


def import_own(words: list[str], configs: list[Any]) -> None:
    """Import the modules of classes that are typed, also from the working folder.

    Args:
        words: the command line after ``trellis``; never what a checkpoint says.
        configs: contents of the config files.
    Raises:
        ValueError: no such module or class, or the module's own error with its file and line.
    """
    sections = ("model", "data", "trainer")
    typed = [value for name, value in options(words) if name.partition(".")[0] in sections]
    for value in dict.fromkeys([*typed, *_texts(configs)]):
        if isinstance(value, str) and _CLASS.fullmatch(value) and not os.path.exists(value):
            _import(value)


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)


def _import(name: str) -> None:
    module, _, attribute = name.rpartition(".")
    package = module.partition(".")[0]
    if package in LIBRARIES:
        return
    if not _is_found(package):
        # Last, so that nothing there takes the place of what is installed.
        sys.path.append(os.getcwd())
    if not _is_found(package):
        raise ValueError(
            f"{name}: there is no module {package}; install it, or start trellis in the folder "
            f"that holds {package}.py"
        )
    try:
        found = import_module(module)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"{name} cannot be imported: {_where(error)}") from error
    if not hasattr(found, attribute):
        raise ValueError(
            f"{name}: the module {module} has no {attribute}{did_you_mean(attribute, vars(found))}"
        )


def _is_found(package: str) -> bool:
    try:
        return package in sys.modules or find_spec(package) is not None
    except ValueError:
        return False


def _where(error: Exception) -> str:
    """The error in one line, with the file and the line of the user's code that it comes from."""
    text = f"{type(error).__name__}: {' '.join(str(error).split())}"
    if isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno}: {type(error).__name__}: {error.msg}"
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith("<") and frame.filename != __file__
    ]
    own = [frame for frame in frames if f"{os.sep}site-packages{os.sep}" not in frame.filename]
    own = [frame for frame in own if f"{os.sep}importlib{os.sep}" not in frame.filename]
    return f"{own[-1].filename}, line {own[-1].lineno}: {text}" if own else text
