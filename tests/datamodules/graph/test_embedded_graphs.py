"""The graphs that come with packages: digits and the karate club."""

import pytest
import torch
from torch_geometric.utils import is_undirected

from trellis.datamodules.engine.base import DataModule
from trellis.datamodules.graph.digits_graph import DigitsGraph
from trellis.datamodules.graph.karate_club import KarateClub


def ready(data: DataModule) -> DataModule:
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


def test_the_digits_as_a_graph() -> None:
    data = ready(DigitsGraph())
    graph = data.data
    assert graph.x.shape == (1797, 64)
    assert graph.x.min() == 0
    assert graph.x.max() == 1
    assert is_undirected(graph.edge_index)
    assert graph.edge_index.size(1) == 2 * 7520
    assert torch.bincount(graph.edge_index[0]).min() >= 6
    source, target = graph.edge_index
    alike = (graph.y[source] == graph.y[target]).float().mean()
    assert alike == pytest.approx(0.97, abs=0.005)
    assert (data.spec.in_channels, data.spec.out_channels) == (64, 10)


def test_the_digits_split() -> None:
    graph = ready(DigitsGraph(labels_per_class=7)).data
    assert graph.y[graph.train_mask].bincount().tolist() == [7] * 10
    assert int(graph.val_mask.sum()) == 300
    masks = torch.stack([graph.train_mask, graph.val_mask, graph.test_mask])
    assert (masks.sum(0) == 1).all()


def test_the_seed_draws_the_labelled_digits() -> None:
    first, again, other = (ready(DigitsGraph(seed=seed)).data for seed in (0, 0, 1))
    assert torch.equal(first.train_mask, again.train_mask)
    assert torch.equal(first.val_mask, again.val_mask)
    assert not torch.equal(first.train_mask, other.train_mask)


@pytest.mark.parametrize("labels", [0, 141])
def test_impossible_numbers_of_labels_are_refused(labels: int) -> None:
    with pytest.raises(ValueError, match=f"labels_per_class={labels}: give 1 to 140"):
        DigitsGraph(labels_per_class=labels)


def test_most_labels_still_leave_test_digits() -> None:
    assert int(ready(DigitsGraph(labels_per_class=140)).data.test_mask.sum()) == 97


def test_impossible_numbers_of_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match="neighbours=1797: 1797 points allow 1 to 1796"):
        ready(DigitsGraph(neighbours=1797))


def test_the_karate_club() -> None:
    data = ready(KarateClub())
    graph = data.data
    assert torch.equal(graph.x, torch.eye(34))
    assert graph.edge_index.size(1) == 2 * 78
    assert is_undirected(graph.edge_index)
    assert graph.y.bincount().tolist() == [13, 12, 4, 5]
    assert graph.y[graph.train_mask].sort().values.tolist() == [0, 1, 2, 3]
    assert torch.equal(graph.test_mask, ~graph.train_mask)
    assert not (graph.val_mask & graph.test_mask).any()
    assert (data.spec.in_channels, data.spec.out_channels) == (34, 4)


@pytest.mark.parametrize("kind", [DigitsGraph, KarateClub])
def test_training_yields_the_graph_as_often_as_asked(kind: type) -> None:
    data = ready(kind(steps_per_epoch=4))
    assert [batch is data.data for batch in data.train_dataloader()] == [True] * 4
    assert len(list(data.val_dataloader())) == len(list(data.test_dataloader())) == 1
