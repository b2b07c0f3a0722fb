"""Random numbers that do not depend on what was drawn before."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)  # odd, far from any pattern; as a signed number
_FIRST, _SECOND = 0xBF58476D1CE4E5B9 - (1 << 64), 0x94D049BB133111EB - (1 << 64)


def hashed_integers(high: int, seed: int, *keys: Tensor | int) -> Tensor:
    """Pseudo-random integers in ``0 .. high - 1``, each a hash of ``seed`` and its keys.

    Endless data sets are drawn from these, so that example 7 of epoch 3 is the same in a fresh
    run, after a resume and in every process.

    Args:
        high: at most 2^31; the bias is below high / 2^63.
        seed: of the stream.
        keys: what the numbers are for, as epoch, example, position; broadcast together.
    Shape:
        keys [...] -> [...]

    Source: the finalizer of SplitMix64 (Steele, Lea and Flood 2014), once for each key.

    >>> numbers = hashed_integers(10, 0, torch.arange(6))
    >>> numbers.tolist() == [int(hashed_integers(10, 0, i)) for i in range(6)]
    True
    """
    rest = list(keys)
    number = _mixed_integer(seed)
    while rest and isinstance(key := rest[0], int):  # tensors would take most of the time
        number = _mixed_integer(number + key)
        del rest[0]
    state = torch.tensor(number - (1 << 64) if number >> 63 else number)
    for other in rest:
        state = mixed(state + other)
    return (state & (2**63 - 1)) % high


def mixed(x: Tensor) -> Tensor:
    """A hash of each integer: of 64 bits, to 64 bits, on the device where they are.

    >>> mixed(torch.arange(3)).unique().numel()
    3
    """
    x = (x + 1) * _GOLDEN
    x = (x ^ _shifted(x, 30)) * _FIRST
    x = (x ^ _shifted(x, 27)) * _SECOND
    return x ^ _shifted(x, 31)


def _mixed_integer(x: int) -> int:
    """``mixed`` of a number of Python, without a sign."""
    bits = (1 << 64) - 1
    x = ((x + 1) * _GOLDEN) & bits
    x = ((x ^ (x >> 30)) * _FIRST) & bits
    x = ((x ^ (x >> 27)) * _SECOND) & bits
    return x ^ (x >> 31)


def _shifted(x: Tensor, bits: int) -> Tensor:
    """Logical right shift: as if ``x`` were unsigned."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def keyed_generator(*keys: int) -> torch.Generator:
    """A generator on the CPU whose numbers depend on the keys alone, as seed, epoch and batch.

    >>> one, two = (torch.rand(3, generator=keyed_generator(0, 7)) for _ in range(2))
    >>> bool((one == two).all())
    True
    """
    return torch.Generator().manual_seed(int(hashed_integers(1 << 31, *keys)))


@contextmanager
def isolated_rng(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Draw torch's random numbers of a block from ``seed``, and leave the global streams alone.

    What is drawn after the block is the same as if the block had not run.

    Args:
        seed: of the CPU's generator, and of that of ``device``.
        device: a CUDA device has a generator of its own.

    >>> with isolated_rng(0):
    ...     first = torch.rand(3)
    >>> with isolated_rng(0):
    ...     bool((torch.rand(3) == first).all())
    True
    """
    device = torch.device(device)
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed seeds all kinds of devices
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
