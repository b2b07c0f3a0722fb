"""Environments by name, and episodes played to their end."""

import sys
from functools import partial
from typing import Any

import environment_cases  # noqa: F401 - registers environments
import gymnasium
import numpy as np
import pytest
import torch
from gymnasium.spaces import Box, Discrete
from gymnasium.vector import AutoresetMode, SyncVectorEnv

from trellis.rl.collector import Collector
from trellis.rl.vector_environments import (
    Episodes,
    environment_spec,
    make_environments,
    observation_dtype,
    play,
)
from trellis.spec import EnvironmentSpec


def test_specs() -> None:
    def spec(name: str) -> EnvironmentSpec:
        return environment_spec(name, make_environments(name, 1))

    assert spec("CartPole-v1") == EnvironmentSpec("CartPole-v1", (4,), num_actions=2)
    assert spec("Pendulum-v1") == EnvironmentSpec(
        "Pendulum-v1", (3,), action_low=(-2.0,), action_high=(2.0,)
    )
    assert spec("Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3") == EnvironmentSpec(
        "Taxi-v4" if "Taxi-v4" in gymnasium.registry else "Taxi-v3", (), 500, 6
    )


def test_own_vectorised_entry_point_else_one_by_one() -> None:
    own, few, others = (
        make_environments(name, count)
        for name, count in (("CartPole-v1", 9), ("CartPole-v1", 8), ("Acrobot-v1", 9))
    )
    assert not isinstance(own, SyncVectorEnv)
    assert isinstance(few, SyncVectorEnv)
    assert isinstance(others, SyncVectorEnv)
    for made in (own, few, others):
        assert made.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP


def test_types_of_observations() -> None:
    kinds = {"CartPole-v1": torch.float32, "CliffWalking-v1": torch.long}
    for name, kind in kinds.items():
        assert observation_dtype(make_environments(name, 1)) == kind


def test_episodes_are_played_once_and_whole() -> None:
    environments = make_environments("TestClock-v0", 3)
    environments.envs[1].unwrapped.length = 5
    spec = environment_spec("TestClock-v0", environments)
    # The first episode of length 3 + 1 returns 1 + 2 + 3 + 4, while that of 6 goes on.
    found = play(environments, spec, lambda seen: torch.zeros(len(seen), dtype=torch.long), 0)
    assert found.returns.tolist() == [10, 21, 10]
    assert found.lengths.tolist() == [4, 6, 4]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("CartPole-v7", "unknown to gymnasium; did you mean CartPole-v"),
        ("Cartpole", "CartPole"),
        ("qqqqqqqq", "see gymnasium.pprint_registry"),
        ("antigravity:Env-v0", "import antigravity first"),
        ("Blackjack-v1", "observations are a Tuple"),
    ],
)
def test_unfit_environments_are_named(name: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        environment_spec(name, make_environments(name, 1))


def test_an_episode_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trellis.rl.vector_environments.MAX_EPISODE_STEPS", 20)
    environments = make_environments("TestClock-v0", 2, {"length": 30})
    spec = environment_spec("TestClock-v0", environments)
    environments.envs[1].unwrapped.length = 3  # that one ends after 4 steps
    words = "TestClock-v0: 1 of 2 episodes have not ended after 20 steps.*max_episode_steps"
    with pytest.warns(UserWarning, match=words):
        found = play(environments, spec, lambda seen: torch.zeros(len(seen), dtype=torch.long), 0)
    assert found.lengths.tolist() == [20, 4]
    assert found.returns.tolist() == [210, 10]
    environments = make_environments("TestClock-v0", 2, {"length": 30, "max_episode_steps": 5})
    assert play(
        environments, spec, lambda seen: torch.zeros(len(seen), dtype=torch.long), 0
    ).lengths.tolist() == [5, 5]


class Own(gymnasium.Env):
    """Returns what it is told to at reset and in steps, whatever its space declares."""

    action_space = Discrete(2)

    def __init__(self, space: Any, first: Any, then: Any, **options: Any) -> None:
        self.observation_space, self.first, self.then = space, first, then
        self.__dict__.update(options)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        return self.first, {}

    def step(self, action: Any) -> Any:
        return self.then, 1.0, True, False, {}


class OwnVector(gymnasium.vector.VectorEnv):
    """Two copies, vectorised by its author."""

    metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP}

    def __init__(self, num_envs: int, **options: Any) -> None:
        self.num_envs, self.first = num_envs, options["first"]
        self.single_observation_space = options["space"]
        self.single_action_space = Discrete(2)

    def reset(self, *, seed: int | None = None, options: Any = None) -> Any:
        return self.first, {}


