"""Tables of edges: two nodes a line, and what else is known of the edge."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor
from torch_geometric.utils import coalesce

from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.engine.large_tables import Heading, read_plain, read_table
from trellis.datamodules.engine.tables import parsed_rows, read_numbers

HEADERS = (("source", "target"), ("src", "dst"), ("from", "to"), ("fromnodeid", "tonodeid"))


class EdgeTable(NamedTuple):
    """Edges in the order of their file.

    Args:
        edge_index: numbers of the two nodes, ``[2, E]``.
        names: of the other columns.
        values: numbers in these columns, ``[E, columns]``.
        lines: of the file, where each edge stands.
    """

    edge_index: Tensor
    names: list[str]
    values: Tensor
    lines: Sequence[int]

    def column(self, name: str) -> Tensor | None:
        """The numbers ``[E]`` in a column, if there is one of this name."""
        return self.values[:, self.names.index(name)] if name in self.names else None


def read_edges(path: Path, option: str, ids: Mapping[str, int], third: str) -> EdgeTable:
    """The edges of a table ``source,target`` with further columns of numbers.

    Args:
        path: of the table.
        option: that gave the path.
        ids: number of each node by its name in the table.
        third: name of a third column in a table without a header.
    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is larger than the free memory; or a node that does not exist, a line of
            another length, a cell that is no number, or a name that two columns have: names line
            and column.
    """
    raw = read_table(path, option)
    if (quickly := _read_plain(raw, ids, third)) is not None:
        return quickly
    rows, names = parsed_rows(raw, str(path), ids), []
    if rows and tuple(cell.lower() for cell in rows[0][1][:2]) in HEADERS:
        names = [name.lower() for name in rows[0][1][2:]]
        rows = rows[1:]
    elif rows and len(rows[0][1]) == 3:
        names = [third]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise ValueError(f"{path}: two columns have the name {repeated[0]!r}: rename one")
    ends: list[tuple[int, int]] = []
    for line, cells in rows:
        if len(cells) != 2 + len(names):
            further = "".join(f",{name}" for name in names or [f"{third} (or a header)"])
            raise in_line(path, line, f"{len(cells)} cells: give source,target{further}")
        for column, cell in zip(("source", "target"), cells, strict=False):
            if cell not in ids:
                fix = "add the node or remove the edge (a header must be source,target)"
                raise in_line(path, line, f"{cell!r} is not a node id: {fix}", column)
        ends.append((ids[cells[0]], ids[cells[1]]))
    edge_index = torch.tensor(ends, dtype=torch.long).view(-1, 2).t().contiguous()
    columns = range(2, 2 + len(names))
    values = read_numbers(path, ["source", "target", *names], rows, columns)
    values = values.view(len(rows), len(names))
    return EdgeTable(edge_index, names, values, [line for line, _ in rows])


def _read_plain(raw: bytes, ids: Mapping[str, int], third: str) -> EdgeTable | None:
    """The edges of a large table without errors, else ``None``."""

    def heading(cells: list[str]) -> Heading | None:
        named, ends = tuple(cell.lower() for cell in cells[:2]) in HEADERS, ("source", "target")
        if not named and len(cells) > 3:
            return None
        others = [cell.lower() for cell in cells[2:]] if named else [third][: len(cells) - 2]
        return Heading([*ends, *others], ends, is_row=not named)

    table = read_plain(raw, heading, ids)
    if table is None:
        return None
    ends = [table.places(name, ids) for name in ("source", "target")]
    if ends[0] is None or ends[1] is None:
        return None
    names = list(table.names[2:])
    return EdgeTable(torch.stack([ends[0], ends[1]]), names, table.numbers(names), table.lines)


def edge_tensors(
    table: EdgeTable, path: Path, num_nodes: int, undirected: bool, ignore_weights: bool
) -> dict[str, Tensor]:
    """``edge_index``, and ``edge_weight`` and ``edge_attr`` where there are such columns.

    A column ``weight`` is the weight, others are features. Each edge is there once; without a
    direction, once in each.

    Args:
        table: of the edges.
        path: of the table, for messages.
        num_nodes: number of nodes.
        undirected: store every edge in both directions.
        ignore_weights: leave the column ``weight`` out.
    Raises:
        ValueError: a negative weight, or an edge that is there twice with other numbers.
    """
    kept = [i for i, name in enumerate(table.names) if not (name == "weight" and ignore_weights)]
    names, values = [table.names[i] for i in kept], table.values[:, kept]
    if "weight" in names and bool((negative := values[:, names.index("weight")] < 0).any()):
        line = table.lines[int(negative.nonzero()[0])]
        raise in_line(path, line, "a weight is negative: give at least 0", "weight")
    edge_index = table.edge_index
    rows = torch.arange(edge_index.size(1))
    if undirected:
        edge_index = torch.cat((edge_index, edge_index.flip(0)), 1)
        rows = rows.repeat(2)
    # Of edges that are there several times, the first one in the file.
    edge_index, first = coalesce(edge_index, rows, num_nodes, reduce="min")
    _require_agreement(table, path, edge_index, first, values, names, undirected)
    tensors = {"edge_index": edge_index}
    if "weight" in names:
        tensors["edge_weight"] = values[first, names.index("weight")]
    if features := [i for i, name in enumerate(names) if name != "weight"]:
        tensors["edge_attr"] = values[first][:, features]
    return tensors


def _require_agreement(
    table: EdgeTable,
    path: Path,
    edge_index: Tensor,
    first: Tensor,
    values: Tensor,
    names: list[str],
    undirected: bool,
) -> None:
    """Refuse an edge that is in the table twice with other numbers."""
    if not names or not edge_index.numel():
        return
    width = int(edge_index.max()) + 1
    sorted_keys, keys = (ends[0] * width + ends[1] for ends in (edge_index, table.edge_index))
    place = torch.searchsorted(sorted_keys, keys)
    wrong = (values != values[first[place]]).nonzero()
    if len(wrong):
        row, column = wrong[0].tolist()
        earlier = table.lines[int(first[place[row]])]
        directions = ", in either direction" if undirected else ""
        fix = f"give an edge once{directions}, or the same number"
        problem = f"line {earlier} has another number for this edge: {fix}"
        raise in_line(path, table.lines[row], problem, names[column])
