"""Objectives for agents."""

from trellis.lightning_modules.rl.a2c import ActorCritic
from trellis.lightning_modules.rl.ddpg import DDPG
from trellis.lightning_modules.rl.dqn import DQN
from trellis.lightning_modules.rl.ppo import PPO
from trellis.lightning_modules.rl.reinforce import PolicyGradient
from trellis.lightning_modules.rl.sac import SAC
from trellis.lightning_modules.rl.td3 import TD3
from trellis.lightning_modules.rl.trpo import TRPO

__all__ = ["ActorCritic", "DDPG", "DQN", "PPO", "PolicyGradient", "SAC", "TD3", "TRPO"]
