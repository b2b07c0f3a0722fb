import math

import pytest
import torch

from trellis.random import hashed_integers, isolated_rng

MASK = (1 << 64) - 1


def split_mix(x: int) -> int:
    """The finaliser of SplitMix64 in Python's whole numbers."""
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def naive(high: int, seed: int, *keys: int) -> int:
    state = seed
    for key in (0, *keys):
        state = split_mix(((state + key + 1) * 0x9E3779B97F4A7C15) & MASK)
    return (state & (2**63 - 1)) % high


def test_draws_are_those_of_unsigned_arithmetic() -> None:
    for seed in (0, 1, 2**32 - 1):
        for keys in ((), (0,), (5, 7), (3, 2**40)):
            assert int(hashed_integers(1000, seed, *keys)) == naive(1000, seed, *keys)
    grid = hashed_integers(2**31, 3, 1, torch.arange(3).unsqueeze(1), torch.arange(4))
    assert grid.tolist() == [[naive(2**31, 3, 1, i, j) for j in range(4)] for i in range(3)]


def test_the_published_first_number_of_splitmix() -> None:
    """SplitMix64 from state 0 begins with 0xe220a8397b1dcdaf."""
    assert split_mix(0x9E3779B97F4A7C15) == 0xE220A8397B1DCDAF
    assert int(hashed_integers(2**31, 0)) == (0xE220A8397B1DCDAF & (2**63 - 1)) % 2**31


def test_draws_are_even_and_keys_matter() -> None:
    count, high = 100_000, 10
    numbers = hashed_integers(high, 0, 4, torch.arange(count))
    expected = count / high
    chi = float(((numbers.bincount(minlength=high) - expected) ** 2 / expected).sum())
    assert chi < 27.9, "beyond the 99.9th percentile of nine degrees of freedom"
    for other in (
        hashed_integers(high, 1, 4, torch.arange(count)),
        hashed_integers(high, 0, 5, torch.arange(count)),
        hashed_integers(high, 0, 4, torch.arange(count) + 1),
    ):
        share = float((numbers == other).float().mean())
        assert abs(share - 1 / high) < 4 * math.sqrt(0.09 / count)


def test_a_block_with_a_seed_of_its_own_leaves_the_others_their_numbers() -> None:
    torch.manual_seed(5)
    expected = torch.rand(4)
    torch.manual_seed(5)
    before = torch.rand(2)
    with isolated_rng(7):
        inside = torch.rand(3)
    assert torch.cat([before, torch.rand(2)]).equal(expected)
    torch.manual_seed(7)
    assert torch.rand(3).equal(inside)


def test_the_global_stream_goes_on_after_an_error() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    torch.manual_seed(5)
    with pytest.raises(ValueError, match="inside"), isolated_rng(7):  # noqa: PT012
        torch.rand(1)
        raise ValueError("inside")
    assert torch.rand(2).equal(expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
def test_a_gpu_has_a_stream_of_its_own() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2, device="cuda")
    torch.manual_seed(5)
    draws = []
    for _ in range(2):
        with isolated_rng(7, "cuda"):
            draws.append(torch.rand(2, device="cuda"))
    assert draws[0].equal(draws[1])
    assert torch.rand(2, device="cuda").equal(expected)
