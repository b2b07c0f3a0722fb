"""Matrices of a graph as edges with weights, for PyG's convolutions without normalisation."""

import warnings
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from trellis.checks import check_shape
from trellis.nn.sparse import csr
from trellis.torch_private import is_transformed

# Of fewer edges a matrix takes as long to make as it saves.
MANY_EDGES = 8192


def normalized_adjacency(
    x: Tensor,
    edge_index: Tensor,
    edge_weight: Tensor | None = None,
    *,
    self_loops: bool = True,
) -> tuple[Tensor, Tensor]:
    r"""The edges of :math:`\hat D^{-1/2} \hat A \hat D^{-1/2}` and their weights.

    With ``self_loops``, :math:`\hat A = A + I`: what PyG's ``gcn_norm`` gives. That one reads
    ``edge_index``, which stalls a GPU and breaks a graph of ``torch.compile``: it removes the
    self-loops of the graph before it adds its own. Here they keep their places with a weight of 0,
    so that the number of edges does not depend on values. Isolated nodes have no other edges.

    Args:
        x: features, of which the number of nodes and the type count.
        edge_index: from sources to targets.
        edge_weight: of the edges; ``None``: each is 1.
        self_loops: one loop for each node, of the weight of its own if it has one, else 1;
            without, the loops of the graph are left out, too.
    Shape:
        x ``[N, C]``, edge_index ``[2, E]`` -> ``[2, E + N]`` (or ``[2, E]``), weights of these

    >>> edges, weights = normalized_adjacency(torch.ones(3, 1), torch.tensor([[0, 1], [1, 0]]))
    >>> weights
    tensor([0.5000, 0.5000, 0.5000, 0.5000, 1.0000])
    """
    # Degrees above 256 are no numbers of bfloat16.
    dtype = torch.promote_types(x.dtype, torch.float32)
    ones = torch.ones(x.size(0), dtype=dtype, device=x.device)
    weights, loops = (edge_index[0] != edge_index[1]).to(dtype), ones
    if edge_weight is not None:
        check_shape("edge_weight", edge_weight, edge_index.shape[1:], one_for="each edge")
        itself, own = 1 - weights, edge_weight.to(dtype)
        found = torch.zeros_like(ones).scatter_add_(0, edge_index[0], itself)
        loops = torch.zeros_like(ones).scatter_add_(0, edge_index[0], itself * own)
        weights, loops = weights * own, loops.where(found > 0, 1)
    if self_loops:
        nodes = torch.arange(x.size(0), device=x.device).expand(2, -1)
        weights, edge_index = torch.cat((weights, loops)), torch.cat((edge_index, nodes), 1)
    source, target = edge_index
    degree = torch.zeros_like(ones).scatter_add_(0, target, weights)
    # A node may have no edges, or none but a self-loop of weight 0.
    scale = degree.pow(-0.5).where(degree > 0, 0)
    return edge_index, (scale[source] * weights * scale[target]).to(x.dtype)


def edges_for(
    layers: Iterable[nn.Module], x: Tensor, edge_index: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, ...]:
    """Edges as PyG's layers sum over them best: on a CPU, many edges as a matrix.

    A product with a matrix keeps no message of an edge, and so takes a fraction of the time and
    of the memory; its sums are those of the edges in the same order. A matrix is not made where a
    graph is compiled, exported or transformed by ``torch.func``, in low precision, for weights
    that learn, or where an explainer looks at the messages.

    Args:
        layers: modules that sum over the edges.
        x: features ``[N, C]``, whose number, type and device count.
        edge_index: ``[2, E]``, from sources to targets.
        weights: ``[E]``; ``None``: each is 1.
    Returns:
        arguments of the layers after x: ``edge_index`` and ``weights``, or a matrix in CSR, of
        targets and sources ``[N, N]``.
    """
    edges = (edge_index,) if weights is None else (edge_index, weights)
    if (
        torch.compiler.is_compiling()
        or is_transformed()
        or edge_index.size(1) < MANY_EDGES
        or x.device.type != "cpu"
        or x.dtype not in (torch.float32, torch.float64)
        or torch.is_autocast_enabled("cpu")
        or (weights is not None and weights.requires_grad)
        or any(getattr(module, "explain", False) for layer in layers for module in layer.modules())
    ):
        return edges
    source, target = edge_index
    order = target.argsort(stable=True)
    starts = target.new_zeros(x.size(0) + 1)
    torch.cumsum(target.bincount(minlength=x.size(0)), 0, out=starts[1:])
    values = x.new_ones(len(order)) if weights is None else weights[order]
    with warnings.catch_warnings():
        # torch warns on first use that its CSR layout is in beta.
        warnings.filterwarnings("ignore", message="Sparse CSR tensor support is in beta")
        return (csr(starts, source[order], values, (x.size(0), x.size(0))),)
