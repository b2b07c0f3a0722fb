"""The text format of the GIN and DGCNN papers: all graphs of a collection in one file."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch_geometric.utils import degree, remove_self_loops, to_undirected

from trellis.datamodules.engine.checks import in_line
from trellis.datamodules.graph.folded_graphs import one_hot
from trellis.datamodules.graph.in_memory_graphs import InMemoryGraphs

Features = Literal["auto", "tags", "attributes", "both", "degree", "constant"]
Line = tuple[int, list[str]]  # its number and its words


class GraphText:
    """What a file of this format holds; see ``GINDataset``.

    Args:
        path: of the file, for messages.
        text: its content.
    Raises:
        ValueError: a line is not in this format; names it.
    """

    def __init__(self, path: Path, text: str) -> None:
        self.path = path
        lines = ((n, line.split()) for n, line in enumerate(text.splitlines(), 1))
        self._lines: Iterator[Line] = ((n, words) for n, words in lines if words)
        self._tags: list[int] = []
        self._attributes: list[list[str]] = []
        self._ends: list[list[int]] = [[], []]
        sizes, labels = [], []
        line, words = self._next("the number of graphs")
        for _ in range(self._integers(line, words, 1, "the number of graphs")[0]):
            line, words = self._next("a graph")
            size, label = self._integers(line, words, 2, "'nodes label' of a graph")
            if size < 0:
                raise in_line(path, line, f"a graph of {size} nodes: give at least 0")
            first = len(self._tags)
            for node in range(first, first + size):
                self._read_node(node, first, size)
            sizes.append(size)
            labels.append(label)
        for line, _ in self._lines:
            raise in_line(path, line, f"more lines than the {len(sizes)} graphs of line 1 have")
        if len(set(labels)) < 2:
            raise ValueError(f"{path}: all graphs have one label: give at least two classes")
        self.y = torch.tensor(labels).unique(return_inverse=True)[1]
        self.sizes = torch.tensor(sizes)
        self.edge_index = self._edges()
        self.tags = torch.tensor(self._tags, dtype=torch.long)

    def _next(self, wanted: str) -> Line:
        for line in self._lines:
            return line
        raise ValueError(
            f"{self.path}: the file ends where {wanted} should follow: it was cut off"
        )

    def _integers(self, line: int, words: list[str], count: int, wanted: str) -> list[int]:
        try:
            if len(words) == count:
                return [int(word) for word in words]
        except ValueError:
            pass
        raise in_line(self.path, line, f"{' '.join(words)[:40]!r}: give {wanted}")

    def _read_node(self, node: int, first: int, size: int) -> None:
        line, words = self._next("a node")
        try:
            tag, count = int(words[0]), int(words[1])
            neighbours = [int(word) for word in words[2 : 2 + count]]
        except (ValueError, IndexError):
            neighbours, count = [], -1
        if count < 0 or len(neighbours) < count:
            wrong = f"{' '.join(words)[:40]!r}: give 'tag degree neighbours' of a node"
            raise in_line(self.path, line, wrong)
        for other in neighbours:
            if not 0 <= other < size:
                raise in_line(self.path, line, f"neighbour {other}: give 0 to {size - 1}")
        self._tags.append(tag)
        self._ends[0] += [node] * count
        self._ends[1] += [first + other for other in neighbours]
        self._attributes.append(words[2 + count :])
        if len(self._attributes[0]) != len(words) - 2 - count:
            raise in_line(
                self.path, line, f"{len(words) - 2 - count} attributes, where others have "
                f"{len(self._attributes[0])}"
            )  # fmt: skip

    def _edges(self) -> Tensor:
        """Each edge in both directions, also where only one end lists it."""
        edge_index, _ = remove_self_loops(torch.tensor(self._ends, dtype=torch.long))
        return to_undirected(edge_index, num_nodes=len(self._tags))

    def attributes(self) -> Tensor:
        """The real attributes ``[N, C]``.

        Raises:
            ValueError: nodes have none, or one is not a finite number.
        """
        if not self._attributes or not self._attributes[0]:
            raise ValueError(f"{self.path}: features: nodes have no attributes: take another one")
        try:
            values = np.array(self._attributes).astype(np.float32)
        except ValueError as error:
            raise ValueError(f"{self.path}: an attribute is not a number ({error})") from None
        if not np.isfinite(values).all():
            raise ValueError(f"{self.path}: an attribute is not finite")
        return torch.from_numpy(values)

    def graphs(self, features: Features) -> InMemoryGraphs:
        """The graphs with these features of nodes."""
        if features == "auto":
            features = self._informative()
        return InMemoryGraphs(self._x(features), self.edge_index, self.y, self.sizes)

    def _informative(self) -> Features:
        if len(self.tags.unique()) > 1:
            return "tags"
        if self._attributes and self._attributes[0]:
            return "attributes"
        return "constant" if self.path.stem.upper().startswith("REDDIT") else "degree"

    def _x(self, features: Features) -> Tensor:
        if features == "both":
            return torch.cat((one_hot(self.tags), self.attributes()), dim=1)
        if features == "attributes":
            return self.attributes()
        if features == "constant":
            return torch.ones(len(self.tags), 1)
        if features == "tags":
            return one_hot(self.tags)
        return one_hot(degree(self.edge_index[0], len(self.tags), torch.long))
