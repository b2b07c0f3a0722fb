"""Many small graphs in a few long tensors, batched without a Python loop."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch_geometric.data import Batch, Data

from trellis.torch_geometric_private import remember_parts


class InMemoryGraphs:
    """Concatenated graphs; a batch is one gather, not a loop over Python objects.

    Four times as fast as ``Batch.from_data_list`` for 32 molecules, and more for larger batches.

    Args:
        x: node features of all graphs ``[N, C]``.
        edge_index: edges of all graphs ``[2, E]``, with nodes numbered across graphs.
        y: one target per graph ``[G]``.
        nodes: number of nodes of each graph ``[G]``, in the order of ``x``.
        edge_attr: features of all edges ``[E, D]``, in the order of ``edge_index``.
    Raises:
        ValueError: the sizes do not match, or an edge joins two graphs.
    """

    def __init__(
        self,
        x: Tensor,
        edge_index: Tensor,
        y: Tensor,
        nodes: Tensor,
        edge_attr: Tensor | None = None,
    ) -> None:
        if len(nodes) != len(y) or int(nodes.sum()) != len(x):
            raise ValueError(
                f"{len(y)} targets and {len(x)} rows of x for {len(nodes)} graphs of "
                f"{int(nodes.sum())} nodes: give one target per graph and one row per node"
            )
        if edge_attr is not None and len(edge_attr) != edge_index.size(1):
            raise ValueError(
                f"{len(edge_attr)} rows of edge_attr for {edge_index.size(1)} edges: give one each"
            )
        graph = torch.arange(len(y)).repeat_interleave(nodes)[edge_index]  # [2, E]
        if len(leaving := (graph[0] != graph[1]).nonzero()):
            source, target = edge_index[:, int(leaving[0])].tolist()
            raise ValueError(f"edge {source} -> {target} joins two graphs")
        by_graph = graph[0].argsort(stable=True)
        edges = graph[0].bincount(minlength=len(y))
        self.x, self.y, self.nodes, self.edges = x, y, nodes, edges
        self.first_node, self.first_edge = _starts(nodes)[:-1], _starts(edges)[:-1]
        # Nodes numbered within their own graph.
        self.edge_index = (edge_index - self.first_node[graph])[:, by_graph]
        self.edge_attr = None if edge_attr is None else edge_attr[by_graph]

    @classmethod
    def from_data_list(cls, graphs: Sequence[Data]) -> "InMemoryGraphs":
        """From PyG ``Data`` objects with ``x``, ``edge_index`` and one target ``y``.

        They may have ``edge_attr``, all of them or none.
        """
        batch = Batch.from_data_list(list(graphs))
        return cls(batch.x, batch.edge_index, batch.y, batch.ptr.diff(), batch.edge_attr)

    def __len__(self) -> int:
        return len(self.y)

    def batch(self, indices: Tensor) -> Batch:
        """The graphs ``indices [B]``, as ``Batch.from_data_list`` would batch them."""
        nodes, edges = self.nodes[indices], self.edges[indices]
        node_ptr, edge_ptr = _starts(nodes), _starts(edges)
        batch = torch.arange(len(indices)).repeat_interleave(nodes)
        # From positions in the batch to positions in the long tensors: an offset per graph.
        rows = torch.arange(len(batch)) + (self.first_node[indices] - node_ptr[:-1])[batch]
        owner = torch.arange(len(indices)).repeat_interleave(edges)
        columns = torch.arange(len(owner)) + (self.first_edge[indices] - edge_ptr[:-1])[owner]
        joined = Batch(
            x=self.x.index_select(0, rows),
            edge_index=self.edge_index.index_select(1, columns) + node_ptr[owner],
            y=self.y[indices],
            batch=batch,
            ptr=node_ptr,
        )
        slices = {"x": node_ptr, "edge_index": edge_ptr, "y": torch.arange(len(indices) + 1)}
        if self.edge_attr is not None:
            joined.edge_attr = self.edge_attr.index_select(0, columns)
            slices["edge_attr"] = edge_ptr
        unshifted = torch.zeros(len(indices), dtype=torch.long)
        shifts = dict.fromkeys(slices, unshifted) | {"edge_index": node_ptr[:-1]}
        remember_parts(joined, slices, shifts)
        return joined


def _starts(sizes: Tensor) -> Tensor:
    """Where each of consecutive segments starts, and where the last one ends: ``[G + 1]``."""
    return torch.cat([sizes.new_zeros(1), sizes.cumsum(0)])
