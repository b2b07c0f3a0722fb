"""Deep Q-learning: values of discrete actions, learned from a replay buffer."""

from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn

from trellis.checks import at_least_one, choose_from, probability
from trellis.lightning_modules.rl.agent import AgentObjective, observation_sizes
from trellis.networks.rl.value import QNetwork
from trellis.rl.replay import ReplayBatch, Transitions
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.target import frozen_copy, polyak_update_
from trellis.spec import EnvironmentSpec

LOSSES = {"mse": F.mse_loss, "huber": F.smooth_l1_loss}


class QNetworkFactory(Protocol):
    """Builds the values of all actions from the sizes of an environment; called by keyword.

    The network has ``forward(observation [B, *shape]) -> values [B, num_actions]``.
    """

    def __call__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int,
        *,
        num_observations: int = 0,
    ) -> nn.Module: ...


class DQN(AgentObjective):
    r"""The value of an action learns from the largest value of what comes after it.

    .. math:: L = \frac1B \sum_i w_i \, \ell(\delta_i), \quad
        \delta = r + \gamma^n \max_{a'} Q'(s', a') - Q(s, a)

    Q' is a target network. Where an episode terminated, the target is r alone; after a time limit
    the value is bootstrapped. Double learning selects a' by Q and evaluates it by Q'. A dueling
    network is an option of ``QNetwork``.

    Batch: a ``ReplayBlock``, whose updates count as one step. With priorities in the data, w are
    the importance weights of its samples, and their TD errors become the new priorities.

    Logged and evaluated: as ``AgentObjective``, and of the last update the loss and the mean of
    the values.

    Args:
        network: from the sizes of an environment to the values of its actions.
        n_step: rewards of a target.
        double: select a' by Q.
        target_period: updates of Q for each of Q'.
        tau: share of the way that Q' moves then; 1 makes it Q.
        epsilon: share of random actions at the end of exploration; it starts at 1.
        exploration: share of the run in which it falls linearly to ``epsilon``.
        loss: ``"mse"``, or ``"huber"``, whose gradient is at most 1.
    Raises:
        ValueError: a number out of range, an unknown loss, an environment with real-valued
            actions, or clipping and accumulation by the trainer.

    Source: Mnih et al. 2015, algorithm 1; van Hasselt et al. 2016, eq. 4 (double); Hessel et al.
    2018 (n steps).
    """

    learns_from = "replay"
    differentiated = ("_losses",)
    recorded = ("greedy",)
    network: nn.Module

    def __init__(
        self,
        network: QNetworkFactory = QNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        *,
        n_step: int = 1,
        double: bool = False,
        target_period: int = 50,
        tau: float = 1.0,
        epsilon: float = 0.05,
        exploration: float = 0.5,
        loss: Literal["mse", "huber"] = "mse",
        **options: Any,
    ) -> None:
        super().__init__(optimizer, **options)
        self.n_step = at_least_one("n_step", n_step)
        self.target_period = at_least_one("target_period", target_period)
        self.tau, self.epsilon = probability("tau", tau), probability("epsilon", epsilon)
        self.exploration = probability("exploration", exploration)
        choose_from("loss", loss, LOSSES)
        self.network_factory, self.double_q, self.error_loss = network, double, LOSSES[loss]

    def build(self, spec: EnvironmentSpec) -> None:
        if not spec.num_actions:
            take = "DDPG, TD3 or SAC"
            raise self.other_actions(spec, "discrete actions", "are real-valued", take)
        sizes = {**observation_sizes(spec), "num_actions": spec.num_actions}
        self.build_network(sizes, "observation")
        self.target = frozen_copy(self.network)

    def forward(self, observation: Tensor) -> Tensor:
        """Values ``[B, num_actions]`` of ``observation [B, *shape]``."""
        return self.network(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: the best, or a share ``epsilon`` at random."""
        if deterministic:
            return self.greedy(observations)
        return self._epsilon_greedy(observations, self.epsilon)

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions for ``observations [N, *shape]``, fewer of them at random as the run goes on."""
        share = progress / self.exploration if self.exploration else 1.0
        epsilon = 1.0 + (self.epsilon - 1.0) * min(share, 1.0)
        return self._epsilon_greedy(observations, epsilon)

    def greedy(self, observations: Tensor) -> Tensor:
        """The best actions ``[N]`` for ``observations [N, *shape]``."""
        return self.network(observations).argmax(-1)

    def _epsilon_greedy(self, observations: Tensor, epsilon: float) -> Tensor:
        shape, device = (len(observations),), observations.device
        # With few environments often all or none act at random: only what is needed is computed.
        random = [draw < epsilon for draw in torch.rand(shape).tolist()]
        if not any(random):
            return self.greedy(observations)
        actions = torch.randint(self.spec.num_actions, shape, device=device)
        if all(random):
            return actions
        return torch.where(torch.tensor(random, device=device), actions, self.greedy(observations))

    def training_step(self, block: ReplayBlock, batch_idx: int) -> None:
        with self.one_step() as optimizers:
            for number, batch in enumerate(block, 1):
                losses = self.descend(optimizers, self._losses, batch)
                block.update_priorities(batch, losses["errors"])
                if (self.global_step * len(block) + number) % self.target_period == 0:
                    polyak_update_(self.target, self.network, self.tau)
        self.end_step(block, loss=losses["loss"], value=losses["value"])

    def _losses(self, batch: ReplayBatch) -> dict[str, Tensor]:
        transitions = batch.transitions
        values = self.network(transitions.observations)
        values = values.gather(-1, transitions.actions[:, None]).squeeze(-1)
        targets = self._targets(transitions)
        loss = batch.mean(self.error_loss(values, targets, reduction="none"))
        return {"loss": loss, "errors": values - targets, "value": values.mean()}

    @torch.no_grad()
    def _targets(self, transitions: Transitions) -> Tensor:
        next_values = self.target(transitions.next_observations)
        if not self.double_q:
            return transitions.targets(next_values.amax(-1))
        best = self.network(transitions.next_observations).argmax(-1, keepdim=True)
        return transitions.targets(next_values.gather(-1, best).squeeze(-1))
