"""Parameters in groups, by the beginnings of their names, each with options of its own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR

from trellis.nn.positional import LearnedPositions


def is_under(name: str, prefix: str) -> bool:
    """Whether a name is a prefix or begins with it and a dot.

    >>> is_under("network.body.norm", "network.body"), is_under("network.body2", "network.body")
    (True, False)
    """
    return name == prefix or name.startswith(f"{prefix}.")


def prefixes_of(names: Iterable[str]) -> dict[str, None]:
    """All parts of a module that names of its tensors begin with, and these names."""
    found: dict[str, None] = {}
    for name in names:
        parts = name.split(".")
        found |= {".".join(parts[:count]): None for count in range(1, len(parts) + 1)}
    return found


def grouped(
    module: nn.Module, options: Mapping[str, Mapping[str, float]]
) -> "Iterator[nn.Parameter] | list[Any]":
    """The parameters of ``module`` for an optimiser; those of embeddings have ``is_embedding``.

    Args:
        module: whose parameters are grouped.
        options: prefix of their names -> arguments of the optimiser, ``lr`` or ``weight_decay``.
            What a longer prefix leaves open a shorter one says, and then the optimiser.

    >>> groups = grouped(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), {"0": {"lr": 0.1}})
    >>> [(len(group["params"]), group.get("lr")) for group in groups]
    [(2, None), (2, 0.1)]
    """
    for part in module.modules():  # ``MuonAdamW`` asks
        if isinstance(part, nn.Embedding | LearnedPositions):
            part.weight.is_embedding = True  # type: ignore[attr-defined]
    if not options:
        return module.parameters()
    groups: dict[str, dict[str, Any]] = {"": {"params": []}}
    for prefix in options:
        shorter = sorted((each for each in options if is_under(prefix, each)), key=len)
        merged = {name: value for each in shorter for name, value in options[each].items()}
        groups[prefix] = {"params": [], **merged}
    for name, parameter in module.named_parameters():
        prefixes = [prefix for prefix in options if is_under(name, prefix)]
        groups[max(prefixes, key=len, default="")]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def require_decay(optimizer: Any, options: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse weight decays that an optimiser would not read.

    Raises:
        ValueError: it has no weight decay.
    """
    parts = [prefix for prefix, each in options.items() if "weight_decay" in each]
    if parts and "weight_decay" not in optimizer.defaults:
        raise ValueError(
            f"optimizer: {type(optimizer).__name__} has no weight_decay, and {', '.join(parts)} "
            f"has one: choose another optimiser"
        )


def require_own_rates(scheduler: Any, options: Mapping[str, Mapping[str, float]]) -> None:
    """Refuse a schedule that would give all groups one learning rate.

    Raises:
        ValueError: it would.
    """
    rates = [prefix for prefix, each in options.items() if "lr" in each]
    if rates and isinstance(scheduler, (OneCycleLR, CyclicLR)):
        raise ValueError(
            f"lr_scheduler: {type(scheduler).__name__} gives all parameters one learning rate, "
            f"and {', '.join(rates)} has its own: choose another schedule"
        )
