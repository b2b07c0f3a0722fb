"""Networks that follow another from behind, so that what it learns from does not move with it."""

import copy
from typing import TypeVar

import torch
from torch import nn

from trellis.checks import probability
from trellis.torch_private import copy_, lerp_

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A copy that no optimiser learns.

    >>> frozen_copy(torch.nn.Linear(1, 1)).weight.requires_grad
    False
    """
    return copy.deepcopy(network).requires_grad_(False)


@torch.no_grad()
def polyak_update_(target: nn.Module, source: nn.Module, tau: float) -> None:
    r"""Move ``target`` towards ``source``, in place.

    .. math:: \theta' \leftarrow (1 - \tau) \theta' + \tau \theta

    Buffers, as the statistics of a scale of observations, are copied.

    Args:
        target: follows.
        source: a network of the same kind.
        tau: how far; 1 makes them equal.
    Raises:
        ValueError: tau outside [0, 1].

    Source: Lillicrap et al. 2016, algorithm 1; Mnih et al. 2015 (tau = 1).
    """
    probability("tau", tau)
    behind, ahead = tuple(target.parameters()), tuple(source.parameters())
    if tau == 1:
        copy_(behind, ahead)
    else:
        lerp_(behind, ahead, tau)
    for old, new in zip(target.buffers(), source.buffers(), strict=True):
        old.copy_(new)
