"""The rows of a table as the nodes of one graph: each is joined to those that are like it."""

from collections.abc import Callable

import torch
from torch_geometric.data import Data

from trellis.datamodules.engine.base import SPLITS
from trellis.datamodules.graph.whole_graph import WholeGraph, check_masks
from trellis.datamodules.vector.sklearn_data import SklearnData
from trellis.datamodules.vector.tabular import TabularData
from trellis.graph.knn import knn_graph
from trellis.spec import NodeSpec


class KNNGraph(WholeGraph):
    """The nearest-neighbour graph of a table, with labels or real targets.

    Batch: the whole graph as PyG ``Data`` with ``x [N, F]``, standardised by the training rows,
    ``edge_index``, ``y [N]``, or ``[N, T]`` of real targets, and the masks of the table's splits.
    Nodes are the rows of training, of validation, then of test, and predictions are made for all.

    Args:
        data: a table, such as ``SklearnData``, ``UCI`` or your own ``Table``; some of its rows
            must be for validation.
        neighbours: number of nearest nodes, by Euclidean distance; two nodes are joined if either
            is among those of the other.
        steps_per_epoch: see ``WholeGraph``.
    Raises:
        ValueError: ``neighbours`` is impossible, or no row is for validation.
    """

    def __init__(
        self,
        data: Callable[[], TabularData] = SklearnData,
        neighbours: int = 10,
        steps_per_epoch: int = 1,
    ) -> None:
        super().__init__(steps_per_epoch)
        self.table, self.neighbours = data(), neighbours

    def prepare_data(self) -> None:
        self.table.prepare_data()

    def read(self) -> Data:
        self.table.setup()
        splits, name = self.table.splits, type(self.table).__name__
        if self.table.ids["val"] == self.table.ids["train"]:
            raise ValueError(
                f"{name} validates on its training rows, which would be nodes twice: give "
                f"val_share above 0"
            )
        x, y = (torch.cat(parts) for parts in zip(*map(splits.__getitem__, SPLITS), strict=True))
        split = torch.arange(3).repeat_interleave(
            torch.tensor([len(splits[s][0]) for s in SPLITS])
        )
        masks = {f"{name}_mask": split == number for number, name in enumerate(SPLITS)}
        data = Data(x=x, edge_index=knn_graph(x, self.neighbours), y=y, **masks)
        check_masks(data, name)
        self.test_ids = [each for name in SPLITS for each in self.table.ids[name]]
        spec = self.table.spec
        self.spec = NodeSpec(
            spec.in_channels,
            spec.out_channels,
            spec.classes,
            targets=spec.targets,
            target_names=spec.target_names,
            target_means=spec.target_means,
            target_scales=spec.target_scales,
        )
        return data
