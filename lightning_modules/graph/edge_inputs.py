"""What networks are given of the edges of a graph, beside which nodes they join."""

from typing import Any

from torch import Tensor


def edge_inputs(spec: Any) -> tuple[str, ...]:
    """Names of the further inputs: keywords of the network, attributes of a batch.

    Args:
        spec: of the data; may have ``edge_weights`` and ``edge_channels``.
    """
    weights = ("edge_weight",) if getattr(spec, "edge_weights", False) else ()
    return (*weights, "edge_attr") if getattr(spec, "edge_channels", 0) else weights


def given_edges(batch: Any, spec: Any) -> dict[str, Tensor]:
    """These inputs of a batch."""
    return {name: batch[name] for name in edge_inputs(spec)}
