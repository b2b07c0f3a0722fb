"""Updates of DDPG against loops over single transitions, written from the paper."""

import copy
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from off_policy_cases import (
    KINDS,
    assert_same,
    descend,
    distance,
    fit,
    follow,
    goal,
    kept,
    squared_errors,
)

from trellis.lightning_modules.rl.ddpg import DDPG

LR, TAU = 0.01, 0.3
sgd = partial(torch.optim.SGD, lr=LR)


@pytest.mark.parametrize("of_data", [{}, {"priority": 0.6}])
def test_updates_by_loops(of_data: dict[str, Any], tmp_path: Path) -> None:
    """Algorithm 1: the critic, then the policy, then both that follow, in every update."""
    data = kept(**of_data)
    objective = partial(KINDS["ddpg"], optimizer=sgd, critic_optimizer=sgd, tau=TAU, gamma=0.9)
    done = fit(objective, tmp_path, lambda: data)
    assert done.error is None
    pi, q = data.networks["policy"], data.networks["critic"]
    old_pi, old_q = data.networks["target_policy"], data.networks["target_critic"]
    first = copy.deepcopy(data.networks)
    for update, (batch, weights, _) in enumerate(data.made):
        assert batch.terminated.any()
        assert not batch.terminated.all()
        goals = []
        for i in range(16):
            after = batch.next_observations[i][None]
            goals.append(goal(batch, i, old_q(after, old_pi(after)).item()))
        loss, errors = squared_errors(q, batch, weights, goals)
        descend(q.parameters(), loss, LR)
        gain = sum(q(s[None], pi(s[None]))[0] for s in batch.observations) / 16
        descend(pi.parameters(), -gain, LR)
        follow(old_q, q, TAU)
        follow(old_pi, pi, TAU)
        if of_data:
            told = data.told[update]
            torch.testing.assert_close(told, torch.tensor(errors).abs(), atol=1e-5, rtol=1e-4)
    assert len(data.told) == (6 if of_data else 0)
    for name, network in data.networks.items():
        if name in ("policy", "critic", "target_policy", "target_critic"):
            assert_same(getattr(done.objective, name), network)
            assert distance(network, first[name]) > 0.001


def test_defaults() -> None:
    """Lillicrap et al. 2016, section 7, but for what later code has: tau and Gaussian noise."""
    published = {"gamma": 0.99, "n_step": 1, "tau": 0.005, "noise": 0.1}
    defaults = inspect.signature(DDPG).parameters
    assert {name: defaults[name].default for name in published} == published
