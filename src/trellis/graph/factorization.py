"""How near two nodes are by the paths between them, and embeddings that keep it.

Legend: N nodes, E edges, D dimensions. Matrices are sparse ones of scipy: in torch, products of
two sparse matrices and singular vectors of one do not keep them sparse.
"""

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Proximity = Literal["adjacency", "jaccard", "adamic_adar"]


def proximity(
    edge_index: Tensor, num_nodes: int, kind: Proximity = "adjacency", power: int = 1
) -> "csr_array":
    r"""A matrix of how near nodes are: by walks, or by the neighbours that they share.

    .. math:: A^k; \quad \frac{|N(u) \cap N(v)|}{|N(u) \cup N(v)|}; \quad
        \sum_{w \in N(u) \cap N(v)} \frac{1}{\ln |N(w)|}

    Args:
        edge_index: in both directions where the graph is undirected; repeated edges and
            self-loops are left out.
        num_nodes: N.
        kind: the first, second or third of the above.
        power: k of the first: walks of k steps between u and v; of the others it must be 1.
    Shape:
        edge_index ``[2, E]`` -> ``[N, N]``; of the second and third with an empty diagonal
    Raises:
        ValueError: an unknown kind, or a power below 1 or of something else.

    Source: Ou et al. 2016, table 1 (high-order proximity); Adamic and Adar 2003.
    """
    from scipy.sparse import csr_array

    choose_from("kind", kind, Proximity)
    at_least_one("power", power)
    if kind != "adjacency" and power != 1:
        raise ValueError(f"power={power}: only kind='adjacency' has powers; leave it out")
    source, target = edge_index[:, edge_index[0] != edge_index[1]].unique(dim=1).numpy()
    adjacency = csr_array((np.ones(len(source)), (source, target)), (num_nodes, num_nodes))
    if kind == "adjacency":
        found = adjacency
        for _ in range(power - 1):
            found = found @ adjacency
        return found
    degrees = np.asarray(adjacency.sum(1)).ravel()
    weights = np.ones(num_nodes)
    if kind == "adamic_adar":
        # Who is the only neighbour of a node is shared by nobody but the node itself.
        weights = np.divide(1, np.log(degrees), out=np.zeros(num_nodes), where=degrees > 1)
    shared = (adjacency.multiply(weights[None]).tocsr() @ adjacency.T).tocoo()
    row, column, values = shared.row, shared.col, shared.data
    if kind == "jaccard":
        values = values / (degrees[row] + degrees[column] - values)
    kept = row != column
    return csr_array((values[kept], (row[kept], column[kept])), (num_nodes, num_nodes))


def factorized(matrix: "csr_array", embed_dim: int) -> tuple[Tensor, Tensor]:
    r"""Embeddings whose inner products are nearest to a matrix, among all of their width.

    .. math:: M \approx U S V^\top = (U \sqrt S)(V \sqrt S)^\top

    by the D largest singular values; the sign of each dimension is such that its largest entry
    in the first table is positive, so that two runs agree.

    Args:
        matrix: M, of ``proximity`` or any other.
        embed_dim: D, less than N.
    Returns:
        the tables of nodes as sources and as targets; of a symmetric matrix with positive
        eigenvalues they are equal.
    Shape:
        ``[N, N]`` -> ``[N, D]``, ``[N, D]``
    Raises:
        ValueError: D is not in 1 to N - 1.

    Source: Eckart and Young 1936; Ou et al. 2016, section 4.
    """
    from scipy.sparse.linalg import svds

    limit = min(matrix.shape) - 1
    if not 1 <= embed_dim <= limit:
        raise ValueError(f"embed_dim={embed_dim}: {limit + 1} nodes allow 1 to {limit}")
    start = np.random.default_rng(0).standard_normal(min(matrix.shape))
    left, values, right = svds(matrix.astype(np.float64), k=embed_dim, v0=start)
    order = values.argsort()[::-1]
    left, values, right = left[:, order], values[order], right[order].T
    largest = np.abs(left).argmax(0)
    scale = np.sqrt(values) * np.where(left[largest, np.arange(embed_dim)] < 0, -1, 1)
    source, target = (torch.from_numpy(each * scale).float() for each in (left, right))
    return source, target
