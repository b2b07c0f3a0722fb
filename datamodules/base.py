"""What every data module shares: where raw files lie, and hyper-parameters as plain types."""

import gzip
import hashlib
import os
import shutil
import tempfile
import urllib.error
import urllib.request
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import lightning as L
from torch import Tensor

from trellis.datamodules.loader import Loader
from trellis.hyperparameters import PlainHyperparameters

Split = Literal["train", "val", "test"]


class DataModule(PlainHyperparameters, L.LightningDataModule, ABC):
    """A ``LightningDataModule`` with a ``spec``: what objectives may know of it after ``setup()``.

    Subclasses call ``save_hyperparameters`` in ``__init__``, set ``self.spec`` there or in
    ``setup``, and say with ``loader`` how a split is served; predictions are made on the test
    split. ``setup`` may learn from the training data (a vocabulary, a normaliser): what it learnt
    goes into ``spec`` and, where it is more than plain numbers and strings, into ``state_dict()``.
    """

    spec: Any = None

    @abstractmethod
    def loader(self, split: Split) -> Iterable[Any]:
        """Batches of ``split``; shuffled for training."""

    def train_dataloader(self) -> Iterable[Any]:
        return self.loader("train")

    def val_dataloader(self) -> Iterable[Any]:
        return self.loader("val")

    def test_dataloader(self) -> Iterable[Any]:
        return self.loader("test")

    def predict_dataloader(self) -> Iterable[Any]:
        return self.loader("test")


def tensor_loader(
    x: Tensor, y: Tensor, *, batch_size: int, train: bool
) -> Loader[tuple[Tensor, Tensor]]:
    """Batches ``(x, y)`` of tensors in memory; shuffled and padded over processes to train on."""
    return Loader(len(x), lambda i: (x[i], y[i]), batch_size=batch_size, shuffle=train, pad=train)


def data_root(data_dir: str | None = None) -> Path:
    """Folder of the raw data: the argument, else ``$TRELLIS_DATA``, else ``~/.cache/trellis``."""
    return Path(data_dir or os.environ.get("TRELLIS_DATA") or "~/.cache/trellis").expanduser()


def fetch(folder: Path, files: Mapping[str, str | None], urls: tuple[str, ...]) -> None:
    """Download what is missing of ``files``, each checked before it gets its name.

    Files that lie there already are used as they are: a user's own copy need not be the mirror's.

    Args:
        folder: where the files belong.
        files: file name -> SHA-256 of the download (``None``: no checksum is published).
        urls: mirrors, each the address of a folder that holds the files.
    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded; says what to put where.
        OSError: a download has another checksum.
    """
    for name, sha256 in files.items():
        if not (folder / name).is_file():
            _download(folder / name, sha256, urls)


def _download(target: Path, sha256: str | None, urls: tuple[str, ...]) -> None:
    reason = "no mirror is known"
    for url in urls:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/{target.name}", timeout=30) as reply:
                _store(reply, target, sha256)
            return
        except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
            reason = f"{url}: {getattr(error, 'reason', error)}"
    raise FileNotFoundError(
        f"{target.name} is not in {target.parent} and cannot be downloaded ({reason}): "
        f"put it there, or set TRELLIS_DATA to a folder that holds it"
    )


def _store(reply: Any, target: Path, sha256: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(reply, file)
        digest = hashlib.sha256(Path(temporary).read_bytes()).hexdigest()
        if sha256 is not None and digest != sha256:
            raise OSError(f"{target.name}: the download has SHA-256 {digest}, expected {sha256}")
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def read_gzip(path: Path) -> bytes:
    """Contents of a gzip file.

    Raises:
        OSError: the file is damaged or cut short; says to delete it so that it is fetched again.
    """
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, OSError, zlib.error) as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise OSError(
            f"{path} is damaged ({error}): delete it, it is fetched again when next needed"
        ) from error
