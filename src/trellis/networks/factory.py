"""How a network is built from the sizes of its data."""

from typing import Protocol

from torch import nn


class NetworkFactory(Protocol):
    """Builds a network from the sizes of its data; called by keyword."""

    def __call__(self, in_channels: int, out_channels: int) -> nn.Module: ...
