"""Dropout as approximate inference: on in evaluation, too."""

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

LAYERS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@contextmanager
def dropout_on(network: nn.Module) -> Iterator[None]:
    """Let the dropout layers of a network draw in the block, whatever its mode.

    Args:
        network: with dropout layers; all else in it stays as it is, batch norm too.
    Raises:
        ValueError: it has none that draws.

    Source: Gal and Ghahramani 2016 (Monte Carlo dropout).
    """
    layers = [each for each in network.modules() if isinstance(each, LAYERS)]
    if not any(layer.p > 0 for layer in layers):
        raise ValueError(f"{type(network).__name__} has no dropout to draw from: give dropout=0.1")
    modes = [layer.training for layer in layers]
    for layer in layers:
        layer.train()
    try:
        yield
    finally:
        for layer, mode in zip(layers, modes, strict=True):
            layer.train(mode)
