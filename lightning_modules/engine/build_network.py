"""Networks from factories, checked against what an objective calls them with."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import nn


def channels(spec: Any, outputs: int = 1) -> dict[str, int]:
    """What a ``NetworkFactory`` is called with.

    Args:
        spec: has ``in_channels`` and ``out_channels``.
        outputs: numbers wanted for each of the data's ``out_channels``.
    """
    return {"in_channels": spec.in_channels, "out_channels": spec.out_channels * outputs}


def build_network(
    factory: Callable[..., nn.Module], sizes: Mapping[str, int], *inputs: str, objective: object
) -> nn.Module:
    """The network for data of these sizes, once it is known to fit.

    Args:
        factory: from ``sizes`` to a network.
        sizes: keywords the factory is called with.
        inputs: names of what the objective calls the network with.
        objective: the caller; errors name its class.
    Raises:
        ValueError: ``factory`` does not take the sizes or makes no network, or the network does
            not take ``inputs``; names both sides.
    """
    asked = type(objective).__name__
    if isinstance(factory, nn.Module):
        made = type(factory).__name__
        raise ValueError(
            f"{asked}: network is a {made} that is already built; give the class, or "
            f"functools.partial({made}, ...), which is called with the sizes of the data"
        )
    name = getattr(factory, "func", factory)
    name = getattr(name, "__name__", name)
    if (signature := _refusal(factory, **sizes)) is not None:
        raise ValueError(
            f"{asked} calls network({', '.join(f'{size}=...' for size in sizes)}), but {name} "
            f"takes {signature}: choose a network that fits"
        )
    network = factory(**sizes)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{asked}: {name} made a {type(network).__name__}, not a network")
    if (signature := _refusal(network.forward, *inputs)) is not None:
        raise ValueError(
            f"{asked} calls network({', '.join(inputs)}), but {type(network).__name__}.forward "
            f"takes {signature}: choose a network that fits"
        )
    return network


def _refusal(function: Any, *args: Any, **options: Any) -> inspect.Signature | None:
    """The signature of ``function`` if it cannot be called this way."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):  # a builtin: calling it will tell
        return None
    try:
        signature.bind(*args, **options)
    except TypeError:
        return signature
    return None
