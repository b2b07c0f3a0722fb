"""Checkpoint files: written whole or not at all, verified before use, opened without a class."""

import errno
import importlib
import importlib.util
import inspect
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from trellis.hyperparameters import INSTANTIATOR
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.upgrade import FORMAT, upgrade

# Where a checkpoint may import from; anything else is refused by name, before it is imported.
TRUSTED = (
    "trellis.",
    "torch.nn.",
    "torch.optim.",
    "torch_geometric.nn.",
    "lightning.pytorch.cli.ReduceLROnPlateau",
)


class AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint appears under its name only when it is whole, and is verified when read."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        """Write beside ``path``, flush to the disk, then rename.

        Raises:
            OSError: the disk is full; what lay at ``path`` before still does.
        """
        if "://" in str(path):  # remote stores publish a file only when it is complete
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        target = Path(path).absolute()
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                torch.save(checkpoint, file)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o666 & ~_umask())
            os.replace(temporary, target)
        except (OSError, RuntimeError) as error:
            free = shutil.disk_usage(target.parent).free
            full = getattr(error, "errno", None) == errno.ENOSPC or "unexpected pos" in str(error)
            if full or free < 1 << 20:
                raise OSError(
                    errno.ENOSPC,
                    f"no space left for {target} ({free} bytes free); the previous checkpoint "
                    f"is untouched",
                ) from error
            raise
        finally:
            Path(temporary).unlink(missing_ok=True)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Contents of ``path``, its checksums verified first.

        Raises:
            FileNotFoundError, OSError: see ``verify``.
        """
        if "://" not in str(path):
            verify(path)
        return upgrade(super().load_checkpoint(path, map_location, weights_only))


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def verify(path: str | Path) -> None:
    """Check that ``path`` is a whole checkpoint file; ``torch.load`` itself checks no CRC.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is cut short, or a byte of it has changed.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    if not zipfile.is_zipfile(path):
        size = Path(path).stat().st_size
        raise OSError(
            f"{path} is not a whole checkpoint ({size} bytes): it was cut short, or is another "
            f"kind of file"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except Exception as error:  # each field of the format has its own way to be wrong
        raise OSError(f"{path} is damaged: {error}") from error
    if damaged:
        raise OSError(f"{path} is damaged: {damaged} has a wrong checksum")


def read(
    path: str | Path,
    *,
    weights: bool = True,
    rebuilt: Sequence[str] = ("hyper_parameters", "datamodule_hyper_parameters"),
) -> dict[str, Any]:
    """Contents of a checkpoint that trellis wrote; nothing in it is executed.

    Args:
        path: a file.
        weights: false maps the tensors to the ``meta`` device, so that no weights are read.
        rebuilt: entries that the caller makes objects of; what they name must be trusted.
    Raises:
        FileNotFoundError, OSError: see ``verify``.
        ValueError: not a trellis checkpoint, one of a later format, one that holds code or names
            what is not trusted.
    """
    verify(path)
    device = "cpu" if weights else "meta"
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=not weights)
    except Exception as error:  # UnpicklingError and whatever a forged file provokes
        raise ValueError(
            f"{path} is refused, it holds more than plain data: {_first_line(error)}"
        ) from None
    about = checkpoint.get("trellis") if isinstance(checkpoint, dict) else None
    if not isinstance(about, dict) or not isinstance(about.get("format"), int):
        raise ValueError(f"{path} was not written by trellis: it names no objective")
    if about["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {about['format']}, this version of trellis reads up to {FORMAT}: "
            f"upgrade torch-trellis"
        )
    upgrade(checkpoint)
    for entry in rebuilt:
        parameters = dict(checkpoint.get(entry, {}))
        if (name := parameters.get("_class_path")) is not None:
            _refuse_untrusted(name, path)
            # A text is never imported: test.csv is no part of Python's package test.
            for text in _texts(name) & parameters.keys():
                del parameters[text]
        for name in _imported_names(parameters):
            _refuse_untrusted(name, path)
    return checkpoint


def _texts(name: str) -> set[str]:
    """Parameters of a class that are annotated as text, such as the paths of data."""
    module, _, attribute = name.rpartition(".")
    parameters = inspect.signature(getattr(importlib.import_module(module), attribute)).parameters
    return {key for key, parameter in parameters.items() if parameter.annotation in _TEXT}


_TEXT = (str, str | None, tuple[str, str], tuple[str, str] | None)


def _imported_names(value: Any, key: str = "") -> Iterator[str]:
    """Every name that rebuilding the objective or the data from these parameters may import."""
    if isinstance(value, dict):
        for name, item in value.items():
            if name != "spec":  # numbers and names of classes: nothing there is imported
                yield from _imported_names(item, name)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _imported_names(item, key)
    elif isinstance(value, str):
        dotted = re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", value) is not None
        if key in ("class_path", "_class_path") or (dotted and _is_installed(value)):
            yield value


def _is_installed(name: str) -> bool:
    """Whether a dotted name begins with a package that is there; imports nothing."""
    try:
        return importlib.util.find_spec(name.partition(".")[0]) is not None
    except ValueError:  # __main__
        return True


def _refuse_untrusted(name: str, path: str | Path) -> None:
    if name == INSTANTIATOR:
        return
    package = name.partition(".")[0]
    if package in os.environ.get("TRELLIS_TRUST", "").split():
        return
    if not name.startswith(TRUSTED):
        raise ValueError(
            f"{path} is refused: it names {name}, from a package that is not trusted. If it is "
            f"your own, set TRELLIS_TRUST={package}"
        )
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError):
        raise ValueError(
            f"{path} is refused: it names {name}, which is not installed here"
        ) from None
    # torch.nn.modules.module.warnings and the like are not torch's.
    home = f"{getattr(found, '__module__', None)}.{getattr(found, '__name__', '')}"
    if not callable(found) or not home.startswith(TRUSTED):
        raise ValueError(f"{path} is refused: {name} is no class of {module}")


def load(path: str | Path, **overrides: Any) -> Objective:
    """The objective that a checkpoint holds, with its weights, in evaluation mode on the CPU.

    Args:
        path: a file written by a trellis run.
        overrides: constructor arguments that replace the saved ones, such as ``network=``.
    Raises:
        FileNotFoundError, OSError: see ``verify``.
        ValueError: see ``read``; an unknown override, or one that does not fit the weights.
    """
    checkpoint = read(path, rebuilt=("hyper_parameters",))
    hparams = checkpoint.setdefault("hyper_parameters", {})
    cls = _objective_class(hparams, path)
    known = inspect.signature(cls).parameters
    if unknown := [name for name in overrides if name not in known]:
        raise ValueError(f"{cls.__name__} takes no {unknown[0]}; it takes {', '.join(known)}")
    saved = {name: hparams[name] for name in known if name in hparams and name not in overrides}
    objective = cls(**_live_arguments(cls, saved, path), **overrides)
    hparams.update(overrides)  # what Lightning does when it loads
    objective.on_load_checkpoint(checkpoint)
    objective.configure_model()
    try:
        objective.load_state_dict(checkpoint["state_dict"])
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
    module, _, attribute = name.rpartition(".")
    cls = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(cls, type) and issubclass(cls, Objective)):
        raise ValueError(f"{path} is refused: {name} is not a trellis objective")
    return cls


def _live_arguments(cls: type, plain: dict[str, Any], path: str | Path) -> dict[str, Any]:
    """Constructor arguments of ``cls`` with the factories that their plain forms describe."""
    parser = ArgumentParser(exit_on_error=False)
    absent = set(inspect.signature(cls).parameters) - set(plain)
    parser.add_class_arguments(cls, "init", skip=absent, instantiate=False)
    try:
        # With defaults, a network would begin with those of the class that it stands in for.
        config = parser.parse_object({"init": plain}, defaults=False)
        return dict(vars(parser.instantiate(config).init))
    except Exception as error:  # ArgumentError, or what a constructor raises
        raise ValueError(
            f"{path}: {cls.__name__} cannot be rebuilt: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
