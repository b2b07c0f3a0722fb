"""Collections of labelled graphs from TU Dortmund, with ten-fold cross-validation."""

import re
import warnings
import zipfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import coalesce, degree, remove_self_loops

from trellis.datamodules.engine.downloads import fetch, require_file
from trellis.datamodules.graph.encodings import Encoding
from trellis.datamodules.graph.folded_graphs import (
    FoldedGraphs,
    Validation,
    one_hot,
    stratified_folds,
)
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.files import FilePath, atomic_write, data_root

URL = "https://www.chrsmrrs.com/graphkerneldatasets"


class TUDataset(FoldedGraphs):
    """One of the TU collections under the protocol of the GIN paper: ten stratified folds.

    Batch: a PyG ``Batch`` with ``x`` (the one-hot node label), ``edge_index``, ``y [B]``,
    ``batch`` and ``ptr``. Node attributes are used only if there are no node labels, as in the
    paper. Collections with neither have the one-hot degree, the REDDIT ones a constant feature.

    ============ ====== ========= ======== =======
    name         graphs nodes     features classes
    ============ ====== ========= ======== =======
    MUTAG        188    3,371     7        2
    PROTEINS     1,113  43,471    3        2
    PTC_MR       344    4,915     18       2
    NCI1         4,110  122,747   37       2
    IMDB-BINARY  1,000  19,773    degrees  2
    IMDB-MULTI   1,500  19,502    degrees  3
    ============ ====== ========= ======== =======

    Args:
        name: any collection of the TU site, such as those above.
        fold: see ``FoldedGraphs``.
        batch_size: see ``FoldedGraphs``.
        data_dir: the files are in ``data_dir/TUDataset/NAME/raw``, or are downloaded there.
        seed: of the folds; 0 in the paper's code.
        validation: see ``FoldedGraphs``.
        encodings: see ``FoldedGraphs``.
        encoding_dim: see ``FoldedGraphs``.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged, or the files do not match.
        ValueError: a fold, name or validation that does not exist, or a class with fewer graphs
            than folds.

    Source: Morris et al. 2020; protocol of Xu et al. 2019, section 7, and of its code,
    powerful-gnns.
    """

    def __init__(
        self,
        name: str = "MUTAG",
        fold: int = 0,
        batch_size: int = 32,
        data_dir: FilePath | None = None,
        seed: int = 0,
        validation: Validation = "test_fold",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
    ) -> None:
        super().__init__(fold, batch_size, validation, encodings, encoding_dim)
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"name={name!r}: give the name of a TU collection, like MUTAG")
        self.collection, self.seed = name, seed
        self.raw = data_root(data_dir) / "TUDataset" / name / "raw"

    def prepare_data(self) -> None:
        required = [f"{self.collection}_{part}.txt" for part in REQUIRED]
        if missing := [name for name in required if not (self.raw / name).is_file()]:
            archive = self.raw.parent / f"{self.collection}.zip"
            own = archive.is_file()
            try:
                fetch(archive.parent, {archive.name: None}, (URL,))
            except FileNotFoundError as error:
                raise FileNotFoundError(
                    f"{missing[0]} is not in {self.raw}; put the .txt files of the collection "
                    f"there. {error}"
                ) from None
            unpack(archive, self.raw, keep=own)

    def read(self) -> InMemoryGraphs:
        return read_collection(self.raw, self.collection)

    def folds(self, y: Tensor) -> list[Tensor]:
        return stratified_folds(y, self.seed)


REQUIRED = ("A", "graph_indicator", "graph_labels")


def read_collection(raw: Path, name: str) -> InMemoryGraphs:
    """The graphs of the TU text files ``raw/NAME_*.txt``.

    Raises:
        FileNotFoundError: one of them is missing.
        OSError: one is damaged, or they do not match.
    """
    files = {part: raw / f"{name}_{part}.txt" for part in (*REQUIRED, *_NODE_FILES)}
    edges, owner, labels = (_read(files[part], np.int64) for part in REQUIRED)
    owner, count = owner[:, 0] - 1, len(labels)
    if len(owner) and (owner.diff().min() < 0 or owner[0] < 0 or owner[-1] >= count):
        raise _damaged(
            files["graph_indicator"],
            f"graph numbers must grow from 1 to the {count} of {files['graph_labels'].name}",
        )
    if edges.size(1) != 2 or edges.min() < 1 or edges.max() > len(owner):
        raise _damaged(files["A"], f"an edge is not a pair of nodes in 1..{len(owner)}")
    edge_index, _ = remove_self_loops(edges.t() - 1)
    edge_index = coalesce(edge_index, num_nodes=len(owner))
    x = _node_features(name, files, edge_index, len(owner))
    y = labels[:, 0].unique(return_inverse=True)[1]
    try:
        return InMemoryGraphs(x, edge_index, y, owner.bincount(minlength=count))
    except ValueError as error:
        raise _damaged(files["A"], error) from None


_NODE_FILES = ("node_labels", "node_attributes")


def _node_features(name: str, files: dict[str, Path], edge_index: Tensor, count: int) -> Tensor:
    for part in _NODE_FILES:
        if files[part].is_file():
            values = _read(files[part], np.int64 if part == "node_labels" else np.float32)
            if len(values) != count:
                raise _damaged(files[part], f"{len(values)} lines for {count} nodes")
            if part == "node_labels":
                return torch.cat([one_hot(column) for column in values.unbind(1)], dim=1)
            return values
    if name.startswith("REDDIT"):
        return torch.ones(count, 1)
    return one_hot(degree(edge_index[0], count, torch.long))


def _read(path: Path, dtype: type) -> Tensor:
    require_file(path)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "loadtxt: input contained no data")  # error below
            values: np.ndarray = _loaded(path, dtype)
    except (ValueError, UnicodeDecodeError) as error:
        raise _damaged(path, str(error).split(";")[0]) from error
    if not values.size or not np.isfinite(values).all():
        raise _damaged(path, "it is empty or holds something that is not finite")
    return torch.from_numpy(values)


def _loaded(path: Path, dtype: type) -> np.ndarray:
    """Numbers of a file; integers may be written as 1.0."""
    numbers = np.loadtxt(path, np.float64, delimiter=",", ndmin=2)
    if dtype is np.int64 and (wrong := numbers % 1 != 0).any():  # of infinite numbers, too
        line = int(wrong.any(1).argmax()) + 1
        raise ValueError(f"line {line} has {numbers[wrong][0]} where a whole number belongs")
    return numbers.astype(dtype)


def _damaged(path: Path, reason: object) -> OSError:
    # Not the file alone: without node labels the collection would still be complete.
    return OSError(
        f"{path} is damaged ({reason}): correct it, or move the folder {path.parent} away to "
        f"download the collection again"
    )


def unpack(archive: Path, folder: Path, keep: bool = False) -> None:
    """Extract the text files of a TU archive into ``folder``, then remove the archive.

    Args:
        archive: of the TU site.
        folder: for the files.
        keep: do not remove the archive, which somebody else has put there.
    Raises:
        OSError: the archive is damaged; it is removed, so that it is downloaded again.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with zipfile.ZipFile(archive) as file:
            for member in file.namelist():
                target = folder / Path(member).name
                if target.suffix == ".txt" and not target.exists():
                    with atomic_write(target) as unpacked:  # the name comes after the CRC check
                        unpacked.write(file.read(member))
    except zipfile.BadZipFile as error:
        advice = "put a good copy in its place" if keep else "run again to download it again"
        raise OSError(f"{archive} is damaged ({error}): {advice}") from error
    finally:
        if not keep:
            archive.unlink()
