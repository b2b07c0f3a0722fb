"""What every data module shares: where raw files lie, and hyper-parameters as plain types."""

import gzip
import hashlib
import http.client
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
import torch
from torch import Tensor
from torch_geometric.data import Data

from trellis.datamodules.engine.loader import Loader
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

    def setup(self, stage: str | None = None) -> None:
        """Read what lies on disk; nothing for data that is computed."""

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

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        if device.type == "cpu":  # where batches are made; Lightning would take them apart to see
            return batch
        return super().transfer_batch_to_device(batch, device, dataloader_idx)


def tensor_loader(
    x: Tensor, y: Tensor, *, batch_size: int, train: bool
) -> Loader[tuple[Tensor, Tensor]]:
    """Batches ``(x, y)`` of tensors in memory; shuffled and padded over processes to train on."""
    # index_select copies whole rows: two to three times as fast as x[i].
    return Loader(
        len(x),
        lambda i: (x.index_select(0, i), y.index_select(0, i)),
        batch_size=batch_size,
        shuffle=train,
        pad=train,
    )


def whole_graph_loader(data: Data, steps: int) -> Loader[Data]:
    """A loader that yields the same graph ``steps`` times an epoch."""
    if steps < 1:
        raise ValueError(f"steps_per_epoch={steps}: give at least 1")
    return Loader(steps, lambda _: data)


def data_root(data_dir: str | None = None) -> Path:
    """Folder of the raw data: the argument, else ``$TRELLIS_DATA``, else ``~/.cache/trellis``."""
    return Path(data_dir or os.environ.get("TRELLIS_DATA") or "~/.cache/trellis").expanduser()


def fetch(folder: Path, files: Mapping[str, str | None], urls: tuple[str, ...]) -> None:
    """Download what is missing of ``files``, each checked before it gets its name.

    Files that lie there already are used as they are: a user's own copy need not be the mirror's.

    Args:
        folder: where the files belong.
        files: file name -> checksum of the download as ``"sha256:..."`` or ``"md5:..."``
            (``None``: none is published).
        urls: mirrors, each the address of a folder that holds the files.
    Raises:
        FileNotFoundError: a file is missing and cannot be downloaded; says what to put where.
        OSError: every mirror that answers sends something with another checksum.
        ValueError: a checksum of another kind.
    """
    for name, checksum in files.items():
        if not (folder / name).is_file():
            _download(folder / name, checksum, urls)


class _WrongDownload(OSError):
    """What arrived is not what was asked for."""


def _download(target: Path, checksum: str | None, urls: tuple[str, ...]) -> None:
    failure: Exception = FileNotFoundError("no mirror is known")
    reasons = []
    for url in urls:
        try:
            with urllib.request.urlopen(f"{url.rstrip('/')}/{target.name}", timeout=30) as reply:
                _store(reply, target, checksum)
            return
        except _NO_DOWNLOAD as error:
            failure = error
            reasons.append(f"{url}: {getattr(error, 'reason', error)}")
    if isinstance(failure, _WrongDownload):
        raise OSError(
            f"{target.name} cannot be downloaded ({'; '.join(reasons)}): put it in {target.parent}"
        )
    raise FileNotFoundError(
        f"{target.name} is not in {target.parent} and cannot be downloaded "
        f"({'; '.join(reasons) or failure}): "
        f"put it there, or set TRELLIS_DATA to a folder that holds it"
    )


_NO_DOWNLOAD = (
    urllib.error.URLError,
    http.client.HTTPException,
    TimeoutError,
    ConnectionError,
    _WrongDownload,
)


def _store(reply: Any, target: Path, checksum: str | None) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            shutil.copyfileobj(reply, file)
        content = Path(temporary).read_bytes()
        announced = reply.headers.get("Content-Length")
        if announced is not None and int(announced) != len(content):
            raise _WrongDownload(f"{len(content)} of {announced} bytes arrived")
        if checksum is not None and (digest := _digest(content, checksum)) != checksum:
            raise _WrongDownload(f"the download has {digest}, expected {checksum}")
        os.chmod(temporary, 0o644)  # mkstemp's files are for their owner alone
        os.replace(temporary, target)
    finally:
        Path(temporary).unlink(missing_ok=True)


def _digest(content: bytes, checksum: str) -> str:
    kind = checksum.partition(":")[0]
    if kind not in ("md5", "sha256"):
        raise ValueError(f"checksum {checksum!r}: write 'sha256:...' or 'md5:...'")
    return f"{kind}:{hashlib.new(kind, content, usedforsecurity=False).hexdigest()}"


def damaged(path: Path, reason: object) -> OSError:
    """The error for a raw file that cannot be read: names it and says what to do."""
    return OSError(
        f"{path} is damaged ({reason}): delete it, it is fetched again when next needed"
    )


def read_gzip(path: Path) -> bytes:
    """Contents of a gzip file.

    Raises:
        FileNotFoundError: it is not there.
        OSError: the file is damaged or cut short; says to delete it so that it is fetched again.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing: call prepare_data() first, or put it there")
    try:
        with gzip.open(path) as file:
            return file.read()
    except (EOFError, OSError, zlib.error) as error:
        raise damaged(path, error) from error


def check_features(x: Tensor, source: str) -> None:
    """Refuse features that are not finite numbers.

    Args:
        x: dense ``[N, C]``.
        source: what to call them in the message: a file, a data set.
    Raises:
        ValueError: names the first one.
    """
    if bool((finite := x.isfinite()).all()):
        return
    row, column = (~finite).nonzero()[0].tolist()[:2]
    raise ValueError(
        f"{source}: feature {column} of example {row} is {float(x[row, column])}: "
        f"replace it by a finite number"
    )


def check_labels(y: Tensor, num_classes: int, source: str) -> None:
    """Refuse labels outside ``0 .. num_classes - 1``.

    Args:
        y: labels ``[N]``.
        num_classes: how many there are.
        source: what to call them in the message.
    Raises:
        ValueError: names the first one.
    """
    wrong = ((y < 0) | (y >= num_classes)).nonzero()
    if len(wrong):
        row = int(wrong[0])
        raise ValueError(
            f"{source}: label {int(y[row])} of example {row} is not in 0..{num_classes - 1}"
        )


def check_masks(data: Data, source: str) -> None:
    """Refuse a graph with an empty split, or with training nodes in another split.

    Validation and test may share nodes: a data module whose user asks for that says so.

    Args:
        data: with ``train_mask``, ``val_mask`` and ``test_mask``.
        source: what to call it in the message.
    Raises:
        ValueError: names the split.
    """
    for split in ("train", "val", "test"):
        if not bool(data[f"{split}_mask"].any()):
            raise ValueError(
                f"{source}: the {split} split is empty: give it at least one labelled node"
            )
    for split in ("val", "test"):
        shared = int((data.train_mask & data[f"{split}_mask"]).sum())
        if shared:
            raise ValueError(
                f"{source}: {shared} training nodes are in the {split} split too: keep them apart"
            )
