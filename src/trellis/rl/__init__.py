"""Reinforcement learning without a trainer: returns, tabular methods, bandits, buffers."""

from trellis.rl.bandits import (
    ArmValues,
    BanditAgent,
    EpsilonGreedy,
    GaussianTestbed,
    GradientBandit,
    Pulls,
    UpperConfidenceBound,
)
from trellis.rl.collector import Collector, Rollout
from trellis.rl.distribution import FastCategorical, SquashedGaussian
from trellis.rl.dynamic_programming import (
    Evaluation,
    FiniteMDP,
    Solution,
    action_values,
    evaluate_policy,
    greedy_policy,
    policy_iteration,
    value_iteration,
)
from trellis.rl.environments import (
    RedBlueDoors,
    TabularEnvironment,
    corner_grid,
    finite_mdp,
    jump_grid,
    recycling_robot,
)
from trellis.rl.episodes import Episode, sample_episodes
from trellis.rl.monte_carlo import Control, Prediction, mc_control, mc_prediction
from trellis.rl.n_step import NStepTransitions
from trellis.rl.natural_gradient import (
    conjugate_gradient,
    fisher_vector_product,
    trust_region_step,
)
from trellis.rl.policies import epsilon_greedy
from trellis.rl.policy_gradient import (
    clipped_surrogate_loss,
    clipped_value_loss,
    policy_gradient_loss,
    standardized,
)
from trellis.rl.prioritized_replay import PrioritizedReplay
from trellis.rl.replay import ReplayBatch, ReplayBuffer, Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.returns import (
    discounted_returns,
    gae,
    importance_ratio,
    lambda_returns,
    n_step_returns,
)
from trellis.rl.reward_scale import RewardScale
from trellis.rl.running_scale import RunningScale
from trellis.rl.schedules import exponential, linear
from trellis.rl.spaces import bytes_to_float
from trellis.rl.target import PolyakUpdate, frozen_copy, polyak_update_
from trellis.rl.temporal_difference import (
    batch_td,
    expected_sarsa,
    q_learning,
    sarsa,
    td_lambda,
    td_prediction,
)
from trellis.rl.vector_environments import environment_spec, make_environments

__all__ = [
    "ArmValues",
    "BanditAgent",
    "Collector",
    "Control",
    "Episode",
    "EpsilonGreedy",
    "Evaluation",
    "FastCategorical",
    "FiniteMDP",
    "GaussianTestbed",
    "GradientBandit",
    "NStepTransitions",
    "PolyakUpdate",
    "Prediction",
    "PrioritizedReplay",
    "Pulls",
    "RedBlueDoors",
    "ReplayBatch",
    "ReplayBlock",
    "ReplayBuffer",
    "RewardScale",
    "Rollout",
    "RunningScale",
    "Solution",
    "SquashedGaussian",
    "TabularEnvironment",
    "Transitions",
    "UpperConfidenceBound",
    "action_values",
    "batch_td",
    "bytes_to_float",
    "clipped_surrogate_loss",
    "clipped_value_loss",
    "conjugate_gradient",
    "corner_grid",
    "discounted_returns",
    "environment_spec",
    "epsilon_greedy",
    "evaluate_policy",
    "expected_sarsa",
    "exponential",
    "finite_mdp",
    "fisher_vector_product",
    "frozen_copy",
    "gae",
    "greedy_policy",
    "importance_ratio",
    "jump_grid",
    "lambda_returns",
    "linear",
    "make_environments",
    "mc_control",
    "mc_prediction",
    "n_step_returns",
    "policy_gradient_loss",
    "policy_iteration",
    "polyak_update_",
    "q_learning",
    "recycling_robot",
    "sample_episodes",
    "sarsa",
    "standardized",
    "td_lambda",
    "td_prediction",
    "trust_region_step",
    "value_iteration",
]
