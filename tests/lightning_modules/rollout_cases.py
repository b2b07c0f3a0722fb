"""Rollouts that are kept, and advantages by loops: shared by the tests of agents with a value."""

import copy
from functools import cache

import environment_cases  # noqa: F401 - registers environments
from torch import nn

from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.rl.collector import Rollout

GAMMA, LAM = 0.9, 0.7


def advantages(
    net: nn.Module, rollout: Rollout, gamma: float = GAMMA, lam: float = LAM
) -> dict[tuple[int, int], float]:
    """Of each step that is none of reset, by summing TD errors forwards to the episode's end."""

    @cache
    def value(t: int, n: int) -> float:
        return net(rollout.observations[t, n][None])[1].item()

    found, (steps, width) = {}, rollout.rewards.shape
    for n in range(width):
        for t in range(steps):
            if not rollout.mask[t, n]:
                continue
            total, weight = 0.0, 1.0
            for k in range(t, steps):
                over = bool(rollout.terminated[k, n])
                after = 0.0 if over else value(k + 1, n)
                total += weight * (rollout.rewards[k, n].item() + gamma * after - value(k, n))
                weight *= gamma * lam
                if over or bool(rollout.truncated[k, n]):
                    break
            found[t, n] = total
    return found


class Keep(EnvironmentRollouts):
    """Keeps the rollouts it makes, and the network that made them."""

    def next_batch(self) -> Rollout:
        made = super().next_batch()
        self.made = [*getattr(self, "made", []), made]
        self.networks = [
            *getattr(self, "networks", []),
            copy.deepcopy(self.trainer.lightning_module.network),
        ]
        return made
