"""Attention of recurrent decoders against loops over sentences, steps and positions."""

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from trellis.sequence.alignment import (
    AdditiveAttention,
    Alignment,
    DotAttention,
    GeneralAttention,
    KernelAttention,
    LastState,
    LearnedValue,
    MeanState,
    ReducedRankAttention,
)

B, T, S, Q, K = 3, 4, 5, 6, 6  # dot needs Q = K
MASK = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 0, 0, 0], [1, 0, 0, 0, 0]]).bool()
KINDS: dict[str, Callable[..., Alignment]] = {
    "dot": DotAttention,
    "general": GeneralAttention,
    "reduced_rank": partial(ReducedRankAttention, rank=2),
    "additive": partial(AdditiveAttention, attention_dim=7),
    "last": LastState,
    "mean": MeanState,
    "kernel": partial(KernelAttention, rank=3, bandwidth=0.7),
    "learned_value": partial(LearnedValue, attention=partial(AdditiveAttention, attention_dim=7)),
    "value_of_last": partial(LearnedValue, attention=LastState),
}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


@pytest.fixture(params=KINDS)
def attention(request: pytest.FixtureRequest) -> Alignment:
    return KINDS[request.param](query_dim=Q, key_dim=K)


@pytest.fixture
def query() -> Tensor:
    return torch.randn(B, T, Q)


@pytest.fixture
def values() -> Tensor:
    return torch.randn(B, S, K)


def attend(attention: Alignment, query: Tensor, values: Tensor, mask: Tensor) -> tuple:
    return attention(query, attention.keys(values), attention.values(values), mask)


@torch.no_grad()
def score(attention: Alignment, q: Tensor, k: Tensor) -> float:
    """One query against one output of the encoder, by the printed formula."""
    if isinstance(attention, LearnedValue):
        return score(attention.attention, q, k)
    if isinstance(attention, MeanState):
        return 0.0
    if isinstance(attention, KernelAttention):
        distance = attention.query.weight @ q - attention.key.weight @ k
        bandwidth = math.exp(float(attention.log_bandwidth))
        return -float(sum(d**2 for d in distance)) / (2 * bandwidth**2)
    if isinstance(attention, DotAttention):
        return float(q @ k)
    if isinstance(attention, GeneralAttention):
        return float(q @ attention.key.weight @ k)
    if isinstance(attention, ReducedRankAttention):
        return float(q @ attention.query.weight.t() @ attention.key.weight @ k)
    hidden = attention.query.weight @ q + attention.key.weight @ k + attention.key.bias
    return float(attention.energy.weight[0] @ torch.tanh(hidden))


@torch.no_grad()
def value(attention: Alignment, h: Tensor) -> Tensor:
    """What one output of the encoder adds to a context, by the printed formula."""
    if isinstance(attention, LearnedValue):
        return torch.tanh(attention.value.weight @ h + attention.value.bias)
    return h


@torch.no_grad()
def test_attention_is_a_loop(attention: Alignment, query: Tensor, values: Tensor) -> None:
    context, weights = attend(attention, query, values, MASK)
    for b in range(B):
        length = int(MASK[b].sum())
        for t in range(T):
            if isinstance(getattr(attention, "attention", attention), LastState):
                alpha = [0.0] * (length - 1) + [1.0]
            else:
                scores = [score(attention, query[b, t], values[b, s]) for s in range(length)]
                total = sum(math.exp(e) for e in scores)
                alpha = [math.exp(e) / total for e in scores]
            expected = sum(a * value(attention, values[b, s]) for s, a in enumerate(alpha))
            torch.testing.assert_close(context[b, t], expected)
            torch.testing.assert_close(weights[b, t, :length], torch.tensor(alpha))
            assert weights[b, t, length:].abs().sum() == 0


def test_weights_are_shares(attention: Alignment, query: Tensor, values: Tensor) -> None:
    _, weights = attend(attention, 100 * query, values, MASK)  # no overflow either
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, T))
    assert weights.min() >= 0


