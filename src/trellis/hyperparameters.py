"""Hyper-parameters as plain types, so that a checkpoint opens with ``weights_only=True``.

A class, a partial or a dataclass is stored as the ``class_path`` / ``init_args`` mapping that the
command line uses in YAML; callables are never pickled.
"""

import copy
import inspect
import numbers
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict, is_dataclass
from enum import Enum
from functools import partial
from types import FrameType
from typing import Any

from trellis.index import public_path
from trellis.signature import arguments_of

# An instantiator on the allow-list of Lightning, which calls it to rebuild a module.
INSTANTIATOR = "lightning.pytorch.cli.instantiate_module"
BOOKKEEPING = ("_class_path", "_instantiator")  # in ``hparams`` beside the arguments


def class_path(obj: Any) -> str:
    """Dotted name under which ``obj`` can be imported.

    Raises:
        ValueError: there is none (a lambda, a local class, a class of ``__main__``).

    >>> class_path(torch.nn.ReLU)
    'torch.nn.modules.activation.ReLU'
    """
    module, name = getattr(obj, "__module__", None), getattr(obj, "__qualname__", "<")
    if "<" in name or module in (None, "__main__"):
        raise ValueError(f"{name} cannot be imported by name")
    if getattr(sys.modules.get(module), name, None) is not obj:
        raise ValueError(f"the name {module}.{name} imports another object")
    return public_path(f"{module}.{name}")


def importable_name(obj: Any) -> str | None:
    """``class_path`` of ``obj``, or ``None`` if it has none, as a class in a notebook."""
    try:
        return class_path(obj)
    except ValueError:
        return None


def to_plain(value: Any) -> Any:
    """``value`` in plain types, as the command line would write it in YAML.

    Raises:
        ValueError: there is no such form (an instance, a partial with positional arguments).

    >>> to_plain(partial(torch.optim.Adam, lr=0.1))
    {'class_path': 'torch.optim.adam.Adam', 'init_args': {'lr': 0.1}}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if (scalar := _scalar_to_plain(value)) is not None:
        return scalar
    if isinstance(value, partial):
        return _partial_to_plain(value)
    if isinstance(value, type):
        return {"class_path": class_path(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return to_plain(asdict(value))
    if isinstance(value, (list, tuple)):
        return [to_plain(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_plain(item) for key, item in value.items()}
    if inspect.isroutine(value):
        return class_path(value)
    raise ValueError(f"an object of type {type(value).__name__}")


def _scalar_to_plain(value: Any) -> bool | int | float | str | None:
    """Plain form of a path, an enum member, a NumPy number or string; ``None`` for anything else.

    Subclasses of ``float`` and ``str`` look plain, but ``weights_only=True`` refuses them.
    """
    if isinstance(value, Enum):  # the command line takes members by name
        return value.name
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, str):
        return str(value)
    if type(value).__module__ == "numpy" and type(value).__name__.startswith("bool"):
        return bool(value)
    if isinstance(value, numbers.Integral):
        return int(value)
    return float(value) if isinstance(value, numbers.Real) else None


def _partial_to_plain(value: partial) -> dict[str, Any]:
    function, args = value.func, value.args
    # jsonargparse passes a factory as partial(its_instantiator, the_class, **init_args).
    if getattr(function, "__module__", "").startswith("jsonargparse") and args:
        function, args = args[-1], ()
    if args or not isinstance(function, type):
        raise ValueError("a partial of a function or with positional arguments")
    init_args = {key: to_plain(item) for key, item in value.keywords.items()}
    return {"class_path": class_path(function), "init_args": init_args}


def _distance_from_caller(obj: Any, frame: FrameType | None) -> int:
    """For ``warn`` of the function that ``frame`` called: to who called the constructor."""
    level = 2
    while frame is not None and frame.f_locals.get("self") is obj:
        frame, level = frame.f_back, level + 1
    return level


class PlainHyperparameters:
    """Mixin before ``LightningModule`` or ``LightningDataModule``: ``hparams`` in plain types.

    An argument without a plain form is left out, with a warning to give it again on loading.
    """

    hparams: Any
    unsaved: tuple[str, ...] = ()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        cls.__signature__ = inspect.Signature([*arguments_of(cls).values()])  # type: ignore[attr-defined]

    def save_hyperparameters(
        self,
        *args: Any,
        ignore: Any = None,
        frame: FrameType | None = None,
        logger: bool = True,
    ) -> None:
        """Lightning's ``save_hyperparameters``, then every value in its plain form.

        Called in the constructor of a base, it keeps the arguments of the class that is built.
        """
        caller = frame or inspect.currentframe().f_back  # type: ignore[union-attr]
        self.hparams.pop("_instantiator", None)  # of an earlier call
        super().save_hyperparameters(*args, ignore=ignore, frame=caller, logger=logger)  # type: ignore[misc]
        hparams = self.hparams
        if not args:  # a base keeps arguments too that its subclass sets by itself
            for name in hparams.keys() - arguments_of(type(self)).keys() - {*BOOKKEEPING}:
                del hparams[name]
        if "_instantiator" in hparams:  # built by the command line: already plain
            return
        unsaved = []
        for name in list(hparams):
            try:
                hparams[name] = to_plain(hparams[name])
            except ValueError as error:
                unsaved.append(name)
                del hparams[name]
                warnings.warn(
                    f"{type(self).__name__}({name}=...) is {error}: it is not in the checkpoint, "
                    f"give {name}= again on loading",
                    stacklevel=_distance_from_caller(self, caller),
                )
        if (path := importable_name(type(self))) is not None:
            hparams["_class_path"] = path
        hparams["_instantiator"] = INSTANTIATOR
        self.unsaved = tuple(unsaved)

    @property
    def hparams_initial(self) -> Any:
        """A copy of the hyper-parameters, which Lightning hands to loggers."""
        return copy.deepcopy(self.hparams)
