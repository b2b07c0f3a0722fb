"""Scaled rewards beside gymnasium's, stable-baselines3's and a loop over single steps."""

import importlib
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.wrappers.vector import NormalizeReward
from packaging.version import Version
from torch import Tensor

from trellis.rl.collector import Collector
from trellis.rl.reward_scale import RewardScale

T, N, GAMMA = 60, 3, 0.9


class Played(VectorEnv):
    """Rewards and ends that were made before."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}
    num_envs = N
    single_observation_space = observation_space = gymnasium.spaces.Box(0, 1, (N, 1))
    single_action_space = action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, rewards: Tensor, truncated: Tensor) -> None:
        self.steps = iter(zip(rewards.numpy(), truncated.numpy(), strict=True))

    def reset(self, **_: Any) -> Any:
        return np.zeros((N, 1)), {}

    def step(self, actions: Any) -> Any:
        rewards, truncated = next(self.steps)
        return np.zeros((N, 1)), rewards, np.zeros(N, dtype=bool), truncated, {}


def made(seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    rewards = 5 * torch.randn(T, N, generator=generator) + 3
    ended = torch.rand(T, N, generator=generator) < 0.1
    ended[[0, 29]] = True  # with rollouts
    ended[28] = False
    return rewards, ended


def updated(scale: RewardScale, rewards: Tensor, ended: Tensor, mask: Any = None) -> RewardScale:
    """In three rollouts."""
    mask = torch.ones_like(ended) if mask is None else mask
    for rows in torch.arange(T).split([1, 29, 30]):
        scale.update(rewards[rows], ended[rows], mask[rows])
    return scale


@pytest.mark.skipif(
    Version(gymnasium.__version__) < Version("1.4"),
    reason="before 1.4 gymnasium's wrapper knew no autoreset modes",
)
def test_gymnasium_has_the_same_standard_deviation() -> None:
    rewards, ended = made()
    wrapper = NormalizeReward(Played(rewards, ended), gamma=GAMMA)
    wrapper.reset()
    last = [wrapper.step(np.zeros(N))[1] for _ in range(T)][-1]
    scale = updated(RewardScale(GAMMA), rewards, ended)
    assert scale.var.item() == pytest.approx(wrapper.return_rms.var, rel=1e-5)
    assert scale.mean.item() == pytest.approx(wrapper.return_rms.mean, rel=1e-5)
    np.testing.assert_allclose(scale(rewards)[-1], last, rtol=1e-5)
    assert scale.count == T * N


def test_stable_baselines_has_the_same_standard_deviation() -> None:
    peer = pytest.importorskip("stable_baselines3", reason='pip install "torch-trellis[peers]"')
    vec = importlib.import_module(f"{peer.__name__}.common.vec_env")
    rewards, ended = made()

    class Made(vec.DummyVecEnv):
        def step_wait(self) -> Any:
            row = next(steps)
            return np.zeros((N, 4)), rewards[row].numpy(), ended[row].numpy(), [{}] * N

    steps = iter(range(T))
    wrapper = vec.VecNormalize(
        Made([lambda: gymnasium.make("CartPole-v1")] * N), norm_obs=False, gamma=GAMMA
    )
    wrapper.reset()
    for _ in range(T):
        wrapper.step([0] * N)
    scale = updated(RewardScale(GAMMA), rewards, ended)
    assert scale.var.item() == pytest.approx(float(wrapper.ret_rms.var), rel=1e-4)


def test_steps_of_reset_do_not_count() -> None:
    rewards, ended = made(1)
    ended[1:] &= ~ended[:-1]
    mask = torch.cat([torch.ones(1, N, dtype=torch.bool), ~ended[:-1]])
    sums, total = [], [0.0] * N
    for t in range(T):
        for n in range(N):
            if not mask[t, n]:
                total[n] = 0.0
                continue
            total[n] = GAMMA * total[n] + rewards[t, n].item()
            sums.append(total[n])
    noise = rewards.where(mask, 1e6)
    scale = updated(RewardScale(GAMMA), noise, ended, mask)
    assert scale.count == len(sums) == mask.sum()
    assert scale.var.item() == pytest.approx(np.var(sums), rel=1e-5)
    before = scale.var.clone()
    scale.update(noise[:2], ended[:2], torch.zeros(2, N, dtype=torch.bool))
    assert torch.equal(scale.var, before)


def test_sums_of_scaled_rewards_deviate_by_one() -> None:
    collector = Collector("Pendulum-v1", num_envs=4)
    scale = RewardScale(0.98)
    rollouts = [
        collector.collect(lambda seen: 4 * torch.rand(len(seen), 1) - 2, 100) for _ in range(8)
    ]
    for each in rollouts:
        scale.update(each.rewards, each.terminated | each.truncated, each.mask)
    check = RewardScale(0.98)
    for each in rollouts:
        scaled = scale(each.rewards)
        assert scaled.abs().max() < 1
        check.update(scaled, each.terminated | each.truncated, each.mask)
    assert check.var.sqrt().item() == pytest.approx(1, abs=1e-4)
    assert scale.var.sqrt() > 20
    collector.close()


def test_clips_and_leaves_what_it_does_not_know() -> None:
    scale = RewardScale(0.9, clip=3.0)
    assert scale(torch.tensor([[2.0, 50.0, -50.0]])).tolist() == [[2.0, 3.0, -3.0]]
    assert RewardScale(0.9)(torch.tensor([[50.0]])).item() == 10


def test_all_is_saved() -> None:
    rewards, ended = made()
    whole = updated(RewardScale(GAMMA), rewards, ended)
    mask, half, rest = torch.ones_like(ended), slice(None, 40), slice(40, None)
    first, second = RewardScale(GAMMA), RewardScale(GAMMA)
    first.update(rewards[half], ended[half], mask[half])
    second.load_state_dict(first.state_dict())
    first.update(rewards[rest], ended[rest], mask[rest])
    second.update(rewards[rest], ended[rest], mask[rest])
    assert first.state_dict().keys() == {"mean", "var", "count", "sums"}
    for name, value in first.state_dict().items():
        assert torch.equal(second.state_dict()[name], value)
        torch.testing.assert_close(whole.state_dict()[name], value)


def test_another_number_of_environments_begins_anew() -> None:
    scale = RewardScale(GAMMA)
    no = torch.zeros(2, 3, dtype=torch.bool)
    scale.update(torch.ones(2, 3), no, ~no)
    scale.update(torch.ones(2, 1), no[:, :1], ~no[:, :1])
    assert scale.sums.tolist() == [pytest.approx(1.9)]


@pytest.mark.parametrize(
    ("options", "words"), [({"gamma": 1.1}, "gamma=1.1"), ({"gamma": 0.9, "clip": 0.0}, "clip=0")]
)
def test_bad_numbers(options: dict[str, float], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        RewardScale(**options)
