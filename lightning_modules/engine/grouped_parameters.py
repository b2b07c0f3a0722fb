"""Parameters in groups, by the beginnings of their names, each with a learning rate of its own."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch import nn
from torch.optim.lr_scheduler import CyclicLR, OneCycleLR


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


def grouped(module: nn.Module, rates: Mapping[str, float]) -> "Iterator[nn.Parameter] | list[Any]":
    """The parameters of ``module`` for an optimiser.

    Args:
        module: whose parameters are grouped.
        rates: prefix of their names -> learning rate; the longest prefix of a name counts. Those
            under none have the optimiser's own.

    >>> groups = grouped(nn.Sequential(nn.Linear(1, 2), nn.Linear(2, 1)), {"0": 0.1})
    >>> [(len(group["params"]), group.get("lr")) for group in groups]
    [(2, None), (2, 0.1)]
    """
    if not rates:
        return module.parameters()
    groups: dict[str, dict[str, Any]] = {"": {"params": []}}
    groups |= {prefix: {"params": [], "lr": rate} for prefix, rate in rates.items()}
    for name, parameter in module.named_parameters():
        prefixes = [prefix for prefix in rates if is_under(name, prefix)]
        groups[max(prefixes, key=len, default="")]["params"].append(parameter)
    return [group for group in groups.values() if group["params"]]


def require_own_rates(scheduler: Any, rates: Mapping[str, float]) -> None:
    """Refuse a schedule that would give all groups one learning rate.

    Raises:
        ValueError: it would.
    """
    if rates and isinstance(scheduler, (OneCycleLR, CyclicLR)):
        raise ValueError(
            f"lr_scheduler: {type(scheduler).__name__} gives all parameters one learning rate, "
            f"and {', '.join(rates)} has its own: choose another schedule"
        )
