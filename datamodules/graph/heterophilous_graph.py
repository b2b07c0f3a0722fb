"""Graphs whose neighbours are mostly of another class, with ten published splits."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch_geometric.data import Data
from torch_geometric.utils import to_undirected

from trellis.checks import choose_from
from trellis.datamodules.engine.base import SPLITS
from trellis.datamodules.engine.checks import check_features, check_labels
from trellis.datamodules.engine.division import check_fold
from trellis.datamodules.engine.downloads import damaged_file, fetch, require_file
from trellis.datamodules.graph.encodings import Encoding
from trellis.datamodules.graph.whole_graph import Features, WholeGraph, check_masks
from trellis.files import FilePath, data_root
from trellis.spec import NodeSpec

URL = "https://github.com/yandex-research/heterophilous-graphs/raw/main/data"
Name = Literal["minesweeper", "tolokers", "questions", "roman_empire", "amazon_ratings"]
NUM_CLASSES = {
    "minesweeper": 2, "tolokers": 2, "questions": 2, "roman_empire": 18, "amazon_ratings": 5,
}  # fmt: skip
NUM_FOLDS = 10


class HeterophilousGraph(WholeGraph):
    """One of five graphs on which a node is often unlike its neighbours.

    Batch: the whole graph as PyG ``Data`` with ``x``, ``edge_index`` (both directions), ``y`` and
    the masks of a published split: half of the nodes for training, a quarter each for validation
    and test. Predictions are made for all nodes. Those of two classes are rated by the area under
    the ROC curve, ``val/auc``.

    ============== ====== ======= ======== =======
    name           nodes  edges   features classes
    ============== ====== ======= ======== =======
    minesweeper    10,000 39,402  7        2
    tolokers       11,758 519,000 10       2
    questions      48,921 153,540 301      2
    roman_empire   22,662 32,927  300      18
    amazon_ratings 24,492 93,050  300      5
    ============== ====== ======= ======== =======

    Args:
        name: which graph.
        fold: number of the published split, 0 to 9.
        data_dir: the file is in ``data_dir/HeterophilousGraph/raw``, or is downloaded there.
        steps_per_epoch: see ``WholeGraph``.
        features: see ``WholeGraph``.
        encodings: see ``WholeGraph``.
        encoding_dim: see ``WholeGraph``.
    Raises:
        FileNotFoundError: the file is missing and cannot be downloaded.
        OSError: it is damaged.
        ValueError: an option that does not exist.

    Source: Platonov et al. 2023, table 1 and section 5.
    """

    def __init__(
        self,
        name: Name = "minesweeper",
        fold: int = 0,
        data_dir: FilePath | None = None,
        steps_per_epoch: int = 1,
        features: Features = "own",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
    ) -> None:
        super().__init__(steps_per_epoch, features, encodings, encoding_dim)
        self.graph = choose_from("name", name, Name)
        check_fold(fold, NUM_FOLDS)
        self.fold = fold
        self.path = data_root(data_dir) / "HeterophilousGraph" / "raw" / f"{name}.npz"

    def prepare_data(self) -> None:
        fetch(self.path.parent, {self.path.name: None}, (URL,))

    def read(self) -> Data:
        require_file(self.path)
        try:
            data = self._read()
        except Exception as error:  # a damaged archive may raise anything
            raise damaged_file(self.path, error) from error
        check_features(data.x, str(self.path))
        check_labels(data.y, NUM_CLASSES[self.graph], str(self.path))
        check_masks(data, str(self.path))
        self.spec = NodeSpec(data.x.size(1), NUM_CLASSES[self.graph])
        return data

    def _read(self) -> Data:
        with np.load(self.path) as raw:
            x, edges = (torch.from_numpy(raw[name]) for name in ("node_features", "edges"))
            masks = {f"{s}_mask": torch.from_numpy(raw[f"{s}_masks"][self.fold]) for s in SPLITS}
            y = torch.from_numpy(raw["node_labels"]).long()
        edge_index = to_undirected(edges.t().long(), num_nodes=len(x))
        return Data(x=x.float(), edge_index=edge_index, y=y, **masks)
