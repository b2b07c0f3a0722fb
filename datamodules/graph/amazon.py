"""Products that are often bought together, with words of their reviews."""

from collections.abc import Sequence
from typing import Literal

from torch_geometric.data import Data
from torch_geometric.io import read_npz

from trellis.checks import choose_from, not_negative
from trellis.datamodules.engine.checks import check_features, check_labels
from trellis.datamodules.engine.downloads import damaged_file, fetch, require_file
from trellis.datamodules.graph.encodings import Encoding
from trellis.datamodules.graph.node_split import split_by_class
from trellis.datamodules.graph.whole_graph import Features, WholeGraph, check_masks
from trellis.files import FilePath, data_root
from trellis.nn.sparse import to_csr
from trellis.spec import NodeSpec

URL = "https://github.com/shchur/gnn-benchmark/raw/master/data/npz"
Name = Literal["Photo", "Computers"]
NUM_CLASSES = {"Photo": 8, "Computers": 10}


class Amazon(WholeGraph):
    """Photo or Computers: products, which are bought together, and their categories.

    Batch: the whole graph as PyG ``Data`` with ``x`` (1 for each word that occurs, else 0; CSR if
    ``sparse``), ``edge_index``, ``y`` and masks: 20 nodes of each class for training, 30
    of each for validation, all others for test. Predictions are made for all nodes.

    ========= ====== ======= ======== =======
    name      nodes  edges   features classes
    ========= ====== ======= ======== =======
    Photo     7,650  119,081 745      8
    Computers 13,752 245,861 767      10
    ========= ====== ======= ======== =======

    Args:
        name: which graph.
        fold: number of the random split, which is drawn from it.
        data_dir: the file is in ``data_dir/Amazon/NAME/raw``, or is downloaded there.
        sparse: keep ``x`` sparse, for networks whose first layer takes sparse input; a quarter
            of the entries of Photo are 1: dense products are twice as fast.
        steps_per_epoch: see ``WholeGraph``.
        features: see ``WholeGraph``.
        encodings: see ``WholeGraph``.
        encoding_dim: see ``WholeGraph``.
    Raises:
        FileNotFoundError: the file is missing and cannot be downloaded.
        OSError: it is damaged.
        ValueError: an option that does not exist.

    Source: Shchur et al. 2018, section 3. Deviates: all nodes, not those of the largest connected
    component alone.
    """

    def __init__(
        self,
        name: Name = "Photo",
        fold: int = 0,
        data_dir: FilePath | None = None,
        sparse: bool = False,
        steps_per_epoch: int = 1,
        features: Features = "own",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
    ) -> None:
        super().__init__(steps_per_epoch, features, encodings, encoding_dim)
        self.graph, self.sparse = choose_from("name", name, Name), sparse
        self.fold = not_negative("fold", fold)
        folder = data_root(data_dir) / "Amazon" / name / "raw"
        self.path = folder / f"amazon_electronics_{name.lower()}.npz"

    def prepare_data(self) -> None:
        fetch(self.path.parent, {self.path.name: None}, (URL,))

    def read(self) -> Data:
        require_file(self.path)
        try:
            data = read_npz(str(self.path))
        except Exception as error:  # a damaged archive may raise anything
            raise damaged_file(self.path, error) from error
        classes = NUM_CLASSES[self.graph]
        check_features(data.x, str(self.path))
        check_labels(data.y, classes, str(self.path))
        split_by_class(
            data, per_class=20, num_val=30, num_test=None, seed=self.fold, val_by_class=True
        )
        check_masks(data, str(self.path))
        self.spec = NodeSpec(data.x.size(1), classes)
        data.x = to_csr(data.x) if self.sparse else data.x
        return data
