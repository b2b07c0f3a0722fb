"""Links are divided once, and no split tells of another."""

from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import RandomLinkSplit
from torch_geometric.utils import is_undirected

from trellis.datamodules.graph import EdgeSplit, GraphFromFiles, KarateClub
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.graph import pair_numbers
from trellis.spec import LinkSpec, NodeSpec


def ready(data: EdgeSplit) -> EdgeSplit:
    data.prepare_data()
    data.setup()
    data.setup("test")
    return data


def numbers(links: Tensor, directed: bool = False) -> set[int]:
    return set(pair_numbers(links, 34, directed).tolist())


def one(data: EdgeSplit, split: str) -> Data:
    [batch] = list(data.loader(split))
    return batch


def test_every_link_is_in_one_split() -> None:
    data = ready(EdgeSplit(KarateClub, 0.1, 0.2))
    whole = data.source.data.edge_index
    parts = {split: one(data, split) for split in ("train", "val", "test")}
    links = {s: b.links[:, b.labels == 1] for s, b in parts.items()}
    assert {s: x.size(1) for s, x in links.items()} == {"train": 56, "val": 7, "test": 15}
    assert set().union(*(numbers(x) for x in links.values())) == numbers(whole)
    assert sum(len(numbers(x)) for x in links.values()) == 78
    # The networks see the links of training alone, in both directions.
    assert all(torch.equal(b.edge_index, parts["train"].edge_index) for b in parts.values())
    assert numbers(parts["test"].edge_index) == numbers(links["train"])
    assert is_undirected(parts["test"].edge_index)
    assert data.spec == LinkSpec(34)
    # PyG's split has as many links in each part.
    theirs = RandomLinkSplit(0.1, 0.2, is_undirected=True)(Data(edge_index=whole, num_nodes=34))
    assert [int(each.edge_label.sum()) for each in theirs] == [56, 7, 15]
    assert theirs[2].edge_index.shape == (2, 2 * 63)  # with those of validation
    assert theirs[0].edge_index.shape == parts["train"].edge_index.shape


def test_other_pairs_are_no_links_and_in_one_split_alone() -> None:
    data = ready(EdgeSplit(KarateClub, 0.1, 0.2, negatives=3))
    whole = numbers(data.source.data.edge_index)
    others = {}
    for split, count in (("train", 3 * 56), ("val", 7), ("test", 15)):
        batch = one(data, split)
        others[split] = batch.links[:, batch.labels == 0]
        assert others[split].size(1) == count
        assert bool((others[split][0] != others[split][1]).all())
    for split in ("val", "test"):
        assert not numbers(others[split]) & whole
        assert len(numbers(others[split])) == others[split].size(1)
    assert not numbers(others["val"]) & numbers(others["test"])
    assert not numbers(others["train"]) & numbers(data.positives["train"])


class AlmostComplete(WholeGraph):
    """All pairs of six nodes but one."""

    spec = NodeSpec(1, 2)

    def read(self) -> Data:
        pairs = torch.combinations(torch.arange(6)).t()[:, 1:]
        return Data(x=torch.ones(6, 1), edge_index=torch.cat((pairs, pairs.flip(0)), 1))


def test_training_does_not_spare_the_links_of_the_test() -> None:
    data = EdgeSplit(AlmostComplete, 0.1, 0.5)
    with pytest.raises(ValueError, match="8 pairs that are not linked are wanted, but only 1"):
        data.setup()
    held_out = torch.cat((data.positives["val"], data.positives["test"]), 1)
    drawn = data.training_pairs.draw(2000)
    assert {*pair_numbers(held_out, 6).tolist()} < {*pair_numbers(drawn, 6).tolist()}


def test_evaluation_follows_the_seed_and_training_the_step() -> None:
    def batches(seed: int = 0, epoch: int = 0) -> list[Tensor]:
        data = ready(EdgeSplit(KarateClub, 0.1, 0.2, seed=seed, steps_per_epoch=2))
        loader = data.train_dataloader()
        loader.set_epoch(epoch)
        return [
            *(batch.links for batch in loader),
            one(data, "val").links,
            one(data, "test").links,
        ]

    first, again, later, other = batches(), batches(), batches(epoch=1), batches(seed=1)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], first[1])
    assert not torch.equal(first[0], later[0])
    assert torch.equal(first[2], later[2])
    assert torch.equal(first[3], later[3])
    assert not torch.equal(first[3], other[3])


def test_a_run_goes_on_with_the_pairs_of_the_step_it_was_at() -> None:
    data = ready(EdgeSplit(KarateClub, 0.1, 0.2, steps_per_epoch=4))
    whole = [batch.links for batch in data.train_dataloader()]
    loader, resumed = data.train_dataloader(), data.train_dataloader()
    steps = iter(loader)
    next(steps), next(steps)
    resumed.load_state_dict(loader.state_dict())
    assert all(torch.equal(a, b.links) for a, b in zip(whole[2:], resumed, strict=True))


