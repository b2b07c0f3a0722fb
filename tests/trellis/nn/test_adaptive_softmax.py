"""Probabilities in two steps: sums of 1, the formula, shared vectors, gradients, bad input."""

import pytest
import torch
from torch import Tensor

from trellis.nn.adaptive_softmax import AdaptiveSoftmax

V, D, CUTOFFS = 50, 6, [10, 25]


@pytest.fixture
def softmax() -> AdaptiveSoftmax:
    torch.manual_seed(0)
    return AdaptiveSoftmax(V, D, cutoffs=CUTOFFS).double()


def written_out(softmax: AdaptiveSoftmax, h: Tensor, token: int) -> Tensor:
    """The formula for one hidden vector, from the weights."""
    weights = dict(softmax.layers.named_parameters())
    first = (weights["head.weight"] @ h + weights["head.bias"]).softmax(0)
    if token < CUTOFFS[0]:
        return first[token].log()
    group = 0 if token < CUTOFFS[1] else 1
    within = (weights[f"tail.{group}.1.weight"] @ weights[f"tail.{group}.0.weight"] @ h).softmax(0)
    return (first[CUTOFFS[0] + group] * within[token - CUTOFFS[group]]).log()


def test_probabilities_are_the_formula_and_sum_to_one(softmax: AdaptiveSoftmax) -> None:
    hidden = torch.randn(2, 3, D, dtype=torch.double)
    log_prob = softmax.log_prob(hidden)
    assert log_prob.shape == (2, 3, V)
    torch.testing.assert_close(log_prob.exp().sum(-1), torch.ones(2, 3, dtype=torch.double))
    expected = torch.stack([written_out(softmax, hidden[1, 2], token) for token in range(V)])
    torch.testing.assert_close(log_prob[1, 2], expected)


def test_targets_alone_have_the_probabilities_and_gradients_of_all(
    softmax: AdaptiveSoftmax,
) -> None:
    hidden = torch.randn(4, V, D, dtype=torch.double, requires_grad=True)
    targets = torch.arange(V).repeat(4, 1)
    alone = softmax.log_prob_of(hidden, targets)
    among_all = softmax.log_prob(hidden).gather(-1, targets[..., None]).squeeze(-1)
    torch.testing.assert_close(alone, among_all)
    inputs = [hidden, *softmax.parameters()]
    for ours, expected in zip(
        torch.autograd.grad(alone.sum(), inputs),
        torch.autograd.grad(among_all.sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, expected)


def test_a_group_without_targets_has_gradients_of_zero(softmax: AdaptiveSoftmax) -> None:
    hidden, targets = torch.randn(3, D, dtype=torch.double), torch.tensor([0, 1, 12])
    (softmax.log_prob_of(hidden, targets) + softmax.embed(targets).sum(-1)).sum().backward()
    rare = dict(softmax.layers.named_parameters())["tail.1.0.weight"]
    assert rare.grad is not None
    assert rare.grad.eq(0).all()


def test_an_embedding_is_the_vector_that_scores_its_token(softmax: AdaptiveSoftmax) -> None:
    tokens = torch.arange(V).view(5, 10)
    table = torch.cat(softmax.tables())
    torch.testing.assert_close(softmax.embed(tokens), table[tokens])
    assert len(table) == V
    (gradient,) = torch.autograd.grad(softmax.embed(tokens[:1]).sum(), softmax.layers.head.weight)
    assert gradient[:10].eq(1).all()
    assert gradient[10:].eq(0).all()  # the groups are no tokens


@pytest.mark.parametrize("cutoffs", [[], [0, 3], [5, 5], [20, 10], [50], [-1]])
def test_cutoffs_that_make_no_groups_are_refused(cutoffs: list[int]) -> None:
    with pytest.raises(ValueError, match=r"cutoffs=.*num_tokens=50"):
        AdaptiveSoftmax(V, D, cutoffs=cutoffs)


def test_targets_are_scored_under_autocast() -> None:
    torch.manual_seed(0)
    softmax, targets = AdaptiveSoftmax(9, 4, cutoffs=[3, 6]), torch.tensor([1, 4, 8])
    hidden = torch.randn(3, 4)
    expected = softmax.log_prob_of(hidden, targets)
    with torch.autocast("cpu", torch.bfloat16):
        found = softmax.log_prob_of(hidden.bfloat16(), targets)
    torch.testing.assert_close(found, expected, rtol=0.02, atol=0.02)
