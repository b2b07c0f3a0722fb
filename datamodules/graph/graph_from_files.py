"""Node classification on a graph in two tables."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch_geometric.data import Data

from trellis.checks import choose_from, fraction
from trellis.datamodules.engine.base import SPLITS, Inputs
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.labels import class_names
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.graph.edge_table import EdgeTable, edge_tensors, read_edges
from trellis.datamodules.graph.node_table import NodeTable
from trellis.datamodules.graph.whole_graph import WholeGraph, check_masks
from trellis.files import FilePath
from trellis.index import did_you_mean
from trellis.spec import NodeSpec, Targets


class GraphFromFiles(WholeGraph):
    """A graph of your own, from a table of edges and one of nodes.

    ``nodes``: a table with a header; the first column is the node's id, ``label`` its class or
    number (empty: unlabelled), an optional column ``split`` is train, val, test or empty, and all
    other columns are numeric features. ``edges``: a table of ``source,target`` ids and further
    columns of numbers: ``weight``, or a third one without a header, is the weight of an edge,
    others are its features. Cells are separated by commas, semicolons (then numbers may have
    decimal commas), tabs or spaces; lines of edges that begin with # or % are comments.

    Batch: the whole graph as PyG ``Data`` with ``x``, ``edge_index``, where they are known
    ``edge_weight`` and ``edge_attr``, ``y`` (-1, or 0: unlabelled) and masks over labelled nodes.
    Predictions are made for all nodes, in the order of the file.

    Args:
        edges: path of the edges.
        nodes: path of the nodes.
        label: name of the label column.
        undirected: store every edge in both directions.
        ignore_weights: leave the weights out, for a network that takes none.
        train_fraction: of the labelled nodes, if there is no column ``split``.
        val_fraction: likewise; the rest is the test split.
        seed: of that split.
        steps_per_epoch: training steps per epoch, each on the whole graph.
        targets: what the column ``label`` holds: ``labels``, or ``real`` numbers.
    Raises:
        FileNotFoundError: one of the files is missing.
        ValueError: the content of a file is invalid; names file, line and column. Or the labels
            are no classes, see ``check_class_names``.
    """

    def __init__(
        self,
        edges: FilePath = "edges.csv",
        nodes: FilePath = "nodes.csv",
        label: str = "label",
        undirected: bool = True,
        ignore_weights: bool = False,
        train_fraction: float = 0.6,
        val_fraction: float = 0.2,
        seed: int = 0,
        steps_per_epoch: int = 1,
        targets: Targets = "labels",
    ) -> None:
        super().__init__(steps_per_epoch)
        for name, value in (("train_fraction", train_fraction), ("val_fraction", val_fraction)):
            fraction(name, value)
        if train_fraction + val_fraction >= 1:
            raise ValueError(
                f"train_fraction={train_fraction} and val_fraction={val_fraction} leave no test "
                f"nodes: give less than 1 together"
            )
        self.edges, self.nodes, self.label = Path(edges), Path(nodes), label
        self.undirected, self.seed = undirected, seed
        self.targets = choose_from("targets", targets, Targets)
        self.ignore_weights = ignore_weights
        self.fractions = train_fraction, val_fraction

    def read(self) -> Data:
        table = NodeTable(self.nodes, self.label, ("split",) if self.label != "split" else ())
        header, ids = table.header, table.ids()
        label = header.index(self.label)
        special = {0, label}
        texts = table.texts(label)
        known = torch.tensor([bool(text) for text in texts])
        y, classes = self._read_targets(table, label, known)
        if "split" in header and self.label != "split":
            special.add(header.index("split"))
            masks = _read_split(table, header.index("split"), known)
        else:
            masks = _draw_split(known, self.fractions, self.seed)
        features = [column for column in range(len(header)) if column not in special]
        edges = read_edges(self.edges, "edges", ids, third="weight")
        data = Data(
            x=table.numbers(features),
            **edge_tensors(edges, self.edges, len(ids), self.undirected, self.ignore_weights),
            y=y,
            **{f"{split}_mask": mask for split, mask in zip(SPLITS, masks, strict=True)},
        )
        check_masks(data, str(self.nodes))
        self.node_ids, self.test_ids = ids, list(ids)
        self.spec = NodeSpec(
            len(features),
            len(classes) or 1,
            classes,
            edge_weights="edge_weight" in data,
            edge_channels=data.num_edge_features,
            feature_names=tuple(header[column] for column in features),
            edge_names=tuple(name for name in edges.names if name != "weight"),
            **({} if classes else self._units(y[data.train_mask])),
        )
        return data

    def _read_targets(
        self, table: NodeTable, label: int, known: Tensor
    ) -> tuple[Tensor, tuple[str, ...]]:
        """Labels ``[N]`` and the names of classes, or real targets ``[N, 1]`` and no names."""
        if self.targets == "labels":
            return _read_labels(self.nodes, self.label, table.texts(label))
        y = torch.zeros(len(known), 1)
        y[known, 0] = table.numbers_where(known, label)
        return y, ()

    def _units(self, y: Tensor) -> dict[str, Any]:
        """What the spec says of real targets ``[T, 1]`` of training."""
        scale = float(y.std(correction=0)) or 1.0
        means = {"target_means": (float(y.mean()),), "target_scales": (scale,)}
        return {"targets": "real", "target_names": (self.label,), **means}

    def inputs(self, path: str, spec: Any) -> Inputs:
        """A new graph: a folder with tables named as those of the training graph.

        The table of nodes needs no labels. Features, those of edges too, are found by their names.
        """
        edges, nodes = (Path(path) / file.name for file in (self.edges, self.nodes))
        nodes_table = NodeTable(nodes, None, (self.label, "split"), "input")
        header, ids = nodes_table.header, nodes_table.ids()
        columns = _columns_of(spec, nodes, [name for name in header if name != self.label])
        table = _with_features_of(spec, edges, read_edges(edges, "input", ids, third="weight"))
        ignored = self.ignore_weights or not spec.edge_weights
        known = edge_tensors(table, edges, len(ids), self.undirected, ignored)
        _check_edges(spec, edges, known)
        x = nodes_table.numbers([header.index(name) for name in columns])
        data = Data(x=x, y=torch.full((len(ids),), -1), **known)
        return Inputs(Loader(1, lambda _: data), list(ids))


def _columns_of(spec: NodeSpec, path: Path, header: list[str]) -> Sequence[str]:
    """Names of the features in a new table of nodes, in the order of the training table."""
    found = [name for name in header[1:] if name != "split"]
    _require_columns(path, found, spec.feature_names, "features")
    names = spec.feature_names or found
    if len(names) != spec.in_channels:
        raise ValueError(
            f"{path} has {len(names)} features, but the model was trained on {spec.in_channels}"
        )
    return names


def _with_features_of(spec: NodeSpec, path: Path, table: EdgeTable) -> EdgeTable:
    """A new table of edges with the features of the training table, in their order."""
    if not spec.edge_names:
        return table
    _require_columns(path, table.names, spec.edge_names, "features of edges")
    names = [*spec.edge_names, *(name for name in table.names if name == "weight")]
    columns = [table.names.index(name) for name in names]
    return table._replace(names=names, values=table.values[:, columns])


def _require_columns(path: Path, found: list[str], names: Sequence[str], kind: str) -> None:
    if lacking := [name for name in names if name not in found]:
        hint = did_you_mean(lacking[0], set(found) - set(names))
        raise ValueError(
            f"{path} has no column {lacking[0]!r}, but the model was trained on {len(names)} "
            f"{kind}{hint}"
        )


def _check_edges(spec: NodeSpec, path: Path, known: dict[str, Tensor]) -> None:
    """Check that new edges say as much as those of the training graph."""
    if spec.edge_weights and "edge_weight" not in known:
        raise ValueError(f"{path} has no column weight, but the model was trained with one")
    found = known["edge_attr"].size(1) if "edge_attr" in known else 0
    if found != spec.edge_channels:
        trained = f"the model was trained on {spec.edge_channels}"
        raise ValueError(f"{path} has {found} features of edges, but {trained}")


def _read_labels(path: Path, column: str, names: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    classes = class_names([name for name in names if name], f"{path}, column {column!r}")
    label = {name: index for index, name in enumerate(classes)} | {"": -1}
    return torch.tensor([label[name] for name in names]), classes


def _read_split(table: NodeTable, column: int, known: Tensor) -> list[Tensor]:
    cells = table.texts(column)
    for line, cell in zip(table.lines, cells, strict=True):
        if cell not in (*SPLITS, ""):
            fix = "give train, val, test or an empty cell"
            raise in_line(table.path, line, f"{cell!r}: {fix}", "split")
    return [known & torch.tensor([cell == split for cell in cells]) for split in SPLITS]


def _draw_split(known: Tensor, fractions: tuple[float, float], seed: int) -> list[Tensor]:
    labelled = known.nonzero().flatten()
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))
    train, val = (round(fraction * len(labelled)) for fraction in fractions)
    masks = []
    for chosen in labelled[order].tensor_split([train, train + val]):
        masks.append(torch.zeros(len(known), dtype=torch.bool))
        masks[-1][chosen] = True
    return masks
