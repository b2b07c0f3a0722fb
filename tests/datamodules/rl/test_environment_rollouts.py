"""Rollouts are what happened: step by step against environments whose steps are known."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from environment_cases import Explorer, NoAgent, Still

from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.rl.collector import Rollout


def ready(agent: Any = None, **options: Any) -> EnvironmentRollouts:
    defaults = {
        "environment": "TestClock-v0", "num_envs": 2, "num_steps": 5, "total_steps": 50, "seed": 0,
    }  # fmt: skip
    data = EnvironmentRollouts(**{**defaults, **options})
    data.trainer = agent or Still()
    data.setup("fit")
    return data


def joined(rollouts: list[Rollout], field: str) -> torch.Tensor:
    return torch.cat([getattr(rollout, field) for rollout in rollouts])


def test_rollouts_against_the_clock() -> None:
    agent = Still()
    data = ready(agent, options={"length": 2})
    data._collector._environments.envs[1].unwrapped.length = 4
    rollouts = list(data.train_dataloader())
    assert len(rollouts) == 5
    before = torch.cat([rollout.observations[:-1] for rollout in rollouts])  # [25, 2, 3]
    after = torch.cat([rollout.observations[1:] for rollout in rollouts])
    mask, rewards = joined(rollouts, "mask"), joined(rollouts, "rewards")
    ended = joined(rollouts, "terminated") | joined(rollouts, "truncated")
    # What the agent saw is what is written down, across the rollouts too.
    assert torch.equal(torch.stack(agent.seen), before)
    assert torch.equal(before[1:], after[:-1])
    # A step leads to the next of its episode; the reward is the number of the step.
    assert torch.equal(after[mask][:, 0], before[mask][:, 0])
    assert torch.equal(after[mask][:, 1], before[mask][:, 1] + 1)
    assert torch.equal(rewards[mask], after[mask][:, 1])
    # A step of reset follows each end, and nothing else.
    assert torch.equal(~mask[1:], ended[:-1])
    assert bool(mask[0].all())
    assert torch.equal(after[~mask][:, 0], before[~mask][:, 0] + 1)
    assert not after[~mask][:, 1].any()
    assert not rewards[~mask].any()
    # Episodes of 3, 4, 5, 6 and of 5, 6, 7 steps; the odd ones terminate.
    lengths = after[..., 1][ended]
    assert lengths.sort().values.tolist() == [3, 4, 5, 5, 6, 6, 7]
    odd = after[..., 0][ended] % 2 == 1
    assert torch.equal(joined(rollouts, "terminated")[ended], odd)
    assert torch.equal(joined(rollouts, "truncated")[ended], ~odd)
    # Sums 1 + ... + length, in the order of their ends.
    assert rollouts[-1].recent_returns.tolist() == [6, 15, 10, 21, 15, 28, 21]
    assert rollouts[0].recent_returns.tolist() == [6, 15]
    assert [int(rollout.env_steps) for rollout in rollouts] == [10, 20, 30, 40, 50]
    for number, environment in enumerate(data._collector._environments.envs):
        acted = joined(rollouts, "actions")[:, number][mask[:, number]]
        assert acted.tolist() == environment.unwrapped.actions


def test_only_the_last_hundred_returns_are_reported() -> None:
    data = ready(environment="TestGuess-v0", num_steps=150, total_steps=300, agent=Still(3))
    (rollout,) = data.train_dataloader()
    assert len(rollout.recent_returns) == 100
    assert 0 < rollout.recent_returns.mean() < 1


def test_states_and_vectorised_observations() -> None:
    assert next(iter(ready(environment="TestGuess-v0").train_dataloader())).observations.dtype == (
        torch.long
    )
    (rollout,) = ready(environment="CartPole-v1", num_steps=40, total_steps=80).train_dataloader()
    assert rollout.observations.shape == (41, 2, 4)
    # By the equations of motion: the cart moves by its velocity, which is an observation too.
    where, mask = rollout.observations, rollout.mask
    moved = where[1:, :, 0] - where[:-1, :, 0]
    torch.testing.assert_close(moved[mask], 0.02 * where[:-1, :, 1][mask], atol=1e-5, rtol=0)
    assert torch.equal(rollout.rewards, mask.float())
    assert rollout.terminated.any()


def test_real_actions_are_drawn_whole_and_given_cut() -> None:
    data = ready(Still(0), options={"real": True})
    (rollout, *_) = data.train_dataloader()
    assert rollout.actions.shape == (5, 2, 2)
    assert rollout.actions.abs().max() > 1
    for number, environment in enumerate(data._collector._environments.envs):
        acted = rollout.actions[:, number][rollout.mask[:, number]].clamp(-1, 1)
        torch.testing.assert_close(
            torch.tensor(environment.unwrapped.actions)[: len(acted)], acted
        )


def test_a_run_is_as_long_as_its_steps() -> None:
    data = ready(total_steps=27)
    assert len(list(data.train_dataloader())) == len(data.train_dataloader()) == 2


def test_seeds() -> None:
    def first(seed: int | None, rank: int = 0) -> Rollout:
        agent = Still()
        agent.global_rank = rank
        return next(iter(ready(agent, seed=seed).train_dataloader()))

    one, again, other = first(1), first(1), first(2)
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert not torch.equal(one.observations, other.observations)
    assert not torch.equal(one.observations[:, 1], other.observations[:, 0])
    assert not torch.equal(one.observations, first(1, rank=1).observations)


def test_the_seed_of_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    def first() -> Rollout:
        return next(iter(ready(seed=None).train_dataloader()))

    monkeypatch.setenv("PL_GLOBAL_SEED", "1")
    one = first()
    monkeypatch.setenv("PL_GLOBAL_SEED", "2")
    assert not torch.equal(one.observations, first().observations)


def test_rollouts_draw_from_a_stream_of_their_own() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    one, two = list(ready().train_dataloader())[:2]
    assert torch.equal(torch.rand(3), expected)
    torch.manual_seed(6)
    again = list(ready().train_dataloader())
    assert torch.equal(one.actions, again[0].actions)
    assert not torch.equal(one.actions, two.actions)


@pytest.mark.parametrize("environment", ["TestClock-v0", "CartPole-v1"])
def test_saved_and_loaded_goes_on(environment: str) -> None:
    data = ready(environment=environment, num_steps=23, total_steps=460)
    whole = list(data.train_dataloader())
    data = ready(environment=environment, num_steps=23, total_steps=460)
    batches = iter(data.train_dataloader())
    for _ in range(4):
        next(batches)
    state = data.state_dict()
    data = ready(environment=environment, num_steps=23, total_steps=460, seed=9)
    data.load_state_dict(state)
    for rollout in whole[4:]:
        found = next(iter(data.train_dataloader()))
        assert all(torch.equal(a, b) for a, b in zip(rollout, found, strict=True))


def test_new_episodes_where_the_state_is_hidden() -> None:
    data = ready(environment="TestHidden-v0")
    next(iter(data.train_dataloader()))
    state = data.state_dict()
    assert state["environments"] is None
    data = ready(environment="TestHidden-v0")
    with pytest.warns(UserWarning, match="goes on with new episodes"):
        data.load_state_dict(state)
    rollout = next(iter(data.train_dataloader()))
    assert bool(rollout.mask[0].all())
    assert not rollout.observations[0, :, 1].any()
    with pytest.raises(ValueError, match="made in TestHidden-v0, this run is in TestClock-v0"):
        ready().load_state_dict(state)


def test_evaluation_episodes_are_the_same_each_time() -> None:
    data = ready(num_val_episodes=3, num_test_episodes=2)
    (one,), (again,), (test,) = (
        list(data.val_dataloader()), list(data.val_dataloader()), list(data.test_dataloader()),
    )  # fmt: skip
    assert one.returns.tolist() == again.returns.tolist() == [10, 10, 10]
    assert test.lengths.tolist() == [4, 4]
    seen = data.trainer.seen
    # Other first observations, by their noise: for each environment, and for the test.
    assert len({float(noise) for noise in torch.cat([seen[0], seen[-1]])[:, 2]}) == 5


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_steps": 0}, "num_steps=0: give at least 1"),
        ({"num_envs": 0}, "num_envs=0"),
        ({"num_val_episodes": 0}, "num_val_episodes=0"),
        ({"total_steps": 9}, "total_steps=9: give at least 10"),
        ({"environment": "CartPol-v1"}, "did you mean CartPole-v1"),
    ],
)
def test_bad_options(options: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        ready(**options)


def test_a_reward_that_is_no_number() -> None:
    data = ready(options={"nan": 8}, num_envs=1, num_steps=4, total_steps=20)
    # The fifth step ended an episode, the sixth began the next: the eighth action is in step 9.
    with pytest.raises(ValueError, match="the reward of environment 0 in its step 9 is not fin"):
        list(data.train_dataloader())
    assert data.state_dict()["environments"] is None


def test_an_environment_that_raises() -> None:
    data = ready(options={"fail": 3})
    with pytest.raises(RuntimeError, match="OSError in step 3 .*the clock stands still"):
        next(iter(data.train_dataloader()))
    assert data.state_dict()["environments"] is None


@pytest.mark.parametrize("stage", ["fit", "validate", "test"])
def test_an_objective_that_does_not_act(stage: str) -> None:
    data = EnvironmentRollouts()
    data.trainer = SimpleNamespace(lightning_module=NoAgent(), global_rank=0)
    with pytest.raises(ValueError, match="an AgentObjective, and NoAgent is none: take PPO"):
        data.setup(stage)


def test_an_objective_that_learns_from_something_else() -> None:
    with pytest.raises(
        ValueError,
        match="Explorer learns from replay, but EnvironmentRollouts provides rollouts: take "
        "EnvironmentReplay as data",
    ):
        ready(Explorer())
    # To play episodes it does not matter.
    data = EnvironmentRollouts("TestClock-v0", num_val_episodes=2)
    data.trainer = Explorer()
    data.setup("validate")
    (episodes,) = data.val_dataloader()
    assert episodes.lengths.tolist() == [4, 4]


def test_without_a_trainer_there_is_no_agent() -> None:
    data = EnvironmentRollouts("TestClock-v0")
    data.setup("fit")
    with pytest.raises(ValueError, match="they need a Trainer; .*trellis.rl.Collector"):
        next(iter(data.train_dataloader()))
    data.trainer = Still()
    data.teardown("fit")
    with pytest.raises(ValueError, match="EnvironmentRollouts: call setup"):
        next(iter(data.train_dataloader()))


@pytest.mark.parametrize("split", ["val", "test", "predict"])
def test_evaluation_is_deterministic(split: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[bool] = []

    def act(self: Still, observations: torch.Tensor, deterministic: bool = False) -> torch.Tensor:
        asked.append(deterministic)
        return torch.zeros(len(observations)).long()

    monkeypatch.setattr(Still, "act", act)
    data = ready()
    list(getattr(data, f"{split}_dataloader")())
    assert set(asked) == {True}
    asked.clear()
    next(iter(data.train_dataloader()))
    assert set(asked) == {False}


def test_each_process_gets_its_own_environments_back(monkeypatch: pytest.MonkeyPatch) -> None:
    saved, expected = [], []
    for rank in range(2):
        trainer = Still()
        trainer.global_rank = rank
        data = ready(trainer)
        next(iter(data.train_dataloader()))
        saved.append(data.own_state())
        expected.append(next(iter(data.train_dataloader())))
    assert not torch.equal(expected[0].observations, expected[1].observations)

    def gather(states: list[Any], own: Any) -> None:
        states[:] = saved

    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_object", gather)
    for rank in range(2):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        data = ready(Still())
        data.load_state_dict(data.state_dict())
        found = next(iter(data.train_dataloader()))
        assert torch.equal(found.observations, expected[rank].observations)
