"""What functions and classes take, and constructors that pass ``**options`` on."""

from collections.abc import Callable, Iterator
from functools import cache
from inspect import Parameter, signature
from typing import Any, TypeVar

Init = TypeVar("Init", bound=Callable[..., None])
VARIADIC = (Parameter.VAR_KEYWORD, Parameter.VAR_POSITIONAL)


def options_of(target: Callable[..., object]) -> Callable[[Init], Init]:
    """Decorates an ``__init__`` whose ``**options`` are keyword arguments of ``target``.

    ``help``, the command line and the errors of a factory that does not fit then show each of
    them, and a misspelt one is refused by name; only ``target`` lists and documents them. An
    argument that ``__init__`` names itself is no option: it may have another default.

    Args:
        target: a function or a class that takes the options as keyword-only arguments.

    >>> def scale(x, *, factor=2.0): ...
    >>> class Scaler:
    ...     @options_of(scale)
    ...     def __init__(self, shape, **options): ...
    >>> from inspect import signature
    >>> signature(Scaler)
    <Signature (shape, *, factor=2.0)>
    """

    def decorate(init: Init) -> Init:
        own, others = signature(init), signature(target).parameters.values()
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        taken = {p.name for p in named}
        options = [p for p in others if p.kind is p.KEYWORD_ONLY and p.name not in taken]
        init.__signature__ = own.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
        init.__annotations__ |= {p.name: p.annotation for p in options}
        init.__doc__ = target.__doc__
        return init

    return decorate


@cache
def constructors(cls: type) -> tuple[Callable[..., None], ...]:
    """``__init__`` of a class, and those of its bases that it passes further arguments on to."""
    return tuple(_chain(cls))


def _chain(cls: type) -> Iterator[Any]:
    for init in (vars(each)["__init__"] for each in cls.__mro__ if "__init__" in vars(each)):
        yield init
        if not any(p.kind in VARIADIC for p in signature(init).parameters.values()):
            return


def takes(function: Callable[..., Any], name: str) -> bool:
    """Whether a function, or a class, has an argument of this name.

    >>> takes(sorted, "key"), takes(sorted, "keys"), takes(dict, "key")
    (True, False, False)
    """
    try:
        return name in signature(function).parameters
    except (TypeError, ValueError):  # a builtin
        return False


def reads(network: object, name: str) -> bool:
    """Whether ``forward`` of a network has an argument of this name; a step may ask."""
    return _reads(type(network).forward, name)  # type: ignore[attr-defined]


@cache
def _reads(forward: Callable[..., Any], name: str) -> bool:
    return takes(forward, name)


def arguments_of(cls: type) -> dict[str, Parameter]:
    """Arguments of a class by name, those that it passes on to its base included.

    >>> class Shape:
    ...     def __init__(self, *, colour="red"): ...
    >>> class Circle(Shape):
    ...     def __init__(self, radius, **options):
    ...         super().__init__(**options)
    >>> [*arguments_of(Circle)]
    ['radius', 'colour']
    """
    return _arguments(cls)


@cache
def _arguments(cls: type) -> dict[str, Parameter]:
    found: dict[str, Parameter] = {}
    for init in constructors(cls):
        for parameter in [*signature(init).parameters.values()][1:]:
            if parameter.kind not in VARIADIC and parameter.name not in found:
                passed_on = init is not constructors(cls)[0]
                kind = Parameter.KEYWORD_ONLY if passed_on else parameter.kind
                found[parameter.name] = parameter.replace(kind=kind)
    return found
