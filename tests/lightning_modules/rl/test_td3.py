"""Updates of TD3 against loops over single transitions, written from the paper."""

import copy
import inspect
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from off_policy_cases import (
    HIGH,
    KINDS,
    LOW,
    assert_same,
    descend,
    distance,
    fit,
    follow,
    goal,
    kept,
    noise,  # noqa: F401 - a fixture
    squared_errors,
)
from torch import Tensor

from trellis.lightning_modules.rl.td3 import TD3

LR, TAU = 0.01, 0.3
sgd = partial(torch.optim.SGD, lr=LR)


def near(action: Tensor, epsilon: Tensor) -> Tensor:
    """Entry by entry: noise of standard deviation 0.4, at most 0.5, in halves of the range."""
    found = []
    for j in range(2):
        step = min(max(0.4 * epsilon[j].item(), -0.5), 0.5) * (HIGH[j] - LOW[j]) / 2
        found.append(min(max(action[j].item() + step, LOW[j]), HIGH[j]))
    return torch.tensor([found])


@pytest.mark.parametrize("of_data", [{}, {"priority": 0.6}])
@pytest.mark.parametrize("delay", [1, 2, 4])
def test_updates_by_loops(
    delay: int,
    of_data: dict[str, Any],
    tmp_path: Path,
    noise: list[Tensor],  # noqa: F811
) -> None:
    """Algorithm 1; the delay counts updates across blocks."""
    data = kept(**of_data)
    options: dict[str, Any] = {"tau": TAU, "gamma": 0.9, "policy_delay": delay}
    objective = partial(
        KINDS["td3"], optimizer=sgd, critic_optimizer=sgd, target_noise=0.4, **options
    )
    done = fit(objective, tmp_path, lambda: data)
    assert done.error is None
    assert len(noise) == 6
    assert (0.4 * torch.stack(noise)).abs().max() > 0.5
    pi, old_pi = data.networks["policy"], data.networks["target_policy"]
    q, old_q = data.networks["critics"], data.networks["target_critics"]
    first = copy.deepcopy(data.networks)
    for update, (batch, weights, _) in enumerate(data.made):
        goals = []
        for i in range(16):
            after = batch.next_observations[i][None]
            action = near(old_pi(after)[0], noise[update][i])
            goals.append(goal(batch, i, min(net(after, action).item() for net in old_q)))
        (one, ones), (two, twos) = (squared_errors(net, batch, weights, goals) for net in q)
        descend(q.parameters(), one + two, LR)
        if update % delay == 0:
            gain = sum(q[0](s[None], pi(s[None]))[0] for s in batch.observations) / 16
            descend(pi.parameters(), -gain, LR)
            follow(old_q, q, TAU)
            follow(old_pi, pi, TAU)
        if of_data:
            told, both = data.told[update], torch.tensor([ones, twos])
            torch.testing.assert_close(told, both.abs().mean(0), atol=1e-5, rtol=1e-4)
    for name in ("policy", "critics", "target_policy", "target_critics"):
        assert_same(getattr(done.objective, name), data.networks[name])
        assert distance(data.networks[name], first[name]) > 0.001


def test_defaults_are_those_of_the_paper() -> None:
    """Fujimoto et al. 2018, section 6.1; noise in halves of the range, as theirs in [-1, 1]."""
    published = {
        "gamma": 0.99,
        "n_step": 1,
        "tau": 0.005,
        "noise": 0.1,
        "target_noise": 0.2,
        "target_noise_clip": 0.5,
        "policy_delay": 2,
    }
    defaults = inspect.signature(TD3).parameters
    assert {name: defaults[name].default for name in published} == published
