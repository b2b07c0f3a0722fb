"""Random numbers without a state: each is a function of a seed and of where it is used.

Endless data are drawn from these, so that example 7 of epoch 3 is the same in a fresh run, after a
resume and in any process.
"""

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, far from any pattern; as a signed number
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


def draw(high: int, seed: int, *keys: Tensor | int) -> Tensor:
    """Whole numbers in ``0 .. high - 1``, each a function of ``seed`` and its keys alone.

    Args:
        high: at most 2^31; its bias is below high / 2^63.
        seed: of the stream.
        keys: where the numbers are used, as epoch, example, position; broadcast together.
    Shape:
        keys [...] -> [...]

    Source: the finaliser of SplitMix64 (Steele, Lea and Flood 2014), once for each key.

    >>> draw(10, 0, torch.arange(6)).tolist() == [int(draw(10, 0, i)) for i in range(6)]
    True
    """
    state = torch.tensor(seed)
    for key in (0, *keys):
        state = _mix((state + key + 1) * _GOLDEN)
    return (state & (2**63 - 1)) % high


def _mix(x: Tensor) -> Tensor:
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Shifted to the right as an unsigned number would be."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)
