"""Collections of labelled graphs in the text format of the GIN and DGCNN papers."""

import re
import tarfile
from collections.abc import Sequence

import torch
from torch import Tensor

from trellis.checks import choose_from
from trellis.datamodules.engine.downloads import damaged_file, fetch
from trellis.datamodules.graph.encodings import Encoding
from trellis.datamodules.graph.folded_graphs import (
    NUM_FOLDS,
    FoldedGraphs,
    Validation,
    stratified_folds,
)
from trellis.datamodules.graph.graph_text import Features, GraphText
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs
from trellis.files import FilePath, data_root

URL = "https://raw.githubusercontent.com/muhanzhang/pytorch_DGCNN/master/data"


class GINDataset(FoldedGraphs):
    """A collection in the one-file format of graph papers, with its published folds.

    ``NAME.txt`` begins with the number of graphs. Each graph is a line ``nodes label``, and then a
    line for each of its nodes: ``tag degree neighbours attributes``, where a tag is the node's
    label, neighbours are numbered from 0 within the graph, and attributes are optional. Beside it
    ``10fold_idx/test_idx-1.txt`` to ``-10`` may list the graphs that each fold tests on; without
    them ten stratified folds are drawn.

    Batch: a PyG ``Batch`` with ``x`` (the features), ``edge_index`` (each edge in both directions;
    without self-loops), ``y [B]``, ``batch`` and ``ptr``.

    ===== ====== ===== ======== =======
    name  graphs nodes features classes
    ===== ====== ===== ======== =======
    PTC   344    8,792 19       2
    ===== ====== ===== ======== =======

    Args:
        name: of the collection, which is ``NAME.tar.gz`` or a folder ``NAME``.
        fold: see ``FoldedGraphs``.
        batch_size: see ``FoldedGraphs``.
        data_dir: the files are in ``data_dir/tu_gin_format``, or are downloaded there.
        seed: of the folds, where none are published.
        validation: see ``FoldedGraphs``.
        features: ``tags`` as one-hot vectors, real ``attributes``, ``both``, the one-hot
            ``degree``, or a ``constant``. ``auto`` takes the tags; where they are all the same,
            the attributes; without these a constant for REDDIT, as in the paper, else the degree.
        encodings: see ``FoldedGraphs``.
        encoding_dim: see ``FoldedGraphs``.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: the archive is damaged.
        ValueError: an option that does not exist, features that the collection does not have, or
            a file that is not in this format; names file and line.

    Source: format and folds of Zhang et al. 2018, github.com/muhanzhang/pytorch_DGCNN, and of Xu
    et al. 2019, github.com/weihua916/powerful-gnns.
    """

    def __init__(
        self,
        name: str = "PTC",
        fold: int = 0,
        batch_size: int = 32,
        data_dir: FilePath | None = None,
        seed: int = 0,
        validation: Validation = "test_fold",
        features: Features = "auto",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
    ) -> None:
        super().__init__(fold, batch_size, validation, encodings, encoding_dim)
        if not re.fullmatch(r"[\w-]+", name):
            raise ValueError(f"name={name!r}: give the name of a collection, like PTC")
        self.collection, self.seed = name, seed
        self.features = choose_from("features", features, Features)
        self.root = data_root(data_dir) / "tu_gin_format"
        self.archive = self.root / f"{name}.tar.gz"
        self.folder = self.root / name

    def prepare_data(self) -> None:
        if not self.archive.is_file():
            folds = [f"10fold_idx/test_idx-{number}.txt" for number in range(1, NUM_FOLDS + 1)]
            own = (self.folder / f"{self.collection}.txt").is_file()
            names = () if own else (f"{self.collection}.txt", *folds)
            (self.folder / "10fold_idx").mkdir(parents=True, exist_ok=True)
            fetch(self.folder, dict.fromkeys(names), (f"{URL}/{self.collection}",))

    def read(self) -> InMemoryGraphs:
        path = self.folder / f"{self.collection}.txt"
        content = self._content(f"{self.collection}.txt")
        if content is None:
            raise FileNotFoundError(
                f"{path} is missing: put it or {self.archive.name} there, or call prepare_data() "
                f"to download it"
            )
        return GraphText(path, content.decode("utf-8", "replace")).graphs(self.features)

    def folds(self, y: Tensor) -> list[Tensor]:
        """The published folds where there are any, else drawn ones."""
        found = []
        for number in range(1, NUM_FOLDS + 1):
            name = f"10fold_idx/test_idx-{number}.txt"
            if (content := self._content(name)) is None:
                return stratified_folds(y, self.seed)
            path = self.folder / name
            try:
                indices = torch.tensor([int(word) for word in content.split()], dtype=torch.long)
            except ValueError as error:
                raise damaged_file(path, error) from error
            if not len(indices) or indices.min() < 0 or indices.max() >= len(y):
                raise damaged_file(path, f"give numbers of graphs, 0 to {len(y) - 1}")
            found.append(indices)
        if len(joined := torch.cat(found)) != len(joined.unique()):
            raise ValueError(f"{self.folder}/10fold_idx: a graph is tested in two folds")
        return found

    def _content(self, name: str) -> bytes | None:
        """A file of the collection, from its folder or else its archive; ``None``: missing."""
        if (path := self.folder / name).is_file():
            return path.read_bytes()
        if not self.archive.is_file():
            return None
        try:
            with tarfile.open(self.archive) as archive:
                for member in archive:
                    if member.isfile() and f"/{member.name}".endswith(f"/{name}"):
                        file = archive.extractfile(member)
                        return None if file is None else file.read()
        except (tarfile.TarError, EOFError, OSError) as error:
            raise damaged_file(self.archive, error) from error
        return None
