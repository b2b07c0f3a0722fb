import pytest
import torch
from torch_geometric.data import Data

from trellis.datamodules.graph.whole_graph import WholeGraph, check_masks


def masked(**nodes: int) -> Data:
    masks = {f"{s}_mask": torch.tensor([False] * 3) for s in ("train", "val", "test")}
    for split, node in nodes.items():
        masks[f"{split}_mask"][node] = True
    return Data(**masks)


@pytest.mark.parametrize("empty", ["train", "val", "test"])
def test_no_split_may_be_empty(empty: str) -> None:
    nodes = {"train": 0, "val": 1, "test": 2}
    check_masks(masked(**nodes), "mine")
    del nodes[empty]
    with pytest.raises(ValueError, match=f"mine: the {empty} split is empty"):
        check_masks(masked(**nodes), "mine")


@pytest.mark.parametrize("split", ["val", "test"])
def test_training_nodes_are_in_no_other_split(split: str) -> None:
    with pytest.raises(ValueError, match=f"1 training nodes are in the {split} split"):
        check_masks(masked(**{"train": 0, "val": 1, "test": 2, split: 0}), "mine")


class Mine(WholeGraph):
    def read(self) -> Data:
        return Data(x=torch.rand(3, 2))


def test_a_graph_is_read_once_and_yielded_as_often_as_asked() -> None:
    data = Mine(steps_per_epoch=3)
    data.setup("fit")
    graph = data.data
    data.setup("test")
    assert data.data is graph
    assert [id(batch) for batch in data.loader("train")] == [id(data.data)] * 3
    assert [id(batch) for batch in data.loader("val")] == [id(data.data)]
    with pytest.raises(ValueError, match="steps_per_epoch=0: give at least 1"):
        Mine(steps_per_epoch=0)
