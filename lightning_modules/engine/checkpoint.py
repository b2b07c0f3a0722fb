"""Checkpoints opened without naming a class, and without running what they hold."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import Tensor

from trellis.hyperparameters import INSTANTIATOR
from trellis.lightning_modules.engine.checkpoint_file import verify
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.rebuild import checked, rebuilt
from trellis.lightning_modules.engine.registry import refused, registered_class
from trellis.lightning_modules.engine.upgrade import FORMAT, upgrade
from trellis.lightning_modules.engine.vouching import forget_unsigned
from trellis.signature import arguments_of

# Entries that objects are made of, and what their class must be.
SECTIONS: dict[str, type] = {
    "hyper_parameters": L.LightningModule,
    "datamodule_hyper_parameters": L.LightningDataModule,
}


def read(
    path: str | Path, *, weights: bool = True, rebuilt: Sequence[str] = tuple(SECTIONS)
) -> dict[str, Any]:
    """Contents of a checkpoint that trellis wrote; nothing in it is executed.

    Args:
        path: a file.
        weights: false maps the tensors to the ``meta`` device, so that no weights are read.
        rebuilt: entries that the caller makes objects of; what they name must be registered.
    Raises:
        FileNotFoundError, OSError: see ``verify``.
        ValueError: not a trellis checkpoint, one of a later format, one that holds code or names
            what a checkpoint may not name.
    """
    verify(path)
    device = "cpu" if weights else "meta"
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=not weights)
    except Exception as error:  # UnpicklingError and whatever a forged file provokes
        raise refused(str(path), f"it holds more than plain data: {_first_line(error)}") from None
    _upgraded(checkpoint, path)
    for entry in rebuilt:
        _check_section(checkpoint, entry, str(path))
    return checkpoint


def _upgraded(checkpoint: Any, path: str | Path) -> None:
    """Bring a checkpoint to today's format, if trellis wrote it."""
    about = checkpoint.get("trellis") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ValueError(f"{path} was not written by trellis: it names no objective")
    if about["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {about['format']}, this version of trellis reads up to {FORMAT}: "
            f"upgrade torch-trellis"
        )
    upgrade(checkpoint)


def _check_section(checkpoint: dict[str, Any], entry: str, path: str) -> None:
    """Refuse hyper-parameters of which something else might be made than they are for."""
    parameters, base = checkpoint.get(entry, {}), SECTIONS[entry]
    _require_section(parameters, path)
    if (name := parameters.get("_class_path")) is None:
        return
    cls = registered_class(name, path)
    if not issubclass(cls, base):
        raise ValueError(f"{path} is refused: {name} is no {base.__name__}")
    checked(cls, parameters, path)
    forget_unsigned(cls, parameters, checkpoint["trellis"].get("files"), path)


def _require_section(parameters: Any, path: str) -> None:
    if not isinstance(parameters, dict):
        raise ValueError(f"{path} is refused: its hyper-parameters are no mapping")
    if (name := parameters.get("_instantiator", INSTANTIATOR)) != INSTANTIATOR:
        raise ValueError(f"{path} is refused: it is to be rebuilt by {name!r}")


def load(path: str | Path, **overrides: Any) -> Objective:
    """The objective that a checkpoint holds, with its weights, in evaluation mode on the CPU.

    Args:
        path: a file written by a trellis run.
        overrides: constructor arguments that replace the saved ones, such as ``network=``.
    Raises:
        FileNotFoundError, OSError: see ``verify``.
        ValueError: see ``read``; an unknown override, or one that does not fit the weights.
    """
    return rebuild(read(path, rebuilt=()), path, **overrides)


def rebuild(checkpoint: dict[str, Any], path: str | Path, **overrides: Any) -> Objective:
    """The objective of a checkpoint that has been read, in evaluation mode on the CPU.

    Args:
        checkpoint: with ``trellis``, ``hyper_parameters`` and ``state_dict``.
        path: what errors call its origin.
        overrides: see ``load``.
    Raises:
        ValueError: see ``load``.
    """
    _upgraded(checkpoint, path)
    hparams = checkpoint.setdefault("hyper_parameters", {})
    _require_section(hparams, str(path))
    cls = _objective_class(hparams, path)
    known = arguments_of(cls)
    if unknown := [name for name in overrides if name not in known]:
        raise ValueError(f"{cls.__name__} takes no {unknown[0]}; it takes {', '.join(known)}")
    saved = {name: hparams[name] for name in known if name in hparams and name not in overrides}
    weights = checkpoint["state_dict"]
    try:
        _require_sizes(cls, saved, overrides, weights, str(path))
        objective = cls(**rebuilt(cls, saved, str(path)), **overrides)
        hparams.update(overrides)  # what Lightning does when it loads
        objective.on_load_checkpoint(checkpoint)
        objective.configure_model()
    except (ValueError, OSError):
        raise
    except Exception as error:  # whatever a constructor says to wrong arguments
        raise ValueError(
            f"{path}: {cls.__name__} cannot be rebuilt: {_first_line(error)}"
        ) from error
    try:
        objective.load_state_dict(weights)
    except RuntimeError as error:
        first = str(error).splitlines()[1].strip()
        raise ValueError(f"{path}: its weights do not fit the network: {first}") from None
    return objective.eval()


def _objective_class(hparams: dict[str, Any], path: str | Path) -> type[Objective]:
    name = hparams.get("_class_path")
    if name is None:
        raise ValueError(
            f"{path} holds an objective whose class cannot be imported by name: load it with "
            f"YourClass.load_from_checkpoint(path)"
        )
    cls = registered_class(name, str(path))
    if not issubclass(cls, Objective):
        advice = f"load it with {cls.__name__}.load_from_checkpoint(path)"
        raise refused(str(path), f"{name} is not a trellis objective; {advice}")
    return cls


def _require_sizes(
    cls: type[Objective],
    saved: dict[str, Any],
    overrides: dict[str, Any],
    weights: dict[str, Tensor],
    path: str,
) -> None:
    """Refuse sizes that the file does not hold, before memory is asked for.

    The objective is built on torch's ``meta`` device, which allocates nothing. An overridden
    network is the caller's own.
    """
    for name, value in weights.items():
        held = value.untyped_storage().nbytes() if value.layout == torch.strided else math.inf
        if value.numel() * value.element_size() > held:
            raise ValueError(f"{path} is refused: {name} claims more numbers than it holds")
    if overrides:
        return
    try:
        with torch.device("meta"):
            shadow = cls(**rebuilt(cls, saved, path))
            shadow.configure_model()
    except RuntimeError:  # of a user's class, whose constructor needs values
        return
    held = sum(value.numel() for value in weights.values())
    claimed = sum(value.numel() for value in shadow.state_dict().values())
    if claimed > max(2 * held, 1 << 20):
        raise ValueError(
            f"{path}: its weights do not fit the network: it claims {claimed:,} numbers, the "
            f"file holds {held:,}"
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