def test_links_with_a_direction() -> None:
    data = ready(EdgeSplit(KarateClub, 0.1, 0.2, directed=True))
    whole = data.source.data.edge_index
    links = {s: numbers(x, directed=True) for s, x in data.positives.items()}
    assert [len(links[s]) for s in ("train", "val", "test")] == [110, 15, 31]
    assert set().union(*links.values()) == numbers(whole, directed=True)
    assert numbers(data.graph.edge_index, directed=True) == links["train"]
    assert data.spec.directed


def test_nodes_without_features() -> None:
    data = ready(EdgeSplit(KarateClub, 0.1, 0.2, featureless=True))
    assert torch.equal(data.graph.x.to_dense(), torch.eye(34))
    assert data.spec.in_channels == 34


NODES = "id,x,label\n" + "".join(f"n{i},{i},{'ab'[i % 2]}\n" for i in range(8))
RING = "source,target,weight\n" + "".join(f"n{i},n{(i + 1) % 8},{i + 1}\n" for i in range(8))


def of_files(folder: Path, edges: str = RING, **options: object) -> EdgeSplit:
    for name, text in (("nodes", NODES), ("edges", edges)):
        (folder / f"{name}.csv").write_text(text)
    paths = {name: str(folder / f"{name}.csv") for name in ("edges", "nodes")}
    for split in ("train", "val", "test"):
        if f"{split}_links" in options:
            path = folder / f"{split}.csv"
            path.write_text(str(options[f"{split}_links"]))
            options[f"{split}_links"] = str(path)
    return EdgeSplit(partial(GraphFromFiles, **paths), **options)


def test_weights_stay_with_the_edges_that_are_left(tmp_path: Path) -> None:
    data = ready(of_files(tmp_path, val_fraction=0.2, test_fraction=0.2))
    assert data.spec == LinkSpec(1, edge_weights=True)
    graph = data.graph
    assert graph.edge_index.size(1) == len(graph.edge_weight) == 12
    for (u, v), weight in zip(graph.edge_index.t().tolist(), graph.edge_weight, strict=True):
        assert weight == (8 if {u, v} == {0, 7} else min(u, v) + 1)


def test_splits_may_be_files(tmp_path: Path) -> None:
    data = ready(
        of_files(
            tmp_path,
            val_links="source,target\nn1,n0\n",
            test_links="source,target,label\nn2,n3,1\nn0,n4,0\nn0,n5,0\n",
        )
    )
    test = one(data, "test")
    assert test.links.tolist() == [[2, 0, 0], [3, 4, 5]]
    assert test.labels.tolist() == [1, 0, 0]
    val = one(data, "val")
    assert val.links[:, 0].tolist() == [1, 0]
    assert val.labels.tolist() == [1, 0]
    seen = set(map(tuple, data.graph.edge_index.t().tolist()))
    assert not seen & {(0, 1), (1, 0), (2, 3), (3, 2)}
    assert data.positives["train"].size(1) == 6
    given = ready(of_files(tmp_path, train_links="n4,n5\nn5,n6\n", val_links="n1,n0\n",
                           test_links="n2,n3\n"))  # fmt: skip
    assert given.positives["train"].tolist() == [[4, 5], [5, 6]]
    assert given.graph.edge_index.size(1) == 12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_links": "n0,n9\n"}, "val.csv, line 1, column 'target': 'n9' is not a node id: add"),
        ({"val_links": "n0,n1,2\n"}, "val.csv, line 1, column 'label': give 1 or 0"),
        ({"val_links": "n0,n0\n"}, "val.csv, line 1: a node with itself is no link: remove it"),
        ({"val_links": "n0,n1,0\n"}, "the val split has no links, of 8 in the graph: give it"),
        (
            {"test_links": "n0,n1\n", "val_links": "n1,n0\n"},
            "nodes 1 and 0 is in the val split and",
        ),
        ({"edges": ""}, "EdgeSplit: the train split has no links, of 0 in the graph: give it at"),
        (
            {"test_fraction": 0.01},
            "the test split has no links, of 8 .* a larger test_fraction or",
        ),
    ],
)
def test_what_cannot_be_learnt_from_is_named(
    tmp_path: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        ready(of_files(tmp_path, **({"val_fraction": 0.2, "test_fraction": 0.2} | options)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"val_fraction": 0.0}, "val_fraction=0.0: give a number between 0 and 1"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "leave no links to train on"),
        ({"negatives": 0}, "negatives=0: give at least 1"),
    ],
)
def test_options_are_checked_at_once(options: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EdgeSplit(KarateClub, **options)


def test_pairs_of_ones_own_are_predicted_by_name(tmp_path: Path) -> None:
    data = of_files(tmp_path, val_fraction=0.2, test_fraction=0.2)
    (tmp_path / "pairs.csv").write_text("source,target\nn7,n1\nn2,n5\n")
    inputs = data.inputs(str(tmp_path / "pairs.csv"), LinkSpec(1, edge_weights=True))
    [batch] = list(inputs.loader)
    assert batch.links.tolist() == [[7, 2], [1, 5]]
    assert list(inputs.ids) == ["n7 n1", "n2 n5"]
    assert torch.equal(batch.edge_index, data.graph.edge_index)
