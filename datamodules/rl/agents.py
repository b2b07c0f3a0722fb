"""What data modules share whose data an agent makes: finding it, evaluating it, going on."""

import os
from collections.abc import Mapping
from typing import Any, Protocol

from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split
from trellis.rl.collector import Collector
from trellis.rl.vector_environments import (
    EVALUATION_SEEDS,
    Episodes,
    environment_spec,
    make_environments,
    play,
)
from trellis.spec import EnvironmentSpec, differences


class Agent(Protocol):
    """What these data modules ask of the objective they work for."""

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions ``[N]`` or ``[N, A]`` for observations ``[N, *shape]``, drawn or the best."""
        ...


def spec_of(environment: str, options: Mapping[str, Any]) -> EnvironmentSpec:
    """What an agent sees and does there.

    Raises:
        ImportError: gymnasium is missing.
        ValueError: an unknown environment, or one that no agent of the house knows how to act in.
    """
    probe = make_environments(environment, 1, options)
    try:
        return environment_spec(environment, probe)
    finally:
        probe.close()


def collector_of(
    datamodule: DataModule,
    environment: str,
    num_envs: int,
    options: Mapping[str, Any],
    seed: int | None,
) -> Collector:
    """Environments for this process of this run; ``seed=None`` takes that of the run."""
    seed = int(os.environ.get("PL_GLOBAL_SEED", 0)) if seed is None else seed
    rank = datamodule.trainer.global_rank if datamodule.trainer else 0
    return Collector(environment, num_envs, options, seed=(seed, rank))


def agent_of(datamodule: DataModule, *methods: str) -> Any:
    """The objective that is trained.

    Args:
        datamodule: who asks.
        methods: what it is to do.
    Raises:
        ValueError: it does not, or it was made for another environment.
    """
    module = datamodule.trainer.lightning_module if datamodule.trainer else None
    for method in methods:
        if not hasattr(module, method):
            raise ValueError(
                f"{type(datamodule).__name__} needs an objective that can {method}(observations); "
                f"{type(module).__name__} cannot: take PPO with EnvironmentRollouts, or DQN with "
                f"EnvironmentReplay"
            )
    theirs = getattr(module, "spec", None)
    if theirs is not None and (wrong := differences(theirs, datamodule.spec)):
        raise ValueError(
            f"{type(module).__name__} was made for another environment: {'; '.join(wrong)}"
        )
    return module


def numbers_of_episodes(num_val_episodes: int, num_test_episodes: int) -> dict[Split, int]:
    """Episodes of each evaluation.

    Raises:
        ValueError: one of them is below 1.
    """
    return {
        "val": at_least_one("num_val_episodes", num_val_episodes),
        "test": at_least_one("num_test_episodes", num_test_episodes),
    }


def evaluate(
    datamodule: DataModule,
    split: Split,
    environment: str,
    options: Mapping[str, Any],
    number: int,
) -> Episodes:
    """Whole episodes of the agent with deterministic actions, the same ones each time.

    Args:
        datamodule: who asks.
        split: whose seeds the environments have.
        environment: gymnasium's id.
        options: its arguments.
        number: of episodes, each in an environment of its own.
    """
    agent = agent_of(datamodule, "act")
    environments = make_environments(environment, number, options)
    try:
        return play(
            environments,
            datamodule.spec,
            lambda observations: agent.act(observations.to(agent.device), deterministic=True),
            EVALUATION_SEEDS[split],
        )
    finally:
        environments.close()


def go_on(datamodule: DataModule, collector: Collector, state: Mapping[str, Any]) -> bool:
    """Bring ``collector`` to ``state``; warns where that takes new episodes.

    Returns:
        whether the episodes go on.

    Raises:
        ValueError: the state is that of another environment.
    """
    first = datamodule.trainer is None or datamodule.trainer.global_rank == 0
    if collector.load_state_dict(state, episodes=first):
        return True
    rank_zero_warn(
        f"{collector.environment}: the checkpoint lacks the state of these environments; "
        f"the run goes on with new episodes"
    )
    return False
