"""Citation graphs with bag-of-words features and a fixed public split."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from torch_geometric.data import Data
from torch_geometric.io import read_planetoid_data
from torch_geometric.io.planetoid import read_file

from trellis.checks import choose_from, not_negative
from trellis.datamodules.engine.checks import check_features, check_labels
from trellis.datamodules.engine.downloads import damaged_file, fetch, require_file
from trellis.datamodules.graph.encodings import Encoding
from trellis.datamodules.graph.node_split import split_by_class
from trellis.datamodules.graph.whole_graph import Features, WholeGraph, check_masks
from trellis.files import FilePath, data_root
from trellis.nn.sparse import to_csr
from trellis.spec import NodeSpec

# In the order of the labels, inferred from the published class sizes (tests/datamodules).
CLASSES = {
    "Cora": ("Theory", "Reinforcement learning", "Genetic algorithms", "Neural networks",
             "Probabilistic methods", "Case based", "Rule learning"),
    "CiteSeer": ("AI", "ML", "IR", "DB", "Agents", "HCI"),
    "PubMed": ("Experimental", "Type 1", "Type 2"),
}  # fmt: skip
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")
CHECKSUMS: dict[str, dict[str, str | None]] = {
    "Cora": {
        "x": "sha256:23cfa55d91c6f624233f5eb7b6e3f141f1bd2b2ae39608a63cf5d084bb27baab",
        "tx": "sha256:b9afbaa4a400df991f6f02ef677e1e44da55ffc04801fd02f9e673987829226a",
        "allx": "sha256:9419ba2f26f5c35243db64aba110e0f35a04851609e0dc5433450676ca6b8543",
        "y": "sha256:94465c14eb53e04ca262198dcbb2521ee8af60fb3f3d546cd6ca24a511b0e7d1",
        "ty": "sha256:41f5ac76596a1699cc33f53084a2419e92961c42bb75f36fc38e616d348532ad",
        "ally": "sha256:2b998f5cc7fedc86e7f97ca2498f47a1ffc1462c29e2d578b23bf3f62b6e7d71",
        "graph": "sha256:58f13302f39dde8852dad6fe6d15b89b077b6d7f837626bce671ef80344b383d",
        "test.index": "sha256:297ce89af2b51a6a194181c7dbe1796c6a1cf9cd9349a88383b1b1e227867875",
    }
}


class Planetoid(WholeGraph):
    """Cora, CiteSeer or PubMed: papers, their citations and their topics.

    Batch: the whole graph as PyG ``Data`` with ``x`` (CSR if ``sparse``),
    ``edge_index``, ``y`` and the masks of the public split: 20 nodes per class for training, 500
    for validation, 1,000 for test. Predictions are made for all nodes.

    ======== ====== ====== ======== =======
    name     nodes  edges  features classes
    ======== ====== ====== ======== =======
    Cora     2,708  5,278  1,433    7
    CiteSeer 3,327  4,552  3,703    6
    PubMed   19,717 44,324 500      3
    ======== ====== ====== ======== =======

    Args:
        name: which graph.
        data_dir: the files are in ``data_dir/Planetoid/NAME/raw``, or are downloaded there.
        sparse: keep ``x`` sparse, for networks whose first layer takes sparse input.
        steps_per_epoch: see ``WholeGraph``.
        normalize: let the rows of ``x`` sum to 1; otherwise they are as in the files, for Cora
            and CiteSeer 1 for each word that a paper has.
        split: ``public``, or ``random``: the same numbers of other nodes.
        fold: number of the random split, which is drawn from it.
        features: see ``WholeGraph``.
        encodings: see ``WholeGraph``.
        encoding_dim: see ``WholeGraph``.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged.
        ValueError: a feature is not finite, a label is unknown, a split is empty, or an option
            does not exist.

    Source: Yang et al. 2016, the split of Kipf and Welling 2017.
    """

    def __init__(
        self,
        name: Literal["Cora", "CiteSeer", "PubMed"] = "Cora",
        data_dir: FilePath | None = None,
        sparse: bool = True,
        steps_per_epoch: int = 1,
        split: Literal["public", "random"] = "public",
        fold: int = 0,
        features: Features = "own",
        encodings: Sequence[Encoding] = (),
        encoding_dim: int = 8,
        normalize: bool = True,
    ) -> None:
        super().__init__(steps_per_epoch, features, encodings, encoding_dim)
        self.graph, self.sparse, self.normalize = name, sparse, normalize
        self.random = choose_from("split", split, ("public", "random")) == "random"
        self.fold = not_negative("fold", fold)
        self.raw = data_root(data_dir) / "Planetoid" / name / "raw"

    def prepare_data(self) -> None:
        checksums = CHECKSUMS.get(self.graph, dict.fromkeys(PARTS))
        files = {f"ind.{self.graph.lower()}.{part}": checksums[part] for part in PARTS}
        fetch(self.raw, files, ("https://github.com/kimiyoung/planetoid/raw/master/data",))

    def read(self) -> Data:
        data = self._read()
        classes = CLASSES[self.graph]
        check_features(data.x, str(self.raw))
        check_labels(data.y, len(classes), str(self.raw))
        if self.random:
            split_by_class(data, per_class=20, num_val=500, num_test=1000, seed=self.fold)
        check_masks(data, str(self.raw))
        x = data.x
        if self.normalize:
            x = x / x.sum(dim=-1, keepdim=True).clamp(min=1)
        data.x = to_csr(x) if self.sparse else x
        self.spec = NodeSpec(x.size(1), len(classes), classes)
        return data

    def _read(self) -> Data:
        prefix = self.graph.lower()
        for part in PARTS:
            require_file(self.raw / f"ind.{prefix}.{part}")
        try:
            data = read_planetoid_data(str(self.raw), prefix)
            expected = len(read_file(str(self.raw), prefix, "ty"))
        except Exception as error:  # a damaged pickle may raise anything
            raise damaged_file(*self._culprit(error)) from error
        # PyG ignores unreadable lines at the end of a text file.
        if (found := int(data.test_mask.sum())) != expected:
            path = self.raw / f"ind.{prefix}.test.index"
            raise damaged_file(path, f"{found} nodes instead of {expected}")
        return data

    def _culprit(self, error: Exception) -> tuple[Path, Exception]:
        """The file that cannot be read, or the folder if the files do not match."""
        prefix = self.graph.lower()
        for part in PARTS:
            try:
                read_file(str(self.raw), prefix, part)
            except Exception as reason:
                return self.raw / f"ind.{prefix}.{part}", reason
        return self.raw, error
