"""What networks are given of the edges of a graph, beside which nodes they join."""

from collections.abc import Callable
from typing import Any

from torch import Tensor, nn

from trellis.lightning_modules.engine.build_network import channels, if_taken
from trellis.signature import reads


def graph_sizes(spec: Any, factory: Callable[..., nn.Module]) -> dict[str, int]:
    """Sizes of a network of nodes or graphs; ``edge_channels`` for a factory that takes it.

    Args:
        spec: of the data.
        factory: of the network.
    """
    return channels(spec) | if_taken(spec, factory, "edge_channels")


def edge_inputs(spec: Any) -> dict[str, bool]:
    """Further inputs, keywords of the network and attributes of a batch: whether it must take it.

    Weights are the entries of the adjacency matrix: without them it is another graph. Features of
    edges are more to know, as other networks do without.

    Args:
        spec: of the data; may have ``edge_weights`` and ``edge_channels``.
    """
    weights = {"edge_weight": True} if getattr(spec, "edge_weights", False) else {}
    features = {"edge_attr": False} if getattr(spec, "edge_channels", 0) else {}
    return weights | features


def given_edges(network: nn.Module, batch: Any, spec: Any) -> dict[str, Tensor]:
    """Those of these inputs of a batch that a network is called with."""
    wanted = edge_inputs(spec).items()
    return {name: batch[name] for name, must in wanted if must or reads(network, name)}
