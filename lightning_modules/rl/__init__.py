"""Objectives for agents."""

from trellis.lightning_modules.rl.a2c import A2C
from trellis.lightning_modules.rl.ddpg import DDPG
from trellis.lightning_modules.rl.dqn import DQN
from trellis.lightning_modules.rl.ppo import PPO
from trellis.lightning_modules.rl.reinforce import REINFORCE
from trellis.lightning_modules.rl.sac import SAC
from trellis.lightning_modules.rl.td3 import TD3
from trellis.lightning_modules.rl.trpo import TRPO

__all__ = ["A2C", "DDPG", "DQN", "PPO", "REINFORCE", "SAC", "TD3", "TRPO"]
