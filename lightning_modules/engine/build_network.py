"""Networks from factories, checked against what an objective calls them with."""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import nn

from trellis.signature import takes
from trellis.spec import NodeSpec, TensorSpec


def channels(spec: Any, outputs: int = 1) -> dict[str, int]:
    """What a ``NetworkFactory`` is called with.

    Args:
        spec: has ``in_channels`` and ``out_channels``.
        outputs: numbers wanted for each of the data's ``out_channels``.
    """
    return {"in_channels": spec.in_channels, "out_channels": spec.out_channels * outputs}


def if_taken(spec: Any, factory: Callable[..., nn.Module], name: str) -> dict[str, Any]:
    """What the spec says under this name, for a factory that has an argument for it."""
    return {name: getattr(spec, name)} if takes(factory, name) else {}


TARGETS = {"labels": "class labels", "real": "real-valued targets"}


def require_targets(spec: TensorSpec | NodeSpec, kind: str, caller: str, advice: str) -> None:
    """Refuse data whose targets are of the other kind.

    Args:
        spec: of the data.
        kind: of targets that is needed, ``"labels"`` or ``"real"``.
        caller: who needs them and a verb, for the message.
        advice: what to do.
    Raises:
        ValueError: names both kinds.
    """
    if spec.targets != kind:
        has = f"{TARGETS[spec.targets]} (spec.targets={spec.targets!r})"
        raise ValueError(f"{caller} {TARGETS[kind]}, but the data has {has}: {advice}")


def register_units(objective: nn.Module, spec: Any) -> None:
    """Give an objective ``target_mean`` and ``target_scale [T]``, the units of real targets.

    They are 0 and 1 where targets are learnt as they are. Checkpoints have them in the spec.

    Args:
        objective: gets the buffers.
        spec: has ``target_means`` and ``target_scales``.
    """
    known = bool(spec.target_scales)
    means, scales = (spec.target_means, spec.target_scales) if known else ((0.0,), (1.0,))
    objective.register_buffer("target_mean", torch.tensor(means), persistent=False)
    objective.register_buffer("target_scale", torch.tensor(scales), persistent=False)


def build_network(
    factory: Callable[..., nn.Module],
    sizes: Mapping[str, int],
    *inputs: str,
    objective: object,
    options: Mapping[str, bool] = {},
) -> nn.Module:
    """The network for data of these sizes, once it is known to fit.

    Args:
        factory: from ``sizes`` to a network.
        sizes: keywords the factory is called with.
        inputs: names of what the objective calls the network with.
        objective: the caller; errors name its class.
        options: names of the keywords that it gives, too, each with whether the network must
            take it; one that need not is given to a network that does.
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
    made_by = getattr(factory, "func", factory)
    name = str(getattr(made_by, "__name__", made_by))
    if (signature := _refusal(factory, **sizes)) is not None:
        call = ", ".join(f"{size}=..." for size in sizes)
        raise _cannot_call(asked, call, name, signature)
    network = factory(**sizes)
    if not isinstance(network, nn.Module):
        raise ValueError(f"{asked}: {name} made a {type(network).__name__}, not a network")
    keywords = [name for name, must in options.items() if must or takes(network.forward, name)]
    if (signature := _refusal(network.forward, *inputs, **dict.fromkeys(keywords))) is not None:
        forward = f"{type(network).__name__}.forward"
        given = [*inputs, *(f"{name}=..." for name in keywords)]
        raise _cannot_call(asked, ", ".join(given), forward, signature)
    return network


def _cannot_call(asked: str, call: str, name: str, signature: inspect.Signature) -> ValueError:
    takes = f"{name} takes {signature}: choose a network that fits"
    return ValueError(f"{asked} calls network({call}), but {takes}")


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
