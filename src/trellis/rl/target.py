"""Target networks: slowly updated copies, so that the targets of learning change slowly."""

import copy
from typing import TypeVar

import torch
from torch import nn

from trellis.checks import probability
from trellis.torch_private import copy_, lerp_

Network = TypeVar("Network", bound=nn.Module)


def frozen_copy(network: Network) -> Network:
    """A copy without gradients.

    >>> frozen_copy(torch.nn.Linear(1, 1)).weight.requires_grad
    False
    """
    return copy.deepcopy(network).requires_grad_(False)


def polyak_update_(target: nn.Module, source: nn.Module, tau: float) -> None:
    """Move ``target`` towards ``source`` once, in place: see ``PolyakUpdate``.

    Args:
        target: is updated.
        source: a network of the same kind.
        tau: share of the way; 1 makes them equal.
    Raises:
        ValueError: tau outside [0, 1].
    """
    PolyakUpdate(target, source, tau)()


class PolyakUpdate:
    r"""Moves ``target`` towards ``source``, in place, with each call.

    .. math:: \theta' \leftarrow (1 - \tau) \theta' + \tau \theta

    Buffers, such as the statistics of a ``RunningScale``, are copied. The tensors are looked up
    once, which takes longer than to move those of a small network.

    Args:
        target: is updated.
        source: a network of the same kind.
        tau: share of the way; 1 makes them equal.
    Raises:
        ValueError: tau outside [0, 1].

    Source: Lillicrap et al. 2016, algorithm 1; Mnih et al. 2015 (tau = 1).
    """

    def __init__(self, target: nn.Module, source: nn.Module, tau: float) -> None:
        self.tau = probability("tau", tau)
        self._parameters = tuple(target.parameters()), tuple(source.parameters())
        self._buffers = tuple(zip(target.buffers(), source.buffers(), strict=True))

    @torch.no_grad()
    def __call__(self) -> None:
        """Move it once."""
        old, new = self._parameters
        if self.tau == 1:
            copy_(old, new)
        else:
            lerp_(old, new, self.tau)
        for copied, buffer in self._buffers:
            copied.copy_(buffer)