for name, entries in (
    ("TestOwn-v0", {"entry_point": Own}),
    ("TestOwnVector-v0", {"entry_point": Own, "vector_entry_point": OwnVector}),
):
    if name not in gymnasium.registry:
        gymnasium.register(name, **entries)

BYTES, REAL = Box(0, 255, (2,), np.uint8), Box(-1.0, 1.0, (2,))


@pytest.mark.parametrize(
    ("space", "wrong", "words"),
    [
        (BYTES, np.array([0.5, 1.0]), "of float64, but .* a Box of shape [2] and uint8"),
        (BYTES, np.array([3, 256]), "from 3 to 256, but .* uint8 from 0 to 255"),
        (BYTES, np.array([-1, 0]), "from -1 to 0"),
        (REAL, np.zeros(1), r"of shape [1], but .* a Box of shape [2] and float32 from -1.0 to"),
        (REAL, np.zeros((2, 1)), "of shape [2, 1]"),
        (REAL, 0.0, "of shape []"),
        (REAL, None, "a NoneType as observation"),
        (REAL, {"x": np.zeros(2)}, "a dict as observation"),
        (REAL, [[1.0], [1.0, 2.0]], "a list as observation"),
        (Discrete(3), 3, "from 3 to 3, but .* Discrete(3)"),
        (Discrete(3), -1, "from -1 to -1"),
        (Discrete(3), 1.0, "of float64, but .* Discrete(3)"),
        (Discrete(3), [1], "of shape [1]"),
    ],
)  # fmt: skip
def test_an_environment_that_breaks_its_own_space(space: Any, wrong: Any, words: str) -> None:
    right = np.zeros(space.shape, space.dtype)
    pattern = words.translate(str.maketrans({c: "\\" + c for c in "[]()"}))

    def played(first: Any, then: Any) -> Episodes:
        options = {"space": space, "first": first, "then": then}
        environments = make_environments("TestOwn-v0", 2, options)
        spec = environment_spec("TestOwn-v0", environments)
        return play(environments, spec, lambda seen: torch.zeros(len(seen)).long(), 0)

    with pytest.raises(RuntimeError, match=f"^TestOwn-v0: ValueError in reset: .*{pattern}") as at:
        played(wrong, right)
    assert "\n" not in str(at.value)
    with pytest.raises(RuntimeError, match=f"^TestOwn-v0: ValueError in step 1: .*{pattern}"):
        played(right, wrong)
    assert played(right, right).lengths.tolist() == [1, 1]


@pytest.mark.parametrize(
    ("space", "right"),
    [
        (BYTES, [3, 255]),
        (BYTES, np.array([3, 255])),
        (REAL, np.array([0.5, 7.0])),  # outside its bounds, which nothing relies on
        (REAL, np.array([1, 0])),
        (REAL, [0.5, 1]),
        (Discrete(3), np.int32(2)),
        (Discrete(3), True),
    ],
)
def test_what_fits_a_space_is_taken(space: Any, right: Any) -> None:
    environments = make_environments(
        "TestOwn-v0", 2, {"space": space, "first": right, "then": right}
    )
    spec, seen = environment_spec("TestOwn-v0", environments), []

    def act(observations: torch.Tensor) -> torch.Tensor:
        seen.append(observations)
        return torch.zeros(2).long()

    play(environments, spec, act, 0)
    assert seen[0].tolist() == 2 * [np.asarray(right).tolist()]


