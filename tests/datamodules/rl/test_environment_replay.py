"""The buffer holds what happened, and it is sampled as documented."""

from itertools import islice
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from environment_cases import Explorer, NoAgent, Still

from trellis.datamodules.rl.environment_replay import EnvironmentReplay
from trellis.rl.replay import ReplayBatch, Transitions


def ready(agent: Any = None, **options: Any) -> EnvironmentReplay:
    defaults = {
        "environment": "TestClock-v0", "num_envs": 2, "num_steps": 3, "num_updates": 4,
        "total_steps": 80, "learning_starts": 20, "capacity": 1000, "batch_size": 5, "seed": 0,
    }  # fmt: skip
    data = EnvironmentReplay(**{**defaults, **options})
    data.trainer = agent or Explorer()
    data.setup("fit")
    return data


def stored(data: EnvironmentReplay) -> Transitions:
    buffer = data._buffer if data.priority is None else data._buffer.buffer
    return buffer.take(torch.arange(len(buffer)))


@pytest.mark.parametrize("n", [1, 3])
def test_the_buffer_against_the_clock(n: int) -> None:
    """The reward is the number of the step, episodes of 4, 5, ... steps; odd ones terminate."""
    data = ready(Explorer(n_step=n))
    assert len(served(data)) == 4 * ((80 - 20) // 6)
    found = stored(data)
    episode, time = found.observations[:, 0], found.observations[:, 1]
    length = 3 + episode
    # No step of reset begins a transition, and none crosses an end.
    assert torch.equal(found.next_observations[:, 0], episode)
    steps = torch.minimum(torch.tensor(float(n)), length - time)
    assert torch.equal(found.next_observations[:, 1], time + steps)
    k = torch.arange(n)
    discounted = (time[:, None] + 1 + k) * 0.5**k * (k < steps[:, None])
    torch.testing.assert_close(found.rewards, discounted.sum(-1))
    torch.testing.assert_close(found.discounts, 0.5**steps)
    ends = time + steps == length
    assert torch.equal(found.terminated, ends & (episode % 2 == 1))
    assert found.terminated.any()
    # Each step begins one transition, but for those that still wait at the end.
    keys = {(float(a), float(b), float(c)) for a, b, c in found.observations}
    assert len(keys) == len(found.rewards)
    made = 2 * data.steps_each - sum(e.unwrapped.episode - 1 for e in environments(data))
    assert made - 2 * (n - 1) <= len(keys) <= made


def served(data: EnvironmentReplay, count: int | None = None) -> list[ReplayBatch]:
    """The batches of some blocks, or of all; errors are the rewards."""
    batches = []
    for block in islice(data.train_dataloader(), count):
        for batch in block:
            block.update_priorities(batch, batch.transitions.rewards)
            batches.append(batch)
    return batches


def environments(data: EnvironmentReplay) -> Any:
    return data._collector._environments.envs


def test_random_actions_first_and_then_the_agent() -> None:
    agent = Explorer()
    data = ready(agent)
    assert (data.random_steps, data.steps_each) == (10, 40)
    blocks = []
    for block in data.train_dataloader():
        assert len(list(block)) == 4
        blocks.append(block)
    assert agent.progress == [step / 40 for step in range(10, 40)]
    assert [int(block.env_steps) for block in blocks] == [20 + 6 * i for i in range(1, 11)]
    # What the agent saw is what is handed on, to scale observations by.
    seen = torch.stack(agent.seen)
    assert torch.equal(seen, torch.cat([block.observations[:-1] for block in blocks]))
    assert len(blocks[-1].recent_returns) == len(data._collector._recent)
    assert len(stored(data).rewards) > len(agent.seen) * 2
    assert set(stored(data).actions[:20].tolist()) == {0, 1}


def test_random_actions_between_the_bounds() -> None:
    data = ready(Explorer(0), learning_starts=400, total_steps=406, options={"real": True})
    served(data, 1)
    actions = stored(data).actions[:300]
    assert actions.shape == (300, 2)
    low, high = actions.aminmax(dim=0)
    torch.testing.assert_close(torch.stack([low, high]), torch.tensor([[-1.0] * 2, [1.0] * 2]),
                               atol=0.05, rtol=0)  # fmt: skip
    torch.testing.assert_close(actions.mean(0), torch.zeros(2), atol=0.1, rtol=0)


def test_batches_are_sampled_uniformly() -> None:
    data = ready(num_updates=400, batch_size=50, learning_starts=74, total_steps=80, num_steps=1)
    batches = served(data, 1)
    assert len(batches) == 400
    all_of_them = stored(data).observations
    found = torch.cat([batch.transitions.observations for batch in batches])
    drawn = (found[:, None] == all_of_them).all(-1).float().mean(0)
    assert drawn.sum().item() == pytest.approx(1)
    share = 1 / len(all_of_them)
    assert (drawn - share).abs().max() < 6 * (share / 20_000) ** 0.5
    assert all(batch.indices is None and bool((batch.weights == 1).all()) for batch in batches)


@pytest.mark.parametrize(
    ("steps", "updates", "between"),
    [(6, 3, [2, 2, 2]), (1, 4, [1, 0, 0, 0]), (5, 2, [3, 2]), (2, 3, [1, 1, 0])],
)
def test_steps_are_spread_between_updates(steps: int, updates: int, between: list[int]) -> None:
    agent = Explorer()
    data = ready(agent, num_steps=steps, num_updates=updates)
    for block in data.train_dataloader():
        assert len(block) == updates
        seen, sizes = len(agent.seen), []
        for _ in block:
            sizes.append(len(agent.seen) - seen)
            seen = len(agent.seen)
        assert sizes == between
        assert torch.equal(torch.stack(agent.seen[-steps:]), block.observations[:-1])
    assert len(agent.seen) == steps * data.num_batches


def test_the_oldest_are_overwritten() -> None:
    data = ready(capacity=15)
    served(data)
    expected = ready()
    served(expected)
    kept = stored(data).observations.tolist()
    assert sorted(kept) == sorted(stored(expected).observations[-15:].tolist())


def test_priorities_follow_the_errors() -> None:
    data = ready(priority=1.0, num_updates=300, num_steps=1, batch_size=10)
    block = next(iter(data.train_dataloader()))
    batches = iter(block)
    batch = next(batches)
    assert batch.weights.unique().tolist() == [1.0]
    # Errors of 3 for the first transition of all, of 1 for the others; of critics the mean counts.
    every = torch.arange(len(data._buffer))
    errors = torch.where(every == 0, 3.0, -1.0)
    block.update_priorities(
        batch._replace(indices=every), torch.stack([2 * errors, torch.zeros(len(every))])
    )
    batches = list(batches)
    where = torch.cat([batch.indices for batch in batches])
    assert (where == 0).float().mean().item() == pytest.approx(3 / (3 + len(every) - 1), rel=0.2)
    for batch in batches:
        expected = stored(data).observations[batch.indices]
        assert torch.equal(batch.transitions.observations, expected)
    # Weights take back .4 of the bias at the start of a run, and all of it at its end.
    beta = 0.4 + 0.6 * data._collector.steps / data.steps_each
    at = torch.cat([b.weights[b.indices == 0] for b in batches if (b.indices != 0).any()])
    torch.testing.assert_close(at, torch.full_like(at, 3**-beta))


@pytest.mark.parametrize("options", [{}, {"priority": 0.6}, {"environment": "CartPole-v1"}])
@pytest.mark.parametrize("n", [1, 3])
def test_saved_and_loaded_goes_on(options: dict[str, Any], n: int) -> None:
    whole = served(ready(Explorer(n_step=n), **options), 7)
    data = ready(Explorer(n_step=n), **options)
    served(data, 3)
    state = data.state_dict()
    data = ready(Explorer(n_step=n), **{**options, "seed": 9})
    data.load_state_dict(state)
    for batch, found in zip(whole[12:], served(data, 4), strict=True):
        assert torch.equal(batch.weights, found.weights)
        for name, field in batch.transitions._asdict().items():
            assert torch.equal(field, getattr(found.transitions, name)), name


def test_new_episodes_where_the_state_is_hidden() -> None:
    data = ready(Explorer(n_step=3), environment="TestHidden-v0")
    served(data, 1)
    state = data.state_dict()
    before = len(data._buffer)
    data = ready(Explorer(n_step=3), environment="TestHidden-v0")
    with pytest.warns(UserWarning, match="goes on with new episodes"):
        data.load_state_dict(state)
    assert len(data._buffer) == before
    block = next(iter(data.train_dataloader()))
    list(block)
    assert not block.observations[0, :, 1].any()
    served(data)
    # Nothing that waited for rewards of the old episodes got those of new ones.
    found = stored(data)
    assert torch.equal(found.next_observations[:, 0], found.observations[:, 0])
    assert (found.next_observations[:, 1] - found.observations[:, 1]).max() == 3
    with pytest.raises(ValueError, match="made in TestHidden-v0, this run is in TestClock-v0"):
        ready().load_state_dict(state)


def test_seeds_and_a_stream_of_its_own() -> None:
    def first(seed: int, rank: int = 0) -> ReplayBatch:
        agent = Explorer()
        agent.global_rank = rank
        return served(ready(agent, seed=seed), 1)[0]

    torch.manual_seed(3)
    one = first(1)
    after = torch.rand(2)
    torch.manual_seed(3)
    assert torch.equal(torch.rand(2), after)
    again, other, elsewhere = first(1), first(2), first(1, rank=1)
    assert torch.equal(one.transitions.rewards, again.transitions.rewards)
    for differs in (other, elsewhere):
        assert not torch.equal(one.transitions.rewards, differs.transitions.rewards)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "num_steps=0: give at least 1"),
        ({"num_updates": 0}, "num_updates=0: give at least 1"),
        ({"capacity": 0}, "capacity=0: give at least 1"),
        ({"batch_size": 0}, "batch_size=0: give at least 1"),
        ({"learning_starts": -1}, "learning_starts=-1: give at least 0"),
        ({"priority": 1.5}, "priority=1.5: give a probability"),
        ({"total_steps": 25}, "total_steps=25: learning_starts=20 and .*= 6 of one block"),
        ({"environment": "CartPol-v1"}, "did you mean CartPole-v1"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ready(**options)


def test_objectives_that_do_not_learn_from_replay() -> None:
    with pytest.raises(
        ValueError,
        match="Still learns from rollouts, but EnvironmentReplay provides replay: take "
        "EnvironmentRollouts as data",
    ):
        ready(Still())
    trainer = SimpleNamespace(lightning_module=NoAgent(), global_rank=0)
    with pytest.raises(ValueError, match="an AgentObjective, and NoAgent is none: .* or DQN"):
        ready(trainer)


def test_nothing_to_learn_from_yet() -> None:
    data = ready(Explorer(n_step=9), learning_starts=0, num_steps=1)
    with pytest.raises(ValueError, match="learning_starts=0: no transition is complete by then"):
        served(data, 1)


def test_a_reward_that_is_no_number_leaves_the_buffer_as_it_was() -> None:
    data = ready(options={"nan": 12})
    with pytest.raises(ValueError, match="the reward of environment 0 in its step 14 is not fin"):
        served(data)
    assert data.state_dict()["collector"]["environments"] is None
    assert bool(stored(data).rewards.isfinite().all())


@pytest.mark.parametrize(
    ("starts", "envs", "steps"), [(10, 3, 4), (9, 3, 3), (1, 3, 1), (0, 3, 0), (10, 1, 10)]
)
def test_at_least_as_many_random_steps_as_asked_for(starts: int, envs: int, steps: int) -> None:
    agent = Explorer()
    data = ready(agent, learning_starts=starts, num_envs=envs, total_steps=90)
    assert data.random_steps == steps
    next(iter(next(iter(data.train_dataloader()))))
    assert data.collector.steps == steps + len(agent.progress)
    assert agent.progress[0] == steps / data.steps_each
