"""Environments that run on, without a data module around them."""

import pytest
import torch
from torch import Tensor

from trellis.rl.collector import Collector


def coin(observations: Tensor) -> Tensor:
    return torch.randint(2, (len(observations),))


def test_a_rollout_begins_where_the_last_one_ended() -> None:
    whole, parts = (
        Collector("CartPole-v1", 3, seed=(4, 0)),
        Collector("CartPole-v1", 3, seed=(4, 0)),
    )
    expected = whole.collect(coin, 60)
    found = [parts.collect(coin, steps) for steps in (1, 19, 40)]
    assert (whole.steps, parts.steps) == (60, 60)
    for name in ("actions", "rewards", "terminated", "truncated", "mask"):
        assert torch.equal(getattr(expected, name), torch.cat([getattr(r, name) for r in found]))
    assert torch.equal(found[-1].recent_returns, expected.recent_returns)
    assert expected.terminated.any()


def test_returns_of_episodes_by_loops() -> None:
    collector, found = Collector("CartPole-v1", 3, seed=(4, 0)), []
    running = [0.0] * 3
    for steps in (1, 40, 19, 60):
        rollout = collector.collect(coin, steps)
        over = rollout.terminated | rollout.truncated
        for t in range(steps):
            for n in range(3):
                running[n] += rollout.rewards[t, n].item()
                if over[t, n]:
                    found.append(running[n])
                    running[n] = 0.0
        assert rollout.recent_returns.tolist() == found
    assert len(found) > 6


def test_the_state_goes_into_another_collector() -> None:
    one = Collector("CartPole-v1", 2, seed=(1, 0))
    one.collect(coin, 30)
    state = one.state_dict()
    expected = one.collect(coin, 30)
    other = Collector("CartPole-v1", 2, seed=(2, 0))
    assert other.load_state_dict(state)
    assert all(torch.equal(a, b) for a, b in zip(expected, other.collect(coin, 30), strict=True))
    # Of simulators whose state cannot be read: how far the run is, but not its episodes.
    assert not other.load_state_dict({**state, "environments": None})
    fresh = other.collect(coin, 30)
    assert other.steps == 60
    assert bool(fresh.mask[0].all())
    assert not torch.equal(fresh.observations[0], expected.observations[0])
    start = Collector("CartPole-v1", 2, seed=(2, 0)).collect(coin, 30)
    assert not torch.equal(fresh.observations[0], start.observations[0]), "the same episodes again"
    assert not torch.equal(fresh.actions, start.actions)
    with pytest.raises(ValueError, match="made in CartPole-v1, this run is in Acrobot-v1"):
        Collector("Acrobot-v1", 2).load_state_dict(state)


def test_the_seed_decides_environments_and_actions() -> None:
    first = [
        Collector("CartPole-v1", 2, seed=s).collect(coin, 9) for s in ((1, 0), (1, 0), (1, 1))
    ]
    assert torch.equal(first[0].observations, first[1].observations)
    assert torch.equal(first[0].actions, first[1].actions)
    assert not torch.equal(first[0].observations[0], first[2].observations[0])
    assert not torch.equal(first[0].actions, first[2].actions)


@pytest.mark.parametrize(("num_envs", "num_steps"), [(0, 5), (2, 0)])
def test_bad_sizes(num_envs: int, num_steps: int) -> None:
    with pytest.raises(ValueError, match=r"=0: give at least 1"):
        Collector("CartPole-v1", num_envs).collect(coin, num_steps)


@pytest.mark.parametrize("num_envs", [3, 9])
def test_what_becomes_of_a_rollout_does_not_reach_the_next(num_envs: int) -> None:
    """Neither changes of its tensors, nor the arrays that environments write to."""
    collector = Collector("CartPole-v1", num_envs)
    first = collector.collect(lambda seen: torch.zeros(len(seen)).long(), 5)
    last = first.observations[-1].clone()
    first.observations.fill_(7.0)
    seen: list[Tensor] = []

    def act(observations: Tensor) -> Tensor:
        seen.append(observations.clone())
        return torch.zeros(len(observations)).long()

    second = collector.collect(act, 5)
    assert torch.equal(second.observations[0], last)
    assert torch.equal(seen[0], last)
    assert not torch.equal(seen[1], last)
