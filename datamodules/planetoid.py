"""Citation graphs with bag-of-words features and a fixed public split."""

from pathlib import Path
from typing import Literal

import torch
from torch_geometric.data import Data
from torch_geometric.io import read_planetoid_data

from trellis.datamodules.base import DataModule, Split, data_root, fetch
from trellis.datamodules.loader import Loader
from trellis.nn.sparse import to_csr
from trellis.spec import NodeSpec

CLASSES = {
    "Cora": ("Case based", "Genetic algorithms", "Neural networks", "Probabilistic methods",
             "Reinforcement learning", "Rule learning", "Theory"),
    "CiteSeer": ("Agents", "AI", "DB", "IR", "ML", "HCI"),
    "PubMed": ("Experimental", "Type 1", "Type 2"),
}  # fmt: skip
PARTS = ("x", "tx", "allx", "y", "ty", "ally", "graph", "test.index")


class Planetoid(DataModule):
    """Cora, CiteSeer or PubMed: papers, their citations and their topics.

    Batch: the whole graph as PyG ``Data`` with ``x`` (rows sum to 1; CSR when ``sparse``),
    ``edge_index``, ``y`` and the masks of the public split: 20 nodes a class to train, 500 to
    validate, 1,000 to test. Predictions are made for all nodes.

    ======== ====== ====== ======== =======
    name     nodes  edges  features classes
    ======== ====== ====== ======== =======
    Cora     2,708  5,278  1,433    7
    CiteSeer 3,327  4,552  3,703    6
    PubMed   19,717 44,324 500      3
    ======== ====== ====== ======== =======

    Args:
        name: which graph.
        data_dir: its files lie, or are put, in ``data_dir/Planetoid/NAME/raw``.
        sparse: keep ``x`` sparse, for networks whose first layer takes it.
        steps_per_epoch: how often an epoch yields the graph.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.

    Source: Yang et al. 2016, the split of Kipf and Welling 2017.
    """

    def __init__(
        self,
        name: Literal["Cora", "CiteSeer", "PubMed"] = "Cora",
        data_dir: str | None = None,
        sparse: bool = True,
        steps_per_epoch: int = 1,
    ) -> None:
        super().__init__()
        self.save_hyperparameters(logger=False)
        self.name, self.sparse, self.steps_per_epoch = name, sparse, steps_per_epoch
        self.raw = data_root(data_dir) / "Planetoid" / name / "raw"
        self.data: Data | None = None

    def prepare_data(self) -> None:
        files = {f"ind.{self.name.lower()}.{part}": None for part in PARTS}
        fetch(self.raw, files, ("https://github.com/kimiyoung/planetoid/raw/master/data",))

    def setup(self, stage: str | None = None) -> None:
        if self.data is not None:
            return
        data = read_planetoid_data(str(self.raw), self.name.lower())
        x = data.x / data.x.sum(dim=-1, keepdim=True).clamp(min=1)
        data.x = to_csr(x) if self.sparse else x
        self.spec = NodeSpec(x.size(1), int(data.y.max()) + 1, CLASSES[self.name])
        self.data = data

    def loader(self, split: Split) -> Loader[Data]:
        return whole_graph_loader(self.data, self.steps_per_epoch if split == "train" else 1)


def whole_graph_loader(data: Data, steps: int) -> Loader[Data]:
    """A loader that yields the same graph ``steps`` times an epoch."""
    return Loader(steps, lambda _: data)
