"""Experience of agents in environments."""

from trellis.datamodules.rl.environment_replay import EnvironmentReplay
from trellis.datamodules.rl.environment_rollouts import EnvironmentRollouts

__all__ = ["EnvironmentReplay", "EnvironmentRollouts"]
