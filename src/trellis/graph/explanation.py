"""Which edges and features a network's prediction for a node rests on."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch_geometric.explain import Explainer, GNNExplainer
from torch_geometric.utils import k_hop_subgraph

from trellis.checks import at_least_one

NUM_HOPS = 3  # that edges may be away from the node, where they are removed one by one


class NodeExplanation(NamedTuple):
    """How much the prediction for a node needs each edge and each feature, from 0 to 1.

    Args:
        edges: ``[E]``; 0 for those that the network does not read for this node.
        features: ``[C]``, of the nodes that it reads.
        probabilities: predicted for the node ``[K]``.
        probabilities_kept: those when only the ``kept`` most important edges are read.
    """

    edges: Tensor
    features: Tensor
    probabilities: Tensor
    probabilities_kept: Tensor


def explain_node(
    network: nn.Module,
    x: Tensor,
    edge_index: Tensor,
    node: int,
    *,
    epochs: int = 200,
    kept: int = 10,
    seed: int = 0,
    edges: Mapping[str, Tensor] = {},
) -> NodeExplanation:
    """Learn masks of edges and features that keep the prediction for one node.

    Args:
        network: ``(x, edge_index, **edges) -> logits [N, K]``; its mode is kept. Where it does not
            pass messages by PyG's ``MessagePassing``, an edge is as important as the probability
            of the class falls without it, beside the most important one.
        x: features ``[N, C]``, dense or CSR.
        edge_index: ``[2, E]``.
        node: which.
        epochs: steps of the search.
        kept: edges for ``probabilities_kept``.
        seed: of the search.
        edges: what else the network is given of each edge, as ``edge_weight [E]``.
    Raises:
        ValueError: no such node, or no epochs.

    Source: Ying et al. 2019 (GNNExplainer), through PyG's ``Explainer``; Zeiler and Fergus 2014,
    section 4.2 (what is lost without a part).
    """
    at_least_one("epochs", epochs)
    if not 0 <= node < len(x):
        raise ValueError(f"node={node}: give 0 to {len(x) - 1}")
    x = x if x.layout == torch.strided else x.to_dense()
    training = network.training
    network.eval()

    def probabilities(chosen: Tensor) -> Tensor:
        """Predicted for the node when only the chosen edges are read."""
        known = {name: values[chosen] for name, values in edges.items()}
        return network(x, edge_index[:, chosen], **known)[node].softmax(-1)

    def search(edge_mask_type: str | None) -> Any:
        explainer = _explainer(network, epochs, edge_mask_type)
        return explainer(x, edge_index, index=node, **edges)

    found = _searched(search, seed)
    mask = found.get("edge_mask")
    with torch.no_grad():
        if mask is None:
            near = k_hop_subgraph(node, NUM_HOPS, edge_index, num_nodes=len(x))[3]
            mask = _by_removal(probabilities, near)
        mask = mask.detach()
        best = mask.argsort(descending=True)[: at_least_one("kept", kept)]
        before, after = map(probabilities, (torch.ones_like(mask, dtype=torch.bool), best))
    network.train(training)
    return NodeExplanation(mask, found.node_mask.detach()[0], before, after)


def _searched(search: Callable[[str | None], Any], seed: int) -> Any:
    """What GNNExplainer finds; no mask of edges where it cannot reach them."""
    for edge_mask_type in ("object", None):
        try:
            with torch.random.fork_rng(devices=[]), torch.enable_grad():
                torch.manual_seed(seed)
                return search(edge_mask_type)
        except ValueError as error:  # the network passes messages in its own way
            if edge_mask_type is None or "for edges" not in str(error):
                raise
    raise AssertionError("the second search has no edges to reach")


def _explainer(network: nn.Module, epochs: int, edge_mask_type: str | None) -> Explainer:
    return Explainer(
        network,
        GNNExplainer(epochs=epochs),
        explanation_type="model",
        node_mask_type="common_attributes",
        edge_mask_type=edge_mask_type,
        model_config={
            "mode": "multiclass_classification",
            "task_level": "node",
            "return_type": "raw",
        },
    )


def _by_removal(probabilities: Callable[[Tensor], Tensor], near: Tensor) -> Tensor:
    """How much the probability of the predicted class falls without each edge near the node."""
    kept, drops = torch.ones_like(near), torch.zeros(len(near))
    before = probabilities(kept)
    best = before.argmax()
    for edge in near.nonzero().flatten().tolist():
        kept[edge] = False
        drops[edge] = (before[best] - probabilities(kept)[best]).clamp(min=0)
        kept[edge] = True
    return drops / drops.max().clamp(min=1e-12)


class Neighbourhood(NamedTuple):
    """What is near a node.

    Args:
        nodes: their numbers ``[M]``, the node itself first.
        edge_index: edges between them ``[2, F]``, as places in ``nodes``.
        edges: numbers of these edges ``[F]``.
    """

    nodes: Tensor
    edge_index: Tensor
    edges: Tensor


def neighbourhood(edge_index: Tensor, node: int, num_hops: int, num_nodes: int) -> Neighbourhood:
    """The nodes that reach ``node`` in ``num_hops`` edges or fewer, and the edges between them.

    >>> neighbourhood(torch.tensor([[1, 2, 3], [0, 1, 2]]), node=1, num_hops=1, num_nodes=4)
    Neighbourhood(nodes=tensor([1, 2]), edge_index=tensor([[1],
            [0]]), edges=tensor([1]))
    """
    around = k_hop_subgraph(node, num_hops, edge_index, num_nodes=num_nodes)[0]
    nodes = torch.cat([around[around == node], around[around != node]])
    place = torch.full((num_nodes,), -1)
    place[nodes] = torch.arange(len(nodes))
    edges = (place[edge_index] >= 0).all(0).nonzero().flatten()
    return Neighbourhood(nodes, place[edge_index[:, edges]], edges)
