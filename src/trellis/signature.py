"""Constructors that pass ``**options`` on to a function, with a signature that names them."""

from collections.abc import Callable
from inspect import signature
from typing import TypeVar

Init = TypeVar("Init", bound=Callable[..., None])


def options_of(function: Callable[..., object]) -> Callable[[Init], Init]:
    """Decorates an ``__init__`` whose ``**options`` are keyword arguments of ``function``.

    ``help``, the command line and the errors of a factory that does not fit then show each of
    them, and a misspelt one is refused by name; only ``function`` lists and documents them.

    Args:
        function: takes the options as keyword-only arguments.

    >>> def scale(x, *, factor=2.0): ...
    >>> class Scaler:
    ...     @options_of(scale)
    ...     def __init__(self, shape, **options): ...
    >>> from inspect import signature
    >>> signature(Scaler)
    <Signature (shape, *, factor=2.0)>
    """

    def decorate(init: Init) -> Init:
        own, others = signature(init), signature(function).parameters.values()
        named = [p for p in own.parameters.values() if p.kind is not p.VAR_KEYWORD]
        options = [p for p in others if p.kind is p.KEYWORD_ONLY]
        init.__signature__ = own.replace(parameters=[*named, *options])  # type: ignore[attr-defined]
        init.__doc__ = function.__doc__
        return init

    return decorate
