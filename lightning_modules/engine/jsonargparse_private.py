"""All that touches private names of jsonargparse; no other file does.

Each function has a test in ``test_jsonargparse_private.py`` that fails with a sentence saying what
a new release changed.
"""

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from jsonargparse import ArgumentParser, _typehints

# Of two classes of one name the one that says what it monitors.
PREFERRED = ("lightning.pytorch.cli.ReduceLROnPlateau",)


@contextmanager
def trellis_names_first() -> Iterator[None]:
    """Read a command line as its user means it; jsonargparse offers no hooks for this.

    ``GCN`` means trellis's class where torch_geometric has one of that name too. Another class
    starts from its own defaults: of the class it replaces it keeps only what was chosen, not
    what happened to be the default there.
    """
    find, discard = (
        _typehints.get_all_subclass_paths,
        _typehints.discard_init_args_on_class_path_change,
    )

    def find_trellis_first(*args: Any, **options: Any) -> list[str]:
        paths = find(*args, **options)
        first = [path for path in paths if path.startswith(("trellis.", *PREFERRED))]
        names = {path.rsplit(".", 1)[-1] for path in first}
        return [path for path in paths if path in first or path.rsplit(".", 1)[-1] not in names]

    def discard_defaults(parser_or_action: Any, previous: Any, value: Any) -> None:
        if previous and "init_args" in previous and previous["class_path"] != value["class_path"]:
            replaced = _typehints.import_object(previous["class_path"])
            for name, parameter in inspect.signature(replaced).parameters.items():
                if previous["init_args"].get(name, inspect.Parameter.empty) == parameter.default:
                    previous["init_args"].pop(name, None)
        discard(parser_or_action, previous, value)

    _typehints.get_all_subclass_paths = find_trellis_first
    _typehints.discard_init_args_on_class_path_change = discard_defaults
    try:
        yield
    finally:
        _typehints.get_all_subclass_paths = find
        _typehints.discard_init_args_on_class_path_change = discard


def subclass_paths(base: type) -> list[str]:
    """Dotted paths of the imported classes that a short name for ``base`` may mean."""
    with trellis_names_first():
        return list(_typehints.get_all_subclass_paths(base))


def option_names(parser: ArgumentParser) -> list[str]:
    """Every ``--option`` of a parser, sorted."""
    options = {word for action in parser._actions for word in action.option_strings}
    return sorted(option for option in options if option.startswith("--"))


def plain_factories(owner: Any) -> None:
    """Replace the factories that the parser has made by partials of their classes alone.

    Its own refer to the parser: they can be neither copied, as ``EMAWeightAveraging`` does with
    the whole module, nor pickled.

    Args:
        owner: whose attributes are changed.
    """
    for name, value in list(vars(owner).items()):
        if (plain := _plain_factory(value)) is not value:
            setattr(owner, name, plain)


def _plain_factory(value: Any) -> Any:
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        items = [_plain_factory(item) for item in value]
        changed = any(a is not b for a, b in zip(items, value, strict=True))
        return type(value)(items) if changed else value
    if not isinstance(value, partial) or not value.args:
        return value
    if not getattr(value.func, "__module__", "").startswith("jsonargparse"):
        return value
    *_, made = value.args  # its instantiator, then the class
    return partial(made, **{name: _plain_factory(item) for name, item in value.keywords.items()})
