"""Sweeps against linear algebra, brute force over policies, and the courses' grids."""

from itertools import product

import pytest
import torch
from torch import Tensor

from trellis.rl.dynamic_programming import (
    FiniteMDP,
    action_values,
    evaluate_policy,
    greedy_policy,
    policy_iteration,
    value_iteration,
)


def random_mdp(states: int = 6, actions: int = 3) -> FiniteMDP:
    generator = torch.Generator().manual_seed(0)
    shape = states, actions, states
    transitions = torch.rand(shape, generator=generator, dtype=torch.float64) ** 4
    rewards = torch.randn(shape, generator=generator, dtype=torch.float64)
    return FiniteMDP(transitions / transitions.sum(-1, keepdim=True), rewards)


def solve(mdp: FiniteMDP, policy: Tensor, gamma: float) -> Tensor:
    """V = (I - gamma P)^-1 r, with the sums over s' and a written out by loops."""
    states, actions, _ = mdp.transitions.shape
    step, reward = torch.zeros(states, states).double(), torch.zeros(states).double()
    for s, a, t in product(range(states), range(actions), range(states)):
        share = policy[s, a] * mdp.transitions[s, a, t]
        step[s, t] += share
        reward[s] += share * mdp.rewards[s, a, t]
    return torch.linalg.solve(torch.eye(states).double() - gamma * step, reward)


def random_policy(mdp: FiniteMDP) -> Tensor:
    shape = mdp.transitions.shape[:2]
    scores = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return scores.softmax(1)


@pytest.mark.parametrize("in_place", [False, True])
def test_evaluation_solves_the_bellman_equation(in_place: bool) -> None:
    mdp = random_mdp()
    policy = random_policy(mdp)
    found = evaluate_policy(mdp, policy, 0.9, in_place=in_place)
    torch.testing.assert_close(found.values, solve(mdp, policy, 0.9), atol=1e-8, rtol=0)


def best_by_brute_force(mdp: FiniteMDP, gamma: float) -> Tensor:
    """The largest values over all deterministic policies, each by linear algebra."""
    states, actions, _ = mdp.transitions.shape
    choices = product(range(actions), repeat=states)
    eye = torch.eye(actions, dtype=torch.float64)
    return torch.stack([solve_fast(mdp, eye[list(c)], gamma) for c in choices]).amax(0)


def solve_fast(mdp: FiniteMDP, policy: Tensor, gamma: float) -> Tensor:
    step = (policy.unsqueeze(-1) * mdp.transitions).sum(1)
    rewards = (policy * (mdp.transitions * mdp.rewards).sum(-1)).sum(-1)
    return torch.linalg.solve(torch.eye(len(step)).double() - gamma * step, rewards)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 0.95])
def test_iterations_find_the_best_of_all_policies(gamma: float) -> None:
    mdp = random_mdp()
    best = best_by_brute_force(mdp, gamma)
    for solution in (
        policy_iteration(mdp, gamma),
        policy_iteration(mdp, gamma, policy=random_policy(mdp)),
        value_iteration(mdp, gamma),
        value_iteration(mdp, gamma, in_place=True),
    ):
        torch.testing.assert_close(solution.values, best, atol=1e-7, rtol=0)
        torch.testing.assert_close(solve(mdp, solution.policy, gamma), best, atol=1e-7, rtol=0)


def test_in_place_takes_fewer_sweeps() -> None:
    mdp = random_mdp()
    two = evaluate_policy(mdp, mdp.uniform_policy, 0.95)
    one = evaluate_policy(mdp, mdp.uniform_policy, 0.95, in_place=True)
    assert one.sweeps < two.sweeps
    assert value_iteration(mdp, 0.95, in_place=True).sweeps < value_iteration(mdp, 0.95).sweeps


def test_values_of_a_chain_by_hand() -> None:
    """0 -> 1 -> 2, which is terminal; rewards 1 and 2."""
    transitions = torch.tensor([[[0.0, 1, 0]], [[0, 0, 1]], [[0, 0, 1]]])
    mdp = FiniteMDP(transitions, torch.tensor([[1.0], [2.0], [0.0]]))
    assert mdp.terminal.tolist() == [False, False, True]
    assert evaluate_policy(mdp, mdp.uniform_policy, 1.0).values.tolist() == [3, 2, 0]
    assert evaluate_policy(mdp, mdp.uniform_policy, 0.5).values.tolist() == [2, 2, 0]
    assert action_values(mdp, torch.tensor([0.0, 4.0, 8.0]), 0.5).tolist() == [[3], [6], [4]]
    assert evaluate_policy(mdp, mdp.uniform_policy, 1.0, sweeps=1).values.tolist() == [1, 2, 0]


def test_equally_good_actions_share() -> None:
    transitions = torch.ones(1, 3, 1)
    mdp = FiniteMDP(transitions, torch.tensor([[1.0, 0.0, 1.0]]))
    assert greedy_policy(mdp, torch.zeros(1), 0.5).tolist() == [[0.5, 0.0, 0.5]]


def test_a_paid_stay_is_not_terminal() -> None:
    mdp = FiniteMDP(torch.ones(1, 2, 1), torch.tensor([[0.0, 1.0]]))
    assert mdp.terminal.tolist() == [False]


def test_bad_input() -> None:
    mdp = random_mdp()
    with pytest.raises(ValueError, match=r"transitions \[2, 3\]: give \[S, A, S\]"):
        FiniteMDP(torch.zeros(2, 3), torch.zeros(2))
    with pytest.raises(ValueError, match=r"rewards \[6\]: give \[6, 3\] or \[6, 3, 6\]"):
        FiniteMDP(mdp.transitions, torch.zeros(6))
    with pytest.raises(ValueError, match=r"state 0, action 0 .* sum to 2"):
        FiniteMDP(2 * mdp.transitions, mdp.rewards)
    with pytest.raises(
        ValueError, match=r"policy \[6, 2\]: give one for each state and action, \[6, 3\]"
    ):
        evaluate_policy(mdp, torch.ones(6, 2), 0.9)
    with pytest.raises(ValueError, match=r"gamma=1\.1"):
        value_iteration(mdp, 1.1)
    with pytest.raises(ValueError, match="sweeps=0"):
        value_iteration(mdp, 0.9, sweeps=0)


def test_values_that_never_settle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trellis.rl.dynamic_programming.MAX_SWEEPS", 100)
    mdp = FiniteMDP(torch.ones(1, 1, 1), torch.ones(1, 1))
    with pytest.raises(ValueError, match="after 100 sweeps with gamma=1.0: give a gamma"):
        value_iteration(mdp, 1.0)


def test_without_discount_a_policy_has_to_end() -> None:
    """0 <-> 1 forever; 2 leads there. Rewards on the way have a sum, rewards in the cycle none."""
    transitions = torch.tensor([[[0.0, 1, 0]], [[1, 0, 0]], [[1, 0, 0]]])
    on_the_way = FiniteMDP(transitions, torch.tensor([[0.0], [0.0], [7.0]]))
    assert evaluate_policy(on_the_way, torch.ones(3, 1), 1.0).values.tolist() == [0, 0, 7]
    circle = FiniteMDP(transitions, torch.tensor([[0.0], [1.0], [0.0]]))
    with pytest.raises(
        ValueError,
        match="return diverges, as the policy visits state 1 forever",
    ):
        evaluate_policy(circle, torch.ones(3, 1), 1.0)
    assert evaluate_policy(circle, torch.ones(3, 1), 1.0, sweeps=4).values.tolist() == [2, 2, 1]
