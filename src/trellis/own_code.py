"""Code of the user's own: found, imported before anything else, and trusted.

``trellis --import my_module`` and ``TRELLIS_IMPORT=my_module`` name it. What a checkpoint says is
never imported because of the checkpoint.
"""

import os
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

IMPORT, TRUST = "TRELLIS_IMPORT", "TRELLIS_TRUST"
# Packages of environments, which only register what they have when they are imported.
ENVIRONMENTS = ("ale_py", "gymnasium", "gymnasium_robotics", "minigrid", "shimmy")


def import_first() -> list[ModuleType]:
    """Import the modules that ``TRELLIS_IMPORT`` names, with commas between.

    Raises:
        ValueError: no such module or file, or the module's own error with its file and line.
    """
    return [import_own_module(name, f"--import {name}") for name in _listed(IMPORT)]


@contextmanager
def named(modules: Sequence[str]) -> Iterator[None]:
    """In here, and in processes started from here, ``TRELLIS_IMPORT`` names these modules, too.

    Args:
        modules: dotted names, or paths of ``.py`` files.
    """
    before = os.environ.get(IMPORT)
    names = [str(Path(name).absolute()) if _is_path(name) else name for name in modules]
    if names:
        os.environ[IMPORT] = ",".join(dict.fromkeys([*_listed(IMPORT), *names]))
    try:
        yield
    finally:
        if before is not None:
            os.environ[IMPORT] = before
        elif names:
            del os.environ[IMPORT]


def trusted_packages() -> list[str]:
    """Packages whose classes a checkpoint may name: those of ``TRELLIS_IMPORT`` and of
    ``TRELLIS_TRUST``, which imports nothing.
    """
    imported = [_module_name(name).partition(".")[0] for name in _listed(IMPORT)]
    return [*os.environ.get(TRUST, "").replace(",", " ").split(), *imported]


def registers_environments(module: str) -> bool:
    """Whether importing ``module`` for its environments is safe, whoever asks for it."""
    return module.partition(".")[0] in (*ENVIRONMENTS, *trusted_packages())


def how_to_trust(package: str) -> str:
    """What to type so that a checkpoint may name classes and environments of ``package``."""
    return f"if you know it, add --import {package}, or set {TRUST}={package}"


def own_names() -> set[str]:
    """Names that the modules of ``TRELLIS_IMPORT`` define, once these are imported."""
    modules = [sys.modules.get(_module_name(name)) for name in _listed(IMPORT)]
    return {name for module in modules if module is not None for name in vars(module)}


def import_own_module(name: str, asked: str) -> ModuleType:
    """Import a module of the user's, also from the working folder.

    Args:
        name: dotted name, or path of a ``.py`` file.
        asked: what asked for it, for the message.
    Raises:
        ValueError: no such module or file, or the module's own error with its file and line.
    """
    module = _module_name(name)
    if _is_path(name):
        if not Path(name).is_file():
            raise ValueError(f"{asked}: there is no file {name}")
        make_importable(module, str(Path(name).resolve().parent))
    elif not make_importable(module.partition(".")[0]):
        package = module.partition(".")[0]
        raise ValueError(
            f"{asked}: there is no module {package}; install it, or start trellis in the folder "
            f"that holds {package}.py"
        )
    try:
        found = import_module(module)
    except Exception as error:  # whatever the user's code raises
        raise ValueError(f"{asked} cannot be imported: {_where(error)}") from error
    if _is_path(name) and Path(found.__file__ or "").resolve() != Path(name).resolve():
        raise ValueError(
            f"{asked}: {module} is the name of {found.__file__}, too: rename the file"
        )
    return found


def make_importable(package: str, folder: str | None = None) -> bool:
    """Whether there is a package of this name; ``folder`` is searched last.

    Args:
        package: its name, without dots.
        folder: the working folder by default.
    """
    if not _is_found(package):
        # Last, so that nothing there takes the place of what is installed.
        sys.path.append(os.getcwd() if folder is None else folder)
    return _is_found(package)


def _listed(variable: str) -> list[str]:
    return [name.strip() for name in os.environ.get(variable, "").split(",") if name.strip()]


def _is_path(name: str) -> bool:
    return name.endswith(".py")


def _module_name(name: str) -> str:
    return Path(name).stem if _is_path(name) else name


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
