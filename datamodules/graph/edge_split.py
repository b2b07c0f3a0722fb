"""Links of one graph, divided into those to learn from and those to predict."""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor
from torch_geometric.data import Data

from trellis.checks import at_least_one, fraction
from trellis.datamodules.engine.base import SPLITS, DataModule, Inputs, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.edge_table import read_edges
from trellis.datamodules.graph.planetoid import Planetoid
from trellis.datamodules.graph.whole_graph import WholeGraph
from trellis.files import FilePath
from trellis.graph.links import NonLinks, pair_numbers, unique_links
from trellis.nn.sparse import to_csr
from trellis.processes import rank_and_world
from trellis.random import hashed_integers
from trellis.spec import LinkSpec


class WholeGraphFactory(Protocol):
    """Makes the data module of one graph, such as ``partial(Planetoid, "PubMed")``."""

    def __call__(self) -> WholeGraph: ...


class EdgeSplit(DataModule):
    """The links of any single graph, to train on and to predict.

    A link is an edge without its direction, unless ``directed``; an edge of a node to itself is
    none. Each link is drawn into one split, so that no split holds the reverse of what another
    one holds, and the networks see the graph without the links of validation and test.

    Batch: the whole graph as PyG ``Data`` with ``x``, ``edge_index`` (without those links;
    ``edge_weight`` and ``edge_attr`` likewise), ``links [2, L]`` and ``labels [L]``, 1 for the
    links of the split and 0 for as many pairs that are none. Those of validation and test are
    drawn once from ``seed``, each pair at most once, among the pairs that no edge of the graph
    joins. Those of training are drawn anew for each step, from the seed of the run, among the
    pairs that no link of training joins: leaving out others would tell which those are.
    Predictions are made for the links and the other pairs of the test split, in this order.

    Args:
        data: makes the graph; its splits of nodes are not used.
        val_fraction: of the links.
        test_fraction: likewise.
        seed: of the split, and of the pairs that are none in validation and test.
        train_links: path of a table ``source,target`` with the links to learn from; without it,
            all links of the graph that are in no other split. Nodes are called as in ``data``,
            or by their numbers from 0 on.
        val_links: likewise; takes the place of ``val_fraction``. A further column ``label`` of 1
            and 0 says which pairs are links; without it all are.
        test_links: likewise.
        directed: whether ``u, v`` and ``v, u`` are two links. A decoder without a direction then
            knows of one by the other.
        featureless: nodes have the identity as ``x``, in place of their features.
        negatives: pairs that are none for each link of training, in a step.
        steps_per_epoch: training steps per epoch, each on all links of training.
    Raises:
        FileNotFoundError: see ``data``; or a table is missing.
        ValueError: fractions that leave a split without links, a link to a node that does not
            exist, or a link in two splits.

    Source: the split of Kipf and Welling 2016, "Variational graph auto-encoders", section 3.
    """

    def __init__(
        self,
        data: WholeGraphFactory = Planetoid,
        val_fraction: float = 0.05,
        test_fraction: float = 0.1,
        seed: int = 0,
        train_links: FilePath | None = None,
        val_links: FilePath | None = None,
        test_links: FilePath | None = None,
        directed: bool = False,
        featureless: bool = False,
        negatives: int = 1,
        steps_per_epoch: int = 1,
    ) -> None:
        super().__init__()
        for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
            fraction(name, value)
        if val_fraction + test_fraction >= 1:
            raise ValueError(
                f"val_fraction={val_fraction} and test_fraction={test_fraction} leave no links "
                f"to train on: give less than 1 together"
            )
        self.source, self.directed, self.featureless = data(), directed, featureless
        self.fractions = {"val": val_fraction, "test": test_fraction}
        paths = zip(SPLITS, (train_links, val_links, test_links), strict=True)
        self.files = {split: Path(path) for split, path in paths if path is not None}
        self.seed, self.negatives = seed, at_least_one("negatives", negatives)
        self.steps_per_epoch = at_least_one("steps_per_epoch", steps_per_epoch)
        self.graph: Data | None = None

    def prepare_data(self) -> None:
        self.source.prepare_data()

    def setup(self, stage: str | None = None) -> None:
        if self.graph is not None:
            return
        self.source.setup(stage)
        data = self.source.data
        assert data is not None
        self.num_nodes = data.num_nodes
        links = unique_links(data.edge_index, self.num_nodes, self.directed)
        generator = torch.Generator().manual_seed(self.seed)
        self.positives, self.others = self._divided(links, generator)
        self._require_apart()
        held_out = torch.cat((self.positives["val"], self.positives["test"]), 1)
        self.graph = self._without(data, held_out)
        self.training_pairs = NonLinks(self.positives["train"], self.num_nodes, self.directed)
        self._draw_others(torch.cat((links, *self.positives.values()), 1), generator)
        self.spec = LinkSpec(self.graph.x.size(1), self.directed, "edge_weight" in self.graph)

    def _divided(
        self, links: Tensor, generator: torch.Generator
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """The links of each split, and the pairs that files call none."""
        others: dict[str, Tensor] = {}
        given = {split: self._read(path, split) for split, path in self.files.items()}
        positives: dict[str, Tensor] = {}
        for split, (pairs, labels) in given.items():
            positives[split] = pairs[:, labels]
            if not bool(labels.all()):
                others[split] = pairs[:, ~labels]
        left = links[:, ~self._among(links, [*positives.values(), *others.values()])]
        left = left[:, torch.randperm(left.size(1), generator=generator)]
        for split in ("test", "val"):
            if split not in positives:
                count = int(self.fractions[split] * links.size(1))
                positives[split], left = left[:, :count], left[:, count:]
        positives.setdefault("train", left)
        for split in SPLITS:
            if not positives[split].size(1):
                larger = "smaller fractions" if split == "train" else f"a larger {split}_fraction"
                raise ValueError(
                    f"EdgeSplit: the {split} split has no links, of {links.size(1)} in the graph: "
                    f"give it at least one, by {larger} or by {split}_links"
                )
        return positives, others

    def _read(self, path: Path, split: str) -> tuple[Tensor, Tensor]:
        """Pairs ``[2, L]`` of a table, and which of them are links."""
        ids = node_ids(self.source, self.num_nodes)
        table = read_edges(path, f"{split}_links", ids, third="label")
        labels = table.column("label")
        wrong = torch.zeros(0) if labels is None else (labels != 0) & (labels != 1)
        if bool(wrong.any()):
            line = table.lines[int(wrong.nonzero()[0])]
            raise ValueError(f"{path}, line {line}, column 'label': give 1 or 0")
        if labels is None:
            labels = torch.ones(table.edge_index.size(1))
        pairs, labels = table.edge_index, labels.bool()
        itself = pairs[0] == pairs[1]
        if bool((itself & labels).any()):
            line = table.lines[int(itself.nonzero()[0])]
            raise ValueError(f"{path}, line {line}: a node with itself is no link: remove it")
        return pairs, labels

    def _among(self, links: Tensor, groups: list[Tensor]) -> Tensor:
        """Which of the links ``[2, L]`` are in one of the groups."""
        number = pair_numbers(links, self.num_nodes, self.directed)
        known = torch.cat([torch.empty(2, 0, dtype=torch.long), *groups], 1)
        return torch.isin(number, pair_numbers(known, self.num_nodes, self.directed))

    def _require_apart(self) -> None:
        for one, other in (("train", "val"), ("train", "test"), ("val", "test")):
            both = self._among(self.positives[one], [self.positives[other]])
            if bool(both.any()):
                source, target = self.positives[one][:, both][:, 0].tolist()
                raise ValueError(
                    f"EdgeSplit: the link of nodes {source} and {target} is in the {one} split "
                    f"and in the {other} split: remove it from one"
                )

    def _without(self, data: Data, held_out: Tensor) -> Data:
        """The graph without these links, as the networks see it."""
        kept = ~self._among(data.edge_index, [held_out])
        kept |= data.edge_index[0] == data.edge_index[1]
        x = data.x
        if self.featureless or x is None:
            x = to_csr(torch.eye(self.num_nodes).to_sparse())
        graph = Data(x=x, edge_index=data.edge_index[:, kept])
        for name in ("edge_weight", "edge_attr"):
            if name in data:
                graph[name] = data[name][kept]
        return graph

    def _draw_others(self, links: Tensor, generator: torch.Generator) -> None:
        """Draw the pairs that are none of validation and test; no pair is in both."""
        wanted = {s: self.positives[s].size(1) for s in ("val", "test") if s not in self.others}
        known = torch.cat((links, *self.others.values()), 1)
        if wanted:
            non_links = NonLinks(known, self.num_nodes, self.directed)
            drawn = non_links.draw_distinct(sum(wanted.values()), generator)
            self.others |= dict(zip(wanted, drawn.split([*wanted.values()], 1), strict=True))

    def loader(self, split: Split) -> Loader[Data]:
        if split != "train":
            return in_parts(self._batch(self.positives[split], self.others[split]))

        def fresh(indices: Tensor) -> Data:
            number = int(hashed_integers(2**31, loader.seed, loader.epoch, int(indices[0])))
            generator = torch.Generator().manual_seed(number)
            links = self.positives["train"]
            others = self.training_pairs.draw(self.negatives * links.size(1), generator)
            return self._batch(links, others)

        loader = Loader(self.steps_per_epoch, fresh)
        return loader

    def _batch(self, links: Tensor, others: Tensor) -> Data:
        assert self.graph is not None, "setup() comes first"
        batch = Data(**self.graph.to_dict())
        batch.links = torch.cat((links, others), 1)
        batch.labels = torch.cat([torch.ones(links.size(1)), torch.zeros(others.size(1))]).long()
        return batch

    def inputs(self, path: str, spec: LinkSpec) -> Inputs:
        """Pairs of nodes of the same graph, in a table ``source,target``."""
        self.prepare_data()
        self.setup()
        ids = node_ids(self.source, self.num_nodes)
        pairs = read_edges(Path(path), "input", ids, third="label").edge_index
        names = {number: name for name, number in ids.items()}
        batch = self._batch(pairs, pairs[:, :0])
        called = [f"{names[a]} {names[b]}" for a, b in pairs.t().tolist()]
        return Inputs(in_parts(batch), called)


def in_parts(batch: Data) -> Loader[Data]:
    """A batch whose links are divided among the processes, so that each evaluates some."""
    _, world = rank_and_world()

    def part(indices: Tensor) -> Data:
        number, some = int(indices[0]), Data(**batch.to_dict())
        some.links = batch.links.tensor_split(world, 1)[number]
        some.labels = batch.labels.tensor_split(world)[number]
        return some

    return Loader(world, part)


def node_ids(data: WholeGraph, num_nodes: int) -> Mapping[str, int]:
    """Number of each node by its name: that of a table, or the number itself."""
    named: Mapping[str, int] | None = getattr(data, "node_ids", None)
    return named or {str(number): number for number in range(num_nodes)}
