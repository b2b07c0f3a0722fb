"""Checkpoint files: written whole or not at all, verified before use, opened without a class."""

import errno
import importlib
import os
import shutil
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import torch
from jsonargparse import ArgumentParser
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from trellis.lightning_modules.base import FORMAT, Objective

# Packages whose classes a checkpoint may name; anything else is refused by name.
TRUSTED = ("trellis.", "torch.nn.", "torch.optim.", "torch_geometric.nn.", "lightning.pytorch.")


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

    def load_checkpoint(self, path: Any, map_location: Any = None, **options: Any) -> Any:
        """Contents of ``path``, its checksums verified first."""
        if "://" not in str(path):
            verify(path)
        return super().load_checkpoint(path, map_location, **options)


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
        raise OSError(f"{path} is not a whole checkpoint ({size} bytes): it was cut short or is "
                      f"another kind of file")  # fmt: skip
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as error:
        raise OSError(f"{path} is damaged: {error}") from error
    if damaged:
        raise OSError(f"{path} is damaged: {damaged} has a wrong checksum")


def read(path: str | Path, *, weights: bool = True) -> dict[str, Any]:
    """Contents of a checkpoint that trellis wrote; nothing in it is executed.

    Args:
        path: a file.
        weights: false maps the tensors to the ``meta`` device, so that no weights are read.
    Raises:
        FileNotFoundError, OSError: see ``verify``.
        ValueError: not a trellis checkpoint, one of a later format, or one that holds code.
    """
    verify(path)
    device = "cpu" if weights else "meta"
    try:
        checkpoint = torch.load(path, map_location=device, weights_only=True, mmap=not weights)
    except Exception as error:  # UnpicklingError and whatever a forged file provokes
        reason = str(error).strip().splitlines()[0]
        raise ValueError(f"{path} is refused, it holds more than plain data: {reason}") from None
    about = checkpoint.get("trellis") if isinstance(checkpoint, dict) else None
    if about is None:
        raise ValueError(f"{path} was not written by trellis: it names no objective")
    if about["format"] > FORMAT:
        raise ValueError(
            f"{path} has format {about['format']}, this version of trellis reads up to {FORMAT}: "
            f"upgrade torch-trellis"
        )
    for section in ("hyper_parameters", "datamodule_hyper_parameters"):
        _refuse_untrusted(checkpoint.get(section, {}), path)
    return checkpoint


def _refuse_untrusted(value: Any, path: str | Path) -> None:
    trusted = (*TRUSTED, *(f"{name}." for name in os.environ.get("TRELLIS_TRUST", "").split()))
    if isinstance(value, dict):
        for key, item in value.items():
            if key in ("class_path", "_class_path"):
                if not str(item).startswith(trusted):
                    package = str(item).split(".")[0]
                    raise ValueError(
                        f"{path} is refused: it names {item}, from a package that is not trusted. "
                        f"If it is your own, set TRELLIS_TRUST={package}"
                    )
            elif key == "_instantiator" and not str(item).startswith("lightning.pytorch.cli."):
                raise ValueError(f"{path} is refused: it names {item} as its instantiator")
            else:
                _refuse_untrusted(item, path)
    elif isinstance(value, (list, tuple)):
        for item in value:
            _refuse_untrusted(item, path)


def load(path: str | Path, **overrides: Any) -> Objective:
    """The objective that a checkpoint holds, with its weights, in evaluation mode on the CPU.

    Args:
        path: a file written by a trellis run.
        overrides: constructor arguments that replace the saved ones, such as ``network=``.
    Raises:
        FileNotFoundError, OSError, ValueError: see ``read``.
    """
    checkpoint = read(path)
    hparams = {**checkpoint["hyper_parameters"]}
    name = hparams.pop("_class_path")
    hparams.pop("_instantiator", None)
    module, _, attribute = name.rpartition(".")
    cls = getattr(importlib.import_module(module), attribute, None)
    if not (isinstance(cls, type) and issubclass(cls, Objective)):
        raise ValueError(f"{path} is refused: {name} is not a trellis objective")
    objective = cls(**_live_arguments(cls, hparams, skip=set(overrides)), **overrides)
    objective.configure_model()
    objective.on_load_checkpoint(checkpoint)
    objective.load_state_dict(checkpoint["state_dict"])
    return objective.eval()


def _live_arguments(cls: type, plain: dict[str, Any], skip: set[str]) -> dict[str, Any]:
    """Constructor arguments of ``cls`` with the factories that their plain forms describe."""
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(cls, "init", skip=skip, instantiate=False)
    config = parser.parse_object({"init": {k: v for k, v in plain.items() if k not in skip}})
    return dict(vars(parser.instantiate_classes(config).init))