@pytest.mark.parametrize(
    ("first", "words"),
    [
        (np.zeros((9, 1), np.float32), r"shape \[1\], but"),
        (np.zeros((3, 2), np.float32), r"9 environments returned observations of shape \[3, 2\]"),
    ],
)
def test_vectorised_environments_that_break_their_space(first: np.ndarray, words: str) -> None:
    with pytest.raises(RuntimeError, match=f"TestOwnVector-v0: ValueError in reset: .*{words}"):
        Collector("TestOwnVector-v0", 9, {"space": REAL, "first": first, "then": first})


def test_an_environment_that_raises_at_the_start() -> None:
    options = {"space": REAL, "first": np.zeros(2), "then": np.zeros(2)}
    environments = make_environments("TestOwn-v0", 1, options)
    spec = environment_spec("TestOwn-v0", environments)

    def broken(**_: Any) -> Any:
        raise OSError("no simulator")

    environments.envs[0].unwrapped.reset = broken
    with pytest.raises(RuntimeError, match="TestOwn-v0: OSError in reset: no simulator"):
        play(environments, spec, lambda seen: torch.zeros(1).long(), 0)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_resets_are_those_of_gymnasium(num_envs: int) -> None:
    ours = make_environments("Acrobot-v1", num_envs)
    one = partial(gymnasium.make, "Acrobot-v1")
    theirs = SyncVectorEnv([one] * num_envs, autoreset_mode=AutoresetMode.NEXT_STEP)
    for seed in (5, None):
        assert np.array_equal(ours.reset(seed=seed)[0], theirs.reset(seed=seed)[0])
        for action in (0, 2, 1):
            steps = [made.step(np.full(num_envs, action))[:4] for made in (ours, theirs)]
            for a, b in zip(*steps, strict=True):
                assert np.array_equal(a, b)


class Doubled(gymnasium.RewardWrapper):
    def __init__(self, env: gymnasium.Env, factor: float = 2.0) -> None:
        super().__init__(env)
        self.factor = factor

    def reward(self, reward: Any) -> float:
        return self.factor * float(reward)


def test_wrappers_are_put_around_in_their_order() -> None:
    from gymnasium.wrappers import ClipReward

    def total(*wrappers: Any) -> float:
        environments = make_environments("TestClock-v0", 1, wrappers=wrappers)
        spec = environment_spec("TestClock-v0", environments)
        found = play(environments, spec, lambda seen: torch.zeros(len(seen)).long(), 0)
        return float(found.returns)

    clip = partial(ClipReward, min_reward=0.0, max_reward=3.0)
    assert total() == 1 + 2 + 3 + 4
    assert total(clip, Doubled) == 2 * (1 + 2 + 3 + 3)
    assert total(Doubled, clip) == 2 + 3 + 3 + 3
    assert total(partial(Doubled, factor=-1.0)) == -10


def test_wrapped_environments_are_stepped_one_by_one() -> None:
    made = make_environments("CartPole-v1", 9, wrappers=[Doubled])
    assert isinstance(made, SyncVectorEnv)
    made.reset(seed=0)
    assert made.step(np.zeros(9, dtype=int))[1].tolist() == [2.0] * 9


def test_a_wrapper_that_does_not_fit_is_named() -> None:
    with pytest.raises(ValueError, match=r"wrappers\[1\] cannot wrap .*TypeError"):
        make_environments("TestClock-v0", 1, wrappers=[Doubled, partial(Doubled, fctor=1.0)])


def test_the_module_of_an_environment_is_imported_if_its_user_named_it(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "laboratory.py").write_text(
        "import gymnasium\ngymnasium.register('Lab-v0', 'environment_cases:Clock')\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    with pytest.raises(ValueError, match="import laboratory first, or set TRELLIS_IMPORT=labor"):
        make_environments("laboratory:Lab-v0", 1)
    with pytest.raises(ValueError, match="Lab-v0' is unknown to gymnasium.*trellis --import"):
        make_environments("Lab-v0", 1)
    assert "laboratory" not in sys.modules
    monkeypatch.setenv("TRELLIS_IMPORT", "laboratory")
    assert make_environments("laboratory:Lab-v0", 1).num_envs == 1
    assert make_environments("Lab-v0", 1).num_envs == 1
