"""Handwritten digits as a nearest-neighbour graph: node classification without a download."""

import torch
from torch_geometric.data import Data

from trellis.datamodules.graph.whole_graph import WholeGraph, check_masks
from trellis.datamodules.vector.digits import load_digits
from trellis.graph.knn import knn_graph
from trellis.spec import NodeSpec

NUM_VAL = 300


class DigitsGraph(WholeGraph):
    """The nearest-neighbour graph of scikit-learn's digits, with few labels.

    Batch: the whole graph as PyG ``Data`` with ``x [1797, 64]`` in [0, 1], ``edge_index``, ``y``
    and masks: ``labels_per_class`` nodes of each class for training, 300 for validation, the rest
    for test. Predictions are made for all nodes.

    ========== ===== ====== ======== ======= ========
    neighbours nodes edges  features classes homophily
    ========== ===== ====== ======== ======= ========
    6          1,797 7,520  64       10      0.97
    ========== ===== ====== ======== ======= ========

    Args:
        neighbours: number of nearest nodes, by pixels; two nodes are joined if either is among
            those of the other.
        labels_per_class: labelled nodes of each class, in [1, 140].
        seed: of the split.
        steps_per_epoch: training steps per epoch, each on the whole graph.
    Raises:
        ValueError: ``labels_per_class`` leaves no test nodes, or ``neighbours`` is impossible.

    Source: the data of ``Digits``; the split follows Kipf and Welling 2017, with half the labels.
    """

    def __init__(
        self,
        neighbours: int = 6,
        labels_per_class: int = 10,
        seed: int = 0,
        steps_per_epoch: int = 1,
    ) -> None:
        super().__init__(steps_per_epoch)
        if not 1 <= labels_per_class <= 140:
            raise ValueError(f"labels_per_class={labels_per_class}: give 1 to 140")
        self.neighbours, self.labels_per_class, self.seed = neighbours, labels_per_class, seed
        self.spec = NodeSpec(64, 10, tuple(str(digit) for digit in range(10)))

    def read(self) -> Data:
        x, y = load_digits()
        order = torch.randperm(len(y), generator=torch.Generator().manual_seed(self.seed))
        train_mask = torch.zeros(len(y), dtype=torch.bool)
        for digit in range(10):
            train_mask[order[y[order] == digit][: self.labels_per_class]] = True
        val_mask = torch.zeros_like(train_mask)
        val_mask[order[~train_mask[order]][:NUM_VAL]] = True
        data = Data(
            x=x,
            edge_index=knn_graph(x, self.neighbours),
            y=y,
            train_mask=train_mask,
            val_mask=val_mask,
            test_mask=~(train_mask | val_mask),
        )
        check_masks(data, "DigitsGraph")
        return data
