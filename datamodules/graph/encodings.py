"""What nodes know of their place in the graph: eigenvectors of the Laplacian, random walks."""

import warnings
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import AddLaplacianEigenvectorPE, AddRandomWalkPE

from trellis.checks import at_least_one, choose_from
from trellis.random import isolated_rng

Encoding = Literal["laplacian", "walks"]


def check_encodings(encodings: Sequence[Encoding], encoding_dim: int) -> tuple[Encoding, ...]:
    """The names of encodings as a tuple.

    Raises:
        ValueError: one does not exist, or ``encoding_dim`` is less than 1.
    """
    at_least_one("encoding_dim", encoding_dim)
    return tuple(choose_from("encodings", name, Encoding) for name in encodings)


def encoded(data: Data, encodings: Sequence[Encoding], encoding_dim: int) -> list[Tensor]:
    """The encodings of each node of a graph, by PyG's transforms.

    ``laplacian``: the eigenvectors of the ``encoding_dim`` smallest eigenvalues of the normalised
    Laplacian but the first, each with its largest entry positive; 0 where a graph has fewer.
    ``walks``: the probabilities that a random walk is back after 1 to ``encoding_dim`` steps.

    Args:
        data: of N nodes, with ``edge_index``; undirected.
        encodings: which.
        encoding_dim: numbers of each.
    Shape:
        -> ``[N, encoding_dim]`` for each

    Source: Dwivedi et al. 2023, section 4.2 (laplacian); Dwivedi et al. 2022, eq. 11 (walks).
    """
    make = {"laplacian": _laplacian, "walks": _walks}
    bare = Data(edge_index=data.edge_index, num_nodes=data.num_nodes)
    return [make[name](bare, encoding_dim) for name in encodings]


def _laplacian(data: Data, dim: int) -> Tensor:
    size = min(dim, int(data.num_nodes or 0) - 1)
    if size < 1:
        return torch.zeros(int(data.num_nodes or 0), dim)
    # The solver for large graphs starts from a random vector, unless it is given one.
    start = {"v0": torch.ones(int(data.num_nodes or 0)).numpy()}
    with isolated_rng(0):  # PyG draws signs
        transform = AddLaplacianEigenvectorPE(size, "vectors", is_undirected=True, **start)
        vectors = transform(data.clone()).vectors.float()
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return F.pad(vectors * largest.sign(), (0, dim - size))


def _walks(data: Data, dim: int) -> Tensor:
    if not data.num_nodes:
        return torch.zeros(0, dim)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor|invariant)")
        return AddRandomWalkPE(dim, "walks")(data.clone()).walks
