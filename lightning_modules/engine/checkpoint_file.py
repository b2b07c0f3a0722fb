"""Checkpoint files: written whole or not at all, verified before anything in them is used."""

import zipfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO

from trellis.files import atomic_write
from trellis.lightning_modules.engine.upgrade import upgrade


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
        with atomic_write(path, what="checkpoint") as file:
            torch.save(checkpoint, file)

    def load_checkpoint(
        self,
        path: str | Path,
        map_location: Any = None,
        weights_only: bool | None = None,
    ) -> dict[str, Any]:
        """Contents of ``path``, its checksums verified first; nothing in it is executed.

        Paths in the states of callbacks are kept only if they lie in the folder of ``path``: a
        stranger's checkpoint could name any file to be overwritten or deleted.

        Raises:
            FileNotFoundError, OSError: see ``verify``.
        """
        if "://" in str(path):
            return upgrade(super().load_checkpoint(path, map_location, weights_only))
        verify(path)
        checkpoint = upgrade(super().load_checkpoint(path, map_location, weights_only=True))
        _require_kinds(checkpoint, path)
        folder, states = Path(path).resolve().parent, checkpoint.get("callbacks")
        if isinstance(states, dict):
            for name, state in states.items():
                states[name] = _without_paths_outside(state, folder)
        return checkpoint


def save_objective(objective: L.LightningModule, path: str | Path) -> None:
    """Write a checkpoint of an objective without a run: its weights and what rebuilds it.

    Args:
        objective: whose networks are built.
        path: of the file.
    Raises:
        OSError: it cannot be written.
    """
    checkpoint = {
        "state_dict": objective.state_dict(),
        "hyper_parameters": dict(objective.hparams),
        "pytorch-lightning_version": L.__version__,
        "epoch": 0,
        "global_step": 0,
    }
    objective.on_save_checkpoint(checkpoint)
    AtomicCheckpointIO().save_checkpoint(checkpoint, path)


# What Lightning takes for granted of a checkpoint's entries, where they are there.
_KINDS: dict[str, type] = {
    "state_dict": dict, "callbacks": dict, "loops": dict, "optimizer_states": list,
    "lr_schedulers": list, "epoch": int, "global_step": int,
}  # fmt: skip


def _require_kinds(checkpoint: Any, path: str | Path) -> None:
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{path} is no checkpoint: it holds a {type(checkpoint).__name__}")
    for name, kind in _KINDS.items():
        if not isinstance(checkpoint.get(name, kind()), kind):
            raise ValueError(f"{path} cannot be resumed: its {name} is no {kind.__name__}")
    for name in ("fit_loop", "validate_loop", "test_loop", "predict_loop"):
        if "loops" in checkpoint and not isinstance(checkpoint["loops"].get(name), dict):
            raise ValueError(f"{path} cannot be resumed: its loops lack {name}")


def verify(path: str | Path) -> None:
    """Check that ``path`` is a whole checkpoint file; ``torch.load`` itself checks no CRC.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: it is cut short, a byte of it has changed, or it would grow when read.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"there is no checkpoint {path}")
    size = Path(path).stat().st_size
    if not zipfile.is_zipfile(path):
        raise OSError(
            f"{path} is not a whole checkpoint ({size} bytes): it was cut short, or is another "
            f"kind of file"
        )
    try:
        with zipfile.ZipFile(path) as archive:
            # torch compresses nothing: what claims more than it holds was not written by it.
            if sum(entry.file_size for entry in archive.infolist()) > size:
                raise OSError(f"it claims to hold more than its {size} bytes")
            damaged = archive.testzip()
    except Exception as error:  # each field of the format has its own way to be wrong
        raise OSError(f"{path} is damaged: {error}") from error
    if damaged:
        raise OSError(f"{path} is damaged: {damaged} has a wrong checksum")


def _without_paths_outside(state: Any, folder: Path) -> Any:
    """The states of callbacks with the paths of other folders emptied, or left out as keys."""
    if isinstance(state, dict):  # ModelCheckpoint's best_k_models: path -> score
        return {
            key: _without_paths_outside(value, folder)
            for key, value in state.items()
            if _is_inside(key, folder)
        }
    if isinstance(state, (list, tuple)):
        return type(state)(_without_paths_outside(value, folder) for value in state)
    return state if _is_inside(state, folder) else ""


def _is_inside(value: Any, folder: Path) -> bool:
    """Whether a value is no path, or that of a checkpoint within ``folder``."""
    if not isinstance(value, str):
        return True
    names_a_file = "/" in value or "\\" in value or _exists(value)
    path = Path(value).resolve() if names_a_file else folder
    return not names_a_file or (path.parent == folder and path.suffix == ".ckpt")


def _exists(text: str) -> bool:
    try:
        return Path(text).exists()
    except (OSError, ValueError):  # too long for a name, or no text for one
        return False
