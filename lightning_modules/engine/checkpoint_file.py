"""Checkpoint files: written whole or not at all, verified before anything in them is used."""

import zipfile
from pathlib import Path
from typing import Any

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
        folder = Path(path).resolve().parent
        for state in checkpoint.get("callbacks", {}).values():
            _forget_paths_outside(state, folder)
        return checkpoint


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


def _forget_paths_outside(state: Any, folder: Path) -> None:
    """Empty the texts of a callback's state that are paths of another folder, in place."""
    if not isinstance(state, dict):
        return
    for key, value in list(state.items()):
        if isinstance(value, str) and not _is_inside(value, folder):
            state[key] = ""
        elif isinstance(value, dict):  # ModelCheckpoint's best_k_models: path -> score
            for name in [n for n in value if isinstance(n, str) and not _is_inside(n, folder)]:
                del value[name]


def _is_inside(text: str, folder: Path) -> bool:
    """Whether a text is no path, or one of a file within ``folder``."""
    if "/" not in text and "\\" not in text:
        return True
    return Path(text).resolve().parent == folder
