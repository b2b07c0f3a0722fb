"""What nodes know of their place in the graph: eigenvectors, walks, factors of proximities."""

import warnings
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor
from torch_geometric.data import Data
from torch_geometric.transforms import AddLaplacianEigenvectorPE, AddRandomWalkPE
from torch_geometric.utils import remove_self_loops

from trellis.checks import at_least_one, choose_from
from trellis.graph.factorization import Proximity, factorized, proximity
from trellis.graph.neighbours import Neighbours
from trellis.graph.walks import anonymous_walk_kinds, anonymous_walk_shares, random_walks
from trellis.random import isolated_rng, keyed_generator

Encoding = Literal[
    "laplacian",
    "walks",
    "adjacency",
    "adjacency_2",
    "adjacency_3",
    "adjacency_4",
    "jaccard",
    "adamic_adar",
    "anonymous_walks",
]
_WALKS_PER_NODE = 100
_ALMOST_ZERO = 1e-6  # of the longest vector: below it, rounding is all there is


def check_encodings(encodings: Sequence[Encoding], encoding_dim: int) -> tuple[Encoding, ...]:
    """The names of encodings as a tuple.

    Raises:
        ValueError: one does not exist, or ``encoding_dim`` is less than 1.
    """
    at_least_one("encoding_dim", encoding_dim)
    return tuple(choose_from("encodings", name, Encoding) for name in encodings)


def encoded(data: Data, encodings: Sequence[Encoding], encoding_dim: int) -> list[Tensor]:
    """The encodings of each node of a graph; the first two by PyG's transforms.

    ``laplacian``: the eigenvectors of the ``encoding_dim`` smallest eigenvalues of the normalised
    Laplacian but the first, each with its largest entry positive.
    ``walks``: the probabilities that a random walk is back after 1 to ``encoding_dim`` steps.
    ``adjacency``, its powers ``adjacency_2`` to ``adjacency_4``, ``jaccard``, ``adamic_adar``:
    what ``factorized`` keeps of these proximities, scaled to length 1 for each node: the length
    tells little but the degree.
    ``anonymous_walks``: shares of the shapes among 100 walks from the node, as long as
    ``encoding_dim`` allows: 5, 15, 52, 203 or 877 shapes have 3, 4, 5, 6 or 7 steps.

    Columns that a graph is too small for are 0.

    Args:
        data: of N nodes, with ``edge_index``; undirected.
        encodings: which.
        encoding_dim: numbers of each.
    Shape:
        -> ``[N, encoding_dim]`` for each

    Source: Dwivedi et al. 2023, section 4.2 (laplacian); Dwivedi et al. 2022, eq. 11 (walks); Ou
    et al. 2016 (proximities); Ivanov and Burnaev 2018, whose embedding of a graph is the mean over
    its nodes (anonymous_walks).
    """
    if not data.num_nodes:
        return [torch.zeros(0, encoding_dim) for _ in encodings]
    bare = Data(edge_index=data.edge_index, num_nodes=data.num_nodes)
    return [_ENCODINGS[name](bare, encoding_dim) for name in encodings]


def _laplacian(data: Data, dim: int) -> Tensor:
    nodes = int(data.num_nodes or 0)
    size = min(dim, nodes - 1)
    if size < 1:
        return torch.zeros(nodes, dim)
    # The solver for large graphs starts from a random vector, unless it is given one.
    start = {"v0": torch.ones(nodes).numpy()}
    with isolated_rng(0):  # PyG draws signs
        transform = AddLaplacianEigenvectorPE(size, "vectors", is_undirected=True, **start)
        vectors = transform(data.clone()).vectors.float()
    largest = vectors.gather(0, vectors.abs().argmax(0, keepdim=True))
    return F.pad(vectors * largest.sign(), (0, dim - size))


def _walks(data: Data, dim: int) -> Tensor:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Sparse (CSR tensor|invariant)")
        return AddRandomWalkPE(dim, "walks")(data.clone()).walks


def _factors(data: Data, dim: int, *, kind: Proximity, power: int = 1) -> Tensor:
    nodes = int(data.num_nodes or 0)
    size = min(dim, nodes - 1)
    matrix = proximity(data.edge_index, nodes, kind, power) if size > 0 else None
    if matrix is None or not matrix.nnz:
        return torch.zeros(nodes, dim)
    vectors, _ = factorized(matrix, size)
    lengths = vectors.norm(dim=1, keepdim=True)
    vectors = (vectors / lengths).where(lengths > _ALMOST_ZERO * lengths.max(), 0.0)
    return F.pad(vectors, (0, dim - size))


def _anonymous_walks(data: Data, dim: int) -> Tensor:
    nodes, all_kinds = int(data.num_nodes or 0), _longest_kinds(dim)
    edge_index, _ = remove_self_loops(data.edge_index)
    starts = torch.arange(nodes).repeat_interleave(_WALKS_PER_NODE)
    generator = keyed_generator(0, _WALKS_PER_NODE)
    steps = all_kinds.size(1) - 1
    walks = random_walks(Neighbours(edge_index, nodes), starts, steps, generator=generator)
    whole = (walks >= 0).all(1)
    shares, kinds = anonymous_walk_shares(walks[whole], starts[whole], nodes)
    columns = (all_kinds[:, None] == kinds).all(2).int().argmax(0)  # of the kinds that occur
    found = torch.zeros(nodes, dim)
    found[:, columns] = shares
    return found


@cache
def _longest_kinds(most: int) -> Tensor:
    """The anonymous walks of as many steps as there are at most ``most`` kinds of."""
    kinds = anonymous_walk_kinds(1)
    while len(longer := anonymous_walk_kinds(kinds.size(1))) <= most:
        kinds = longer
    return kinds


_ENCODINGS: dict[Encoding, Callable[[Data, int], Tensor]] = {
    "laplacian": _laplacian,
    "walks": _walks,
    "adjacency": partial(_factors, kind="adjacency"),
    "adjacency_2": partial(_factors, kind="adjacency", power=2),
    "adjacency_3": partial(_factors, kind="adjacency", power=3),
    "adjacency_4": partial(_factors, kind="adjacency", power=4),
    "jaccard": partial(_factors, kind="jaccard"),
    "adamic_adar": partial(_factors, kind="adamic_adar"),
    "anonymous_walks": _anonymous_walks,
}
