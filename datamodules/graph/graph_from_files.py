"""Node classification on a graph in two tables."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.utils import coalesce, to_undirected

from trellis.checks import fraction
from trellis.datamodules.engine.base import SPLITS
from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.labels import class_names
from trellis.datamodules.engine.tables import Row, read_rows
from trellis.datamodules.graph.whole_graph import WholeGraph, check_masks
from trellis.files import FilePath
from trellis.spec import NodeSpec

HEADERS = (("source", "target"), ("src", "dst"), ("from", "to"), ("fromnodeid", "tonodeid"))


class GraphFromFiles(WholeGraph):
    """A graph of your own, from a table of edges and one of nodes.

    ``nodes``: a table with a header; the first column is the node's id, ``label`` its class
    (empty: unlabelled), an optional column ``split`` is train, val, test or empty, and all other
    columns are numeric features. ``edges``: a table of ``source,target`` ids; a header is
    optional. Cells are separated by commas, semicolons (then numbers may have decimal commas),
    tabs or spaces; lines of edges that begin with # or % are comments.

    Batch: the whole graph as PyG ``Data`` with ``x``, ``edge_index``, ``y`` (-1: unlabelled) and
    masks over labelled nodes. Predictions are made for all nodes, in the order of the file.

    Args:
        edges: path of the edges.
        nodes: path of the nodes.
        label: name of the label column.
        undirected: store every edge in both directions.
        ignore_weights: leave out a third column of the edges, which is an error otherwise.
        train_fraction: of the labelled nodes, if there is no column ``split``.
        val_fraction: likewise; the rest is the test split.
        seed: of that split.
        steps_per_epoch: training steps per epoch, each on the whole graph.
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
        self.ignore_weights = ignore_weights
        self.fractions = train_fraction, val_fraction

    def read(self) -> Data:
        header, rows = _read_table(self.nodes, self.label)
        ids = _read_ids(self.nodes, rows)
        label = header.index(self.label)
        special = {0, label}
        y, classes = _read_labels(self.nodes, self.label, [cells[label] for _, cells in rows])
        if "split" in header and self.label != "split":
            special.add(header.index("split"))
            masks = _read_split(self.nodes, rows, header.index("split"), y)
        else:
            masks = _draw_split(y, self.fractions, self.seed)
        features = [column for column in range(len(header)) if column not in special]
        data = Data(
            x=_read_features(self.nodes, header, rows, features),
            edge_index=self._read_edges(ids),
            y=y,
            **{f"{split}_mask": mask for split, mask in zip(SPLITS, masks, strict=True)},
        )
        check_masks(data, str(self.nodes))
        self.spec = NodeSpec(len(features), len(classes), classes)
        return data

    def _read_edges(self, ids: dict[str, int]) -> Tensor:
        rows = read_rows(self.edges, "edges", ids)
        if rows and tuple(cell.lower() for cell in rows[0][1][:2]) in HEADERS:
            rows = rows[1:]
        ends: list[tuple[int, int]] = []
        for line, cells in rows:
            if len(cells) != 2:
                self._check_weights(line, cells)
            for column, cell in zip(("source", "target"), cells, strict=False):
                if cell not in ids:
                    fix = "add the node or remove the edge (a header must be source,target)"
                    raise in_line(self.edges, line, f"{cell!r} is not a node id: {fix}", column)
            ends.append((ids[cells[0]], ids[cells[1]]))
        edge_index = torch.tensor(ends, dtype=torch.long).view(-1, 2).t().contiguous()
        if self.undirected:
            return to_undirected(edge_index, num_nodes=len(ids))
        return coalesce(edge_index, num_nodes=len(ids))

    def _check_weights(self, line: int, cells: list[str]) -> None:
        if len(cells) != 3:
            raise in_line(self.edges, line, f"{len(cells)} cells: give source,target")
        if not self.ignore_weights:
            weights = "networks take no weights of edges: leave them out with ignore_weights=true"
            raise in_line(self.edges, line, f"3 cells: give source,target; {weights}")


def _read_table(path: Path, label: str) -> tuple[list[str], list[Row]]:
    rows = read_rows(path, "nodes")
    if len(rows) < 2:
        raise ValueError(f"{path}: give a header and one line per node")
    (_, header), *rows = rows
    if repeated := [name for name in header if header.count(name) > 1]:
        raise ValueError(f"{path}: two columns have the name {repeated[0]!r}: rename one")
    if label not in header[1:]:
        raise ValueError(
            f"{path}: no column label={label!r} after the id: choose from {', '.join(header[1:])}"
        )
    if not set(header[1:]) - {label, "split"}:
        raise ValueError(f"{path}: no feature columns: add at least one beside id and label")
    for line, cells in rows:
        if len(cells) != len(header):
            raise in_line(path, line, f"{len(cells)} cells for {len(header)} columns")
    return header, rows


def _read_ids(path: Path, rows: list[Row]) -> dict[str, int]:
    ids: dict[str, int] = {}
    for number, (line, cells) in enumerate(rows):
        if cells[0] in ids:
            first = rows[ids[cells[0]]][0]
            raise in_line(path, line, f"node id {cells[0]!r} is also on line {first}: remove one")
        ids[cells[0]] = number
    return ids


def _read_labels(path: Path, column: str, names: list[str]) -> tuple[Tensor, tuple[str, ...]]:
    classes = class_names([name for name in names if name], f"{path}, column {column!r}")
    label = {name: index for index, name in enumerate(classes)} | {"": -1}
    return torch.tensor([label[name] for name in names]), classes


def _read_split(path: Path, rows: list[Row], column: int, y: Tensor) -> list[Tensor]:
    for line, cells in rows:
        if cells[column] not in (*SPLITS, ""):
            fix = "give train, val, test or an empty cell"
            raise in_line(path, line, f"{cells[column]!r}: {fix}", "split")
    labelled = y >= 0
    return [
        labelled & torch.tensor([cells[column] == split for _, cells in rows]) for split in SPLITS
    ]


def _draw_split(y: Tensor, fractions: tuple[float, float], seed: int) -> list[Tensor]:
    labelled = (y >= 0).nonzero().flatten()
    order = torch.randperm(len(labelled), generator=torch.Generator().manual_seed(seed))
    train, val = (round(fraction * len(labelled)) for fraction in fractions)
    masks = []
    for chosen in labelled[order].tensor_split([train, train + val]):
        masks.append(torch.zeros(len(y), dtype=torch.bool))
        masks[-1][chosen] = True
    return masks


def _read_features(
    path: Path, header: list[str], rows: list[Row], columns: Sequence[int]
) -> Tensor:
    try:
        x = _floats([[cells[c] for c in columns] for _, cells in rows])
        if np.isfinite(x).all():
            return torch.from_numpy(x)
    except ValueError:
        pass
    for line, cells in rows:
        for column in columns:
            if not _finite(cells[column]):
                problem = f"{cells[column]!r} is not a finite number: replace it"
                raise in_line(path, line, problem, header[column])
    raise AssertionError("one cell is not a finite number")


def _floats(cells: str | list[list[str]]) -> np.ndarray:
    with np.errstate(over="ignore"):  # what is too large becomes infinite, an error below
        return np.array(cells).astype(np.float32)


def _finite(cell: str) -> bool:
    try:
        return bool(np.isfinite(_floats(cell)))
    except ValueError:
        return False
