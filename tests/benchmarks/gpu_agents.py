"""PPO and SAC on vectorised environments, networks on a GPU, beside eager loops as CleanRL's."""

from functools import partial

import torch
from bare import ppo_loop, sac_loop
from gpu_runs import Blocks, Setting, fit
from measurements import report

from trellis.datamodules.rl.environment_replay import EnvironmentReplay
from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts
from trellis.lightning_modules.rl.ppo import PPO
from trellis.lightning_modules.rl.sac import SAC

adam = partial(torch.optim.Adam, lr=1e-3, fused=True)


def ppo(setting: Setting) -> str:
    """Steps of 16 environments a second, updates included."""
    num_envs, rollouts = (4, 4) if setting.tiny else (16, 20)
    total = rollouts * num_envs * 128

    def ours(blocks: Blocks, compiled: bool) -> None:
        data = EnvironmentRollouts("CartPole-v1", num_envs, 128, total)
        fit(setting, PPO(optimizer=adam), data, blocks, compiled=compiled)

    sides = {
        "trellis, compiled": partial(ours, compiled=True),
        "trellis": partial(ours, compiled=False),
        "eager loop": lambda blocks: ppo_loop(
            blocks, total, device=setting.device, num_envs=num_envs
        ),
    }
    rates = setting.in_rounds(sides, size=num_envs * 128, every=2)
    report(f"PPO on CartPole, {num_envs} environments", "steps/s", rates)
    return ""


def sac(setting: Setting) -> str:
    """Steps of 16 environments a second, with an update for each."""
    num_envs, starts, total = (2, 16, 64) if setting.tiny else (16, 1_600, 4_800)

    def ours(blocks: Blocks, compiled: bool) -> None:
        data = EnvironmentReplay("Pendulum-v1", num_envs, 1, num_envs, total, starts, 100_000, 256)
        objective = SAC(optimizer=adam, critic_optimizer=adam, alpha_optimizer=adam)
        fit(setting, objective, data, blocks, compiled=compiled)

    sides = {
        "trellis, compiled": partial(ours, compiled=True),
        "trellis": partial(ours, compiled=False),
        "eager loop": lambda blocks: sac_loop(blocks, total, setting.device, num_envs, starts),
    }
    rates = setting.in_rounds(sides, size=num_envs, every=10)
    report(f"SAC on Pendulum, {num_envs} environments", "steps/s", rates)
    return ""
