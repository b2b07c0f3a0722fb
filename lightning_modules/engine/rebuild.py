"""Objects from the hyper-parameters of a checkpoint, without running what it says.

Plain values stay plain: a text is never parsed, imported or called, however much it looks like a
name or like YAML. A ``class_path`` counts only where the constructor's annotation asks for an
object or a factory, and only for a class of ``registry``.
"""

import re
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache, partial
from pathlib import PurePath
from typing import Any, Literal, Union, get_args, get_origin

import yaml

from trellis.hyperparameters import BOOKKEEPING
from trellis.lightning_modules.engine.registry import refused, registered_class
from trellis.own_code import how_to_trust, registers_environments
from trellis.signature import arguments_of, constructors

_PLAIN = (bool, int, float, str, type(None))


def rebuilt(cls: type, plain: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Constructor arguments of ``cls`` with objects and factories where it takes them.

    Args:
        cls: whose constructor they are for.
        plain: as ``to_plain`` left them.
        source: what errors call the origin of the arguments.
    Raises:
        ValueError: a name that is not registered, a mapping where no object is taken, or a
            constructor that refuses its arguments.
    """
    hints = annotations(cls)
    return {
        name: _rebuild(value, hints.get(name, Any), f"{cls.__name__}.{name}", source)
        for name, value in plain.items()
        if name not in BOOKKEEPING
    }


def checked(cls: type, plain: Mapping[str, Any], source: str) -> None:
    """Refuse what ``rebuilt`` would refuse, and any text that another parser might resolve.

    For arguments that go through the command line's parser, which reads YAML and imports names.

    Raises:
        ValueError: see ``rebuilt``; a text that reads as more than itself.
    """
    hints = annotations(cls)
    for name, value in plain.items():
        if name not in BOOKKEEPING:
            _require_plain_key(name, cls.__name__, source)
            _check(value, hints.get(name, Any), f"{cls.__name__}.{name}", source)


@cache
def annotations(cls: type) -> dict[str, Any]:
    """Annotations of the arguments of ``cls``, those that it passes on to its base included."""
    found: dict[str, Any] = {}
    for init in constructors(cls):
        try:
            hints = typing.get_type_hints(init, include_extras=True)
        except Exception:  # names that exist for type checkers alone
            hints = getattr(init, "__annotations__", {})
        found = hints | found
    return {name: found[name] for name in arguments_of(cls) if name in found}


def is_marked(hint: Any, mark: str) -> bool:
    """Whether an annotation or a part of it is ``Annotated[..., mark]``."""
    if get_origin(hint) is typing.Annotated and mark in get_args(hint)[1:]:
        return True
    return any(is_marked(each, mark) for each in get_args(hint))


def _rebuild(value: Any, hint: Any, where: str, source: str) -> Any:
    if _names_a_class(value):
        cls, init_args = _described(value, hint, where, source)
        options = rebuilt(cls, init_args, source)
        if _takes(hint, _is_factory):
            return partial(cls, **options)
        try:
            return cls(**options)
        except Exception as error:  # whatever a constructor says to wrong arguments
            raise ValueError(
                f"{source}: {where} cannot be rebuilt: {_first_line(error)}"
            ) from error
    if isinstance(value, Mapping):
        return _rebuild_mapping(value, hint, where, source)
    if isinstance(value, (list, tuple)):
        items = [_rebuild(item, _item_hint(hint), where, source) for item in value]
        return tuple(items) if _takes(hint, _is_tuple) else items
    if isinstance(value, str) and _takes_no_text(hint):
        raise ValueError(_no_class(value, where, source))
    _require_plain(value, where, source)
    _require_known_environment(value, where, source)
    return value


def _rebuild_mapping(value: Mapping[str, Any], hint: Any, where: str, source: str) -> Any:
    record = next((each for each in _members(hint) if is_dataclass(each)), None)
    if record is None:
        return {key: _rebuild(item, Any, where, source) for key, item in value.items()}
    hints = typing.get_type_hints(record)
    known = {field.name for field in fields(record)}
    if unknown := [name for name in value if name not in known]:
        raise ValueError(f"{source}: {where} has no {unknown[0]}")
    made = {n: _rebuild(item, hints[n], f"{where}.{n}", source) for n, item in value.items()}
    for name, item in made.items():
        if not _fits(item, hints[name]):
            raise ValueError(f"{source}: {where}.{name} cannot be rebuilt from {item!r}")
    try:
        return record(**made)  # type: ignore[operator]
    except Exception as error:
        raise ValueError(f"{source}: {where} cannot be rebuilt: {_first_line(error)}") from error


def _no_class(value: str, where: str, source: str) -> str:
    argument = where.rpartition(".")[2]
    return (
        f"{source} is refused: {where} names {value[:60]!r}, and only classes are built from a "
        f"checkpoint; load it with {argument}=..."
    )


def _check(value: Any, hint: Any, where: str, source: str) -> None:
    if _names_a_class(value):
        cls, init_args = _described(value, hint, where, source)
        checked(cls, init_args, source)
    elif isinstance(value, Mapping):
        record = next((each for each in _members(hint) if is_dataclass(each)), None)
        if record is None and not _takes(hint, _is_mapping):
            raise refused(source, f"{where} takes no mapping without a class_path")
        hints = typing.get_type_hints(record) if record is not None else {}
        for key, item in value.items():
            _require_plain_key(key, where, source, dotted=record is None)
            _check(item, hints.get(key, Any), f"{where}.{key}", source)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _check(item, _item_hint(hint), where, source)
    elif isinstance(value, str) and not _is_only_text(hint):
        if _takes_no_text(hint) or (_takes(hint, _is_object) and re.search(r"[./\\:]", value)):
            raise ValueError(_no_class(value, where, source))
        if not _means_itself(value):
            reason = "is a text that reads as more than a word"
            raise refused(source, f"{where} {reason}: {value[:60]!r}")
    else:
        _require_plain(value, where, source)
        _require_known_environment(value, where, source)


def _described(
    value: Mapping[str, Any], hint: Any, where: str, source: str
) -> tuple[type, Mapping[str, Any]]:
    """The class that a mapping names, and its arguments."""
    if not _takes(hint, _is_object):
        raise refused(source, f"{where} takes no object, but names a class")
    if extra := set(value) - {"class_path", "init_args"}:
        raise refused(source, f"{where} has {sorted(extra)[0]!r} beside its class")
    init_args = value.get("init_args") or {}
    if not isinstance(init_args, Mapping):
        raise refused(source, f"the init_args of {where} are no mapping")
    cls = registered_class(value["class_path"], source)
    if not any(_provides(cls, each) for each in _members(hint)):
        raise refused(source, f"{where} takes no {cls.__name__}")
    return cls, init_args


def _provides(cls: type, hint: Any) -> bool:
    """Whether ``cls`` is what an annotation asks for, or makes it where that is a factory."""
    if _is_factory(hint):
        return any(_provides(cls, each) for each in _members(_made_by(hint)))
    if getattr(hint, "_is_protocol", False):
        return all(hasattr(cls, name) for name in vars(hint) if callable(getattr(hint, name)))
    return _is_class(hint) and issubclass(cls, hint)


def _made_by(factory: Any) -> Any:
    """What a factory's annotation says that it returns."""
    if _is_class(factory):
        return typing.get_type_hints(factory.__call__).get("return", Any)
    arguments = get_args(factory)
    return arguments[-1] if arguments else Any


def _names_a_class(value: Any) -> bool:
    return isinstance(value, Mapping) and "class_path" in value


def _members(hint: Any) -> Iterator[Any]:
    """The alternatives of an annotation."""
    if get_origin(hint) in (Union, types.UnionType):
        for each in get_args(hint):
            yield from _members(each)
    elif get_origin(hint) is typing.Annotated:
        yield from _members(get_args(hint)[0])
    else:
        yield hint


def _is_class(hint: Any) -> bool:
    """Whether an annotation is a class; Python 3.10 calls ``list[int]`` a type as well."""
    return isinstance(hint, type) and get_origin(hint) is None


def _takes(hint: Any, kind: Callable[[Any], bool]) -> bool:
    return any(kind(each) for each in _members(hint))


def _is_factory(hint: Any) -> bool:
    """``Callable``, ``type[X]`` or a protocol with ``__call__``."""
    if _is_class(hint) and getattr(hint, "_is_protocol", False):
        return "__call__" in vars(hint)
    return hint is Callable or get_origin(hint) in (Callable, type)


def _is_object(hint: Any) -> bool:
    if _is_factory(hint):
        return True
    if get_origin(hint) not in (None, Literal):  # a list of objects, or another container
        return any(_takes(each, _is_object) for each in get_args(hint))
    is_object = _is_class(hint) and not is_dataclass(hint) and not _is_text(hint)
    return is_object and hint not in (*_PLAIN, list, tuple, dict, object, Any)


def _is_tuple(hint: Any) -> bool:
    return hint is tuple or get_origin(hint) is tuple


def _is_text(hint: Any) -> bool:
    named = _is_class(hint) and issubclass(hint, (str, Enum, PurePath))
    return named or get_origin(hint) is Literal


def _is_only_text(hint: Any) -> bool:
    return all(_is_text(each) or each is type(None) for each in _members(hint)) and hint is not Any


def _takes_no_text(hint: Any) -> bool:
    """Whether another parser would take a text for the name of a class or of a config file."""
    objects = _takes(hint, lambda each: _is_object(each) or is_dataclass(each))
    return objects and not _takes(hint, lambda each: _is_text(each) or each in (Any, object))


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint) or hint
    return origin in (Any, object) or (isinstance(origin, type) and issubclass(origin, Mapping))


