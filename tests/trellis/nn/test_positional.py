"""Positions: printed numbers, and the properties they are chosen for."""

import math

import pytest
import torch
from torch import nn

from trellis.nn.positional import (
    LearnedPositions,
    NoPositions,
    RotaryPositions,
    SinusoidalPositions,
    position_module,
    rotate,
    sinusoids,
)

KINDS = ["sinusoidal", "learned", "rotary", "none"]
B, H, T, D = 2, 2, 6, 8


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def build(kind: str) -> nn.Module:
    return position_module(kind, D, num_heads=H, max_length=10)


def test_sinusoids_one_by_one() -> None:
    table = sinusoids(torch.arange(50), D)
    for t in range(50):
        for i in range(D // 2):
            angle = t / 10000 ** (2 * i / D)
            assert table[t, 2 * i].item() == pytest.approx(math.sin(angle), abs=1e-5)
            assert table[t, 2 * i + 1].item() == pytest.approx(math.cos(angle), abs=1e-5)


def test_a_shift_of_sinusoids_is_a_rotation() -> None:
    """Vaswani et al. 2017, section 3.5: P(t + k) is linear in P(t), whatever t."""
    k = 3
    angles = k / 10000 ** (torch.arange(0, D, 2) / D)
    for t in (0, 5, 40):
        here, there = sinusoids(torch.tensor([t, t + k]), D).unflatten(1, (-1, 2))
        sin = here[:, 0] * angles.cos() + here[:, 1] * angles.sin()
        cos = here[:, 1] * angles.cos() - here[:, 0] * angles.sin()
        torch.testing.assert_close(torch.stack([sin, cos], 1), there)


def test_additive_positions_add() -> None:
    x = torch.randn(B, T, D)
    added, rotation = SinusoidalPositions(D)(x)
    assert rotation is None
    torch.testing.assert_close(added - x, sinusoids(torch.arange(T), D).expand_as(x))
    learned = LearnedPositions(D, 10)
    added, rotation = learned(x)
    assert rotation is None
    torch.testing.assert_close(added, x + learned.weight[:T])


def test_no_positions() -> None:
    x = torch.randn(B, T, D)
    added, rotation = NoPositions()(x)
    assert rotation is None
    assert added is x


@pytest.mark.parametrize("kind", KINDS)
def test_an_offset_continues_a_sequence(kind: str) -> None:
    module, x = build(kind), torch.randn(B, T, D)
    whole, rotation = module(x)
    rest, rest_of_rotation = module(x[:, 4:], 4)
    torch.testing.assert_close(rest, whole[:, 4:])
    if rotation is not None:
        torch.testing.assert_close(rest_of_rotation, rotation[4:])


def test_rotation_is_a_product_of_complex_numbers() -> None:
    """Su et al. 2021, eq. 12: a pair of features, as a complex number, times exp(i t theta)."""
    d = D // H
    x = torch.randn(B, H, T, d)
    _, rotation = RotaryPositions(d)(torch.zeros(B, T, D))
    angle = torch.arange(T).unsqueeze(1) * 10000 ** (-torch.arange(0, d, 2) / d)
    turned = torch.view_as_complex(x.unflatten(-1, (-1, 2))) * torch.polar(
        torch.ones_like(angle), angle
    )
    torch.testing.assert_close(rotate(x, rotation), torch.view_as_real(turned).flatten(-2))


def test_rotary_products_depend_on_the_distance_alone() -> None:
    d = 16
    query, key = torch.randn(2, 1, 1, 1, d)
    positions = RotaryPositions(d)

    def product(i: int, j: int) -> float:
        (_, at_i), (_, at_j) = (positions(torch.zeros(1, 1, d), t) for t in (i, j))
        return float((rotate(query, at_i) * rotate(key, at_j)).sum())

    assert product(9, 4) == pytest.approx(product(105, 100), abs=1e-4)
    assert product(4, 9) == pytest.approx(product(100, 105), abs=1e-4)
    assert abs(product(9, 4) - product(9, 5)) > 0.01
    assert abs(product(9, 4) - product(4, 9)) > 0.01


def test_rotation_keeps_lengths_and_types() -> None:
    x = torch.randn(B, H, T, 4)
    _, rotation = RotaryPositions(4)(torch.zeros(B, T, D))
    torch.testing.assert_close(rotate(x, rotation).norm(dim=-1), x.norm(dim=-1))
    assert rotate(x.bfloat16(), rotation).dtype == torch.bfloat16


@pytest.mark.parametrize("kind", KINDS)
def test_only_learned_positions_have_parameters(kind: str) -> None:
    sizes = {name: list(tensor.shape) for name, tensor in build(kind).state_dict().items()}
    assert sizes == ({"weight": [10, D]} if kind == "learned" else {})


def test_learned_positions_start_small() -> None:
    assert LearnedPositions(100, 200).weight.std().item() == pytest.approx(0.1, rel=0.05)


def test_learned_positions_end() -> None:
    learned = LearnedPositions(D, 10)
    assert learned(torch.zeros(B, 4, D), 6)[0].shape == (B, 4, D)
    for length, offset in ((11, 0), (4, 7)):
        with pytest.raises(ValueError, match="sequence of 11 tokens .* the 10 learned positions"):
            learned(torch.zeros(B, length, D), offset)


@pytest.mark.parametrize("kind", ["sinusoidal", "rotary", "none"])
def test_other_positions_do_not_end(kind: str) -> None:
    x, rotation = build(kind)(torch.zeros(1, 5, D), 10_000)
    assert x.isfinite().all()
    assert rotation is None or rotation.isfinite().all()


def test_what_cannot_be_is_named() -> None:
    with pytest.raises(ValueError, match="positions='alibi': choose from sinusoidal, learned"):
        build("alibi")
    with pytest.raises(ValueError, match="embed_dim=7: give an even number"):
        SinusoidalPositions(7)
    with pytest.raises(ValueError, match="embed_dim / num_heads=3: give an even number"):
        position_module("rotary", 6, num_heads=2, max_length=10)
    with pytest.raises(ValueError, match="max_length=0"):
        LearnedPositions(D, 0)