def test_padding_changes_nothing(attention: Alignment, query: Tensor, values: Tensor) -> None:
    context, weights = attend(attention, query, values, MASK)
    wide = torch.cat((values, torch.full((B, 3, K), 1e4)), dim=1)
    mask = torch.cat((MASK, torch.zeros(B, 3, dtype=torch.bool)), dim=1)
    padded, shares = attend(attention, query, wide, mask)
    torch.testing.assert_close(padded, context)
    torch.testing.assert_close(shares[..., :S], weights)


def test_all_queries_at_once_are_one_after_the_other(
    attention: Alignment, query: Tensor, values: Tensor
) -> None:
    context, weights = attend(attention, query, values, MASK)
    keys, own = attention.keys(values), attention.values(values)
    for t in range(T):
        one, shares = attention(query[:, t : t + 1], keys, own, MASK)
        torch.testing.assert_close(one[:, 0], context[:, t])
        torch.testing.assert_close(shares[:, 0], weights[:, t])


def test_padding_in_the_middle_is_skipped(
    attention: Alignment, query: Tensor, values: Tensor
) -> None:
    """As if it were not there: joined texts may have padding between them."""
    mask = torch.tensor([[1, 1, 0, 1, 0]] * B).bool()
    context, weights = attend(attention, query, values, mask)
    kept = values[:, mask[0]]
    short, shares = attend(attention, query, kept, torch.ones(B, 3, dtype=torch.bool))
    torch.testing.assert_close(context, short)
    torch.testing.assert_close(weights[..., mask[0]], shares)
    assert weights[..., ~mask[0]].abs().sum() == 0


@pytest.mark.parametrize("kind", [kind for kind in KINDS if "last" not in kind])
def test_the_order_of_the_source_is_not_seen(kind: str, query: Tensor, values: Tensor) -> None:
    attention, order = KINDS[kind](query_dim=Q, key_dim=K), torch.randperm(S)
    context, weights = attend(attention, query, values, MASK)
    shuffled, shares = attend(attention, query, values[:, order], MASK[:, order])
    torch.testing.assert_close(shuffled, context)
    torch.testing.assert_close(shares, weights[..., order])


def test_every_parameter_learns(attention: Alignment, query: Tensor, values: Tensor) -> None:
    values.requires_grad_()
    (attend(attention, query, values, MASK)[0] * torch.randn(B, T, K)).sum().backward()
    for name, parameter in attention.named_parameters():
        assert name.endswith("key.bias") or parameter.grad.abs().max() > 0, name
    assert values.grad[~MASK].abs().max() == 0
    only_last = isinstance(getattr(attention, "attention", attention), LastState)
    assert only_last or values.grad[MASK].abs().sum(-1).min() > 0


def test_gradients_of_the_additive_score_are_those_of_finite_differences() -> None:
    """The sum is squashed in place, which must leave nothing wrong behind."""
    attention = AdditiveAttention(3, 2, attention_dim=4).double()
    query, values = (torch.randn(2, 3, d, dtype=torch.double, requires_grad=True) for d in (3, 2))
    mask = torch.tensor([[True, True, False], [True, True, True]])

    def context(query: Tensor, values: Tensor) -> Tensor:
        return attention(query, attention.keys(values), values, mask)[0]

    assert torch.autograd.gradcheck(context, (query, values))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda: DotAttention(4, 8),
            "query_dim=4 and key_dim=8 must be equal; use GeneralAttention",
        ),
        (lambda: GeneralAttention(0, 8), "query_dim=0: give at least 1"),
        (lambda: GeneralAttention(4, 0), "key_dim=0: give at least 1"),
        (lambda: ReducedRankAttention(4, 8, rank=0), "rank=0: give at least 1"),
        (lambda: AdditiveAttention(4, 8, attention_dim=0), "attention_dim=0: give at least 1"),
        (lambda: KernelAttention(4, 8, rank=0), "rank=0: give at least 1"),
        (lambda: KernelAttention(4, 8, bandwidth=-1.0), "bandwidth=-1.0: give more than 0"),
    ],
)
def test_impossible_sizes_are_named(build: Callable[[], Alignment], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build()