def _item_hint(hint: Any) -> Any:
    for each in _members(hint):
        if get_origin(each) is not None and get_args(each) and not _is_factory(each):
            return get_args(each)[0]
    return Any


def _means_itself(text: str) -> bool:
    """Whether YAML and JSON read a text as itself or as a number, and nothing would import it."""
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError:
        return False
    return isinstance(found, _PLAIN)


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value is of an annotated type; what is not plain is not judged."""
    for each in _members(hint):
        origin = get_origin(each) or each
        if origin is Literal:
            if value in get_args(each):
                return True
        elif origin is float:
            if isinstance(value, (int, float)) and not isinstance(value, bool):
                return True
        elif origin is int:
            if isinstance(value, int) and not isinstance(value, bool):
                return True
        elif not isinstance(origin, type) or isinstance(value, origin):
            return True
    return False


def _require_known_environment(value: Any, where: str, source: str) -> None:
    """Gymnasium imports what stands before the colon of an environment's id."""
    if where.endswith(".environment") and isinstance(value, str) and ":" in value:
        module = value.partition(":")[0]
        if not registers_environments(module):
            package = module.partition(".")[0]
            reason = f"{where} is {value!r}, from a package that is not trusted"
            raise refused(source, f"{reason}; {how_to_trust(package)}")


def _require_plain_key(key: Any, where: str, source: str, dotted: bool = False) -> None:
    """A parser reads ``a.b`` as ``b`` of ``a``, ``a+`` as a longer list, ``__path__`` a file."""
    if dotted and type(key) in _PLAIN and not str(key).startswith("__"):
        return
    if not isinstance(key, str) or not key.isidentifier() or key.startswith("__"):
        raise refused(source, f"{where} has {key!r}, which names no argument")


def _require_plain(value: Any, where: str, source: str) -> None:
    if type(value) not in _PLAIN:
        raise refused(source, f"{where} holds a {type(value).__name__}")


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
