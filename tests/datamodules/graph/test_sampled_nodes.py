"""Batches of sampled neighbourhoods: seeds first, functions of the epoch, inductive or not."""

from functools import partial

import lightning as L
import pytest
import torch
from torch_geometric.data import Data

from trellis.datamodules.graph import KarateClub, SampledNodes
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.lightning_modules.graph import NodeClassification
from trellis.networks.graph import GraphSAGE
from trellis.spec import NodeSpec


class Ring(WholeGraph):
    """24 nodes, every third to validate and every third to test on; labels alternate."""

    spec = NodeSpec(24, 2)

    def read(self) -> Data:
        nodes = torch.arange(24)
        edges = torch.stack([nodes, (nodes + 1) % 24])
        parts = {
            f"{split}_mask": nodes % 3 == n for n, split in enumerate(("train", "val", "test"))
        }
        return Data(torch.eye(24), torch.cat([edges, edges.flip(0)], 1), y=nodes % 2, **parts)


def ring(**options) -> SampledNodes:
    data = SampledNodes(Ring, **{"fan_out": (1, 1), "batch_size": 3, **options})
    data.setup()
    return data


def batches(data: SampledNodes, epoch: int) -> list[Data]:
    loader = data.train_dataloader()
    loader.set_epoch(epoch)
    return list(loader)


def test_seeds_come_first_and_each_is_in_one_batch() -> None:
    found = batches(ring(), 0)
    seeds = torch.cat([batch.n_id[batch.train_mask] for batch in found])
    assert seeds.sort().values.tolist() == [*range(0, 24, 3)]
    for batch in found:
        assert batch.train_mask.nonzero()[:, 0].tolist() == [*range(int(batch.train_mask.sum()))]
        assert torch.equal(batch.x.argmax(1), batch.n_id)
        assert torch.equal(batch.y, batch.n_id % 2)
        source, target = batch.n_id[batch.edge_index]
        assert {*((source - target) % 24).tolist()} <= {1, 23}


def test_batches_depend_on_the_epoch_alone_and_go_on_where_they_were_left() -> None:
    def ids(found: list[Data]) -> list[list[int]]:
        return [batch.n_id.tolist() for batch in found]

    data = ring()
    whole = ids(batches(data, 1))
    torch.rand(3)
    assert whole == ids(batches(ring(), 1))
    assert whole != ids(batches(data, 2))
    loader = data.train_dataloader()
    loader.set_epoch(1)
    loader.load_state_dict({"batches": 1, "seed": loader.seed})
    assert ids(list(loader)) == whole[1:]


def test_an_inductive_split_shows_no_node_of_the_others_in_training() -> None:
    data = ring(inductive=True, fan_out=(-1, -1))
    assert {int(n) % 3 for batch in batches(data, 0) for n in batch.n_id} == {0}
    assert {int(n) % 3 for batch in batches(ring(fan_out=(-1,)), 0) for n in batch.n_id} == {
        0,
        1,
        2,
    }
    (whole,) = data.test_dataloader()
    assert whole.edge_index.size(1) == 48


def test_with_all_neighbours_a_step_is_that_of_the_whole_graph() -> None:
    """The same gradient of the same loss, where nothing is left out."""
    data = SampledNodes(KarateClub, fan_out=(-1, -1), batch_size=4)
    data.setup()
    (batch,), whole = batches(data, 0), data.data
    L.seed_everything(0, verbose=False)
    objective = NodeClassification(partial(GraphSAGE, dropout=0.0), spec=data.spec)
    objective.configure_model()
    gradients = []
    for each in (batch, whole):
        objective.zero_grad()
        logits, labels = objective.logits_and_labels(each, "train")
        objective.loss(logits, labels).backward()
        gradients.append(torch.cat([p.grad.flatten() for p in objective.parameters()]))
    torch.testing.assert_close(*gradients, atol=1e-6, rtol=0)


def test_all_labels_are_those_of_the_nodes_that_are_not_held_out() -> None:
    whole = ring().graph.data
    whole.train_mask = whole.train_mask & (torch.arange(24) < 9)
    few, every = SampledNodes(Ring), SampledNodes(Ring, labels="all")
    for data in (few, every):
        data.graph.data = whole
        data.setup()
    assert few.seeds.tolist() == [0, 3, 6]
    assert every.seeds.tolist() == [*range(0, 24, 3)]
    with pytest.raises(ValueError, match="labels='most'"):
        SampledNodes(Ring, labels="most")


@pytest.mark.parametrize("fan_out", [(), (3, 0)])
def test_a_fan_out_of_nothing_is_refused_at_the_door(fan_out: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="fan_out="):
        SampledNodes(KarateClub, fan_out=fan_out)
