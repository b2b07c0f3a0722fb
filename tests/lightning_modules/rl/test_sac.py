"""Updates of SAC against loops over single transitions, with torch's own distributions."""

import copy
import inspect
import math
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
    replay,
    squared_errors,
)
from torch import Tensor, nn
from torch.distributions import Normal, TransformedDistribution
from torch.distributions.transforms import TanhTransform

from trellis.lightning_modules.rl.sac import SAC
from trellis.spec import EnvironmentSpec

LR, TAU = 0.01, 0.3
sgd = partial(torch.optim.SGD, lr=LR)


def drawn(pi: nn.Module, observation: Tensor, epsilon: Tensor) -> tuple[Tensor, Tensor]:
    """An action, and its log-probability as one in [-1, 1]."""
    given = pi(observation[None])
    mean, std = given.loc[0], given.log_std[0].exp()
    squashed = TransformedDistribution(Normal(mean, std), [TanhTransform(cache_size=1)])
    unit = squashed.transforms[0](mean + std * epsilon)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    return low + (unit + 1) / 2 * (high - low), squashed.log_prob(unit).sum()


@pytest.mark.parametrize(
    ("options", "of_data"),
    [({}, {}), ({"alpha": 0.3}, {"priority": 0.6}), ({"target_entropy": 1.2}, {})],
)
def test_updates_by_loops(
    options: dict[str, Any],
    of_data: dict[str, Any],
    tmp_path: Path,
    noise: list[Tensor],  # noqa: F811
) -> None:
    data = kept(**of_data)
    objective = partial(
        KINDS["sac"], optimizer=sgd, critic_optimizer=sgd, alpha_optimizer=sgd, tau=TAU,
        gamma=0.9, **options,
    )  # fmt: skip
    done = fit(objective, tmp_path, lambda: data)
    assert done.error is None
    assert len(noise) == 12
    pi, q = data.networks["policy"], data.networks["critics"]
    old_q, numbers = data.networks["target_critics"], iter(noise)
    first, log_alpha = copy.deepcopy(data.networks), math.log(options.get("alpha", 1.0))
    for update, (batch, weights, _) in enumerate(data.made):
        alpha, goals, epsilon = math.exp(log_alpha), [], next(numbers)
        for i in range(16):
            after = batch.next_observations[i]
            action, log_prob = drawn(pi, after, epsilon[i])
            worth = min(net(after[None], action[None]).item() for net in old_q)
            goals.append(goal(batch, i, worth - alpha * log_prob.item()))
        (one, ones), (two, twos) = (squared_errors(net, batch, weights, goals) for net in q)
        descend(q.parameters(), one + two, LR)
        total, entropy, epsilon = torch.zeros(()), 0.0, next(numbers)
        for i, observation in enumerate(batch.observations):
            action, log_prob = drawn(pi, observation, epsilon[i])
            worth = min(net(observation[None], action[None])[0] for net in q)
            total = total + (alpha * log_prob - worth) / 16
            entropy -= log_prob.item() / 16
        descend(pi.parameters(), total, LR)
        if "alpha" not in options:
            log_alpha -= LR * (entropy - options.get("target_entropy", -2.0))
        follow(old_q, q, TAU)
        if of_data:
            told, both = data.told[update], torch.tensor([ones, twos])
            torch.testing.assert_close(told, both.abs().mean(0), atol=1e-5, rtol=1e-4)
    for name in ("policy", "critics", "target_critics"):
        assert_same(getattr(done.objective, name), data.networks[name])
        assert distance(data.networks[name], first[name]) > 0.001
    assert done.objective.log_alpha.item() == pytest.approx(log_alpha, abs=1e-5)
    assert (log_alpha != 0) == (done.objective.log_alpha != 0)


@pytest.mark.parametrize(("entropy", "rises"), [(2.0, True), (-20.0, False)])
def test_the_temperature_rises_below_the_target(
    entropy: float, rises: bool, tmp_path: Path
) -> None:
    """Two entries in [-1, 1] have at most 2 ln 2 = 1.4 nats."""
    done = fit(partial(KINDS["sac"], target_entropy=entropy), tmp_path)
    assert (done.objective.log_alpha.item() > 0) == rises
    saved = torch.load(done.last, weights_only=True)["state_dict"]["log_alpha"]
    assert torch.equal(saved, done.objective.log_alpha.detach())


def test_a_fixed_temperature_has_no_optimiser(tmp_path: Path) -> None:
    done = fit(partial(KINDS["sac"], alpha=0.2), tmp_path)
    assert done.objective.log_alpha.exp().item() == pytest.approx(0.2)
    assert not done.objective.log_alpha.requires_grad
    assert len(done.trainer.optimizers) == 2
    assert len(fit(KINDS["sac"], tmp_path).trainer.optimizers) == 3


@pytest.mark.long
def test_entropy_comes_near_its_target(tmp_path: Path) -> None:
    """A policy that would become deterministic keeps the entropy that it is told to."""
    fast = partial(torch.optim.Adam, lr=0.02)
    data = partial(
        replay, "TestAim-v0", num_updates=16, num_steps=8, total_steps=600, learning_starts=200,
        capacity=500, batch_size=32,
    )  # fmt: skip
    quick = {f"{name}optimizer": fast for name in ("", "critic_", "alpha_")}
    objective = partial(KINDS["sac"], target_entropy=-0.5, **quick)
    done = fit(objective, tmp_path, data, val_check_interval=1.0)
    assert done.error is None
    with torch.no_grad():
        _, log_prob = done.objective._sample(torch.linspace(-1, 1, 5000)[:, None])
    assert -log_prob.mean().item() == pytest.approx(-0.5, abs=0.15)


def test_what_is_drawn_and_what_is_learnt() -> None:
    data = replay()
    data.setup("fit")
    objective = KINDS["sac"](spec=data.spec)
    objective.configure_model()
    observations = torch.zeros(4000, 3)
    middle = objective.act(observations[:1], deterministic=True)
    assert torch.equal(middle, objective.act(observations[1:2], deterministic=True))
    for actions in (objective.act(observations), objective.explore(observations, 0.5)):
        assert actions.std(0).min() > 0.1
        assert (actions >= torch.tensor(LOW)).all()
        assert (actions <= torch.tensor(HIGH)).all()


def test_defaults_are_those_of_the_paper() -> None:
    """Haarnoja et al. 2018, "Algorithms and applications", table 1."""
    published = {"gamma": 0.99, "n_step": 1, "tau": 0.005, "alpha": None, "target_entropy": None}
    defaults = inspect.signature(SAC).parameters
    assert {name: defaults[name].default for name in published} == published
    spec = EnvironmentSpec("X-v0", (2,), action_low=(-1.0,) * 3, action_high=(1.0,) * 3)
    agent = SAC(spec=spec)
    agent.configure_model()
    assert agent.target_entropy == -3.0
    assert float(agent.log_alpha.detach()) == 0.0
