"""Batches of walks: pure functions of seed, epoch and batch; pairs that lie on the graph."""

from functools import partial

import networkx as nx
import pytest
import torch
from torch_geometric.data import Data

from trellis.datamodules.graph import KarateClub, NodeWalks
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.functional.skip_gram import Probe
from trellis.spec import NodeSpec


class Chain(WholeGraph):
    """0 -> 1 -> 2, and 3 alone."""

    def __init__(self, edges: int = 2) -> None:
        super().__init__()
        self.edges = edges

    def read(self) -> Data:
        self.spec = NodeSpec(1, 2)
        masks = {f"{split}_mask": torch.ones(4, dtype=torch.bool) for split in ("train", "test")}
        edge_index = torch.tensor([[0, 1], [1, 2]])[:, : self.edges]
        return Data(torch.ones(4, 1), edge_index, y=torch.arange(4) % 2, **masks)


def karate(**options) -> NodeWalks:
    data = NodeWalks(KarateClub, **{"walk_length": 6, "window": 2, "batch_size": 8, **options})
    data.setup()
    return data


def batches(data: NodeWalks, epoch: int, seed: int = 0) -> list:
    loader = data.train_dataloader()
    loader.seed = seed
    loader.set_epoch(epoch)
    return list(loader)


def equal(a: list, b: list) -> bool:
    return len(a) == len(b) and all(
        x.shape == y.shape and torch.equal(x, y)
        for one, two in zip(a, b, strict=True)
        for x, y in zip(one, two, strict=True)
    )


def test_batches_depend_on_seed_and_epoch_alone() -> None:
    first = batches(karate(), 3)
    torch.rand(5)
    assert equal(first, batches(karate(), 3))
    assert not equal(first, batches(karate(), 4))
    assert not equal(first, batches(karate(), 3, seed=1))
    assert len(first) == 5


def test_an_epoch_goes_on_where_it_was_left() -> None:
    data = karate(p=0.5, q=2.0)
    whole = batches(data, 0)
    loader = data.train_dataloader()
    loader.load_state_dict({"batches": 2, "seed": 0})
    assert equal(list(loader), whole[2:])


def test_contexts_are_as_near_on_the_graph_as_the_window_allows() -> None:
    data = karate(walks_per_node=3)
    far = dict(nx.all_pairs_shortest_path_length(nx.karate_club_graph()))
    starts = 0
    for center, context, negatives in batches(data, 0):
        for c, row in zip(center.tolist(), context.tolist(), strict=True):
            assert all(far[c][o] <= 2 for o in row if o >= 0)
        assert negatives.shape == (len(center), 5)
        starts += len(center)
    assert starts == 34 * 3 * 7


def test_a_node_that_no_edge_leaves_begins_no_walk() -> None:
    data = NodeWalks(Chain, walk_length=3, window=1)
    data.setup()
    (batch,) = batches(data, 0)
    seen = {(c, o) for c, row in zip(*(each.tolist() for each in batch[:2]), strict=True)
            for o in row if o >= 0}  # fmt: skip
    assert seen == {(0, 1), (1, 0), (1, 2), (2, 1)}
    assert data.spec.num_tokens == 4


def test_evaluations_are_the_same_each_time_and_end_with_the_labels() -> None:
    data = karate()
    walks, probe = data.val_dataloader()
    assert equal([walks], [next(iter(data.val_dataloader()))])
    assert not equal([walks], [next(iter(data.test_dataloader()))])
    *_, last = data.test_dataloader()
    graph = data.graph.data
    assert isinstance(probe, Probe)
    assert torch.equal(last.labels, graph.y[graph.test_mask])
    assert torch.equal(last.train_ids, graph.train_mask.nonzero()[:, 0])
    assert torch.cat(list(data.predict_dataloader())).tolist() == [*range(34)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"walk_length": 0}, "walk_length=0: give at least 1"),
        ({"q": 0.0}, "q=0.0: give a positive number"),
        ({"num_negatives": 0}, "num_negatives=0: give at least 1"),
    ],
)
def test_bad_options_are_named(options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NodeWalks(KarateClub, **options)


def test_a_graph_without_edges_is_refused() -> None:
    data = NodeWalks(partial(Chain, edges=0))
    with pytest.raises(ValueError, match="Chain: there are no edges to walk along"):
        data.setup()
