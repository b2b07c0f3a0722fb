"""Deep Q-learning: values of discrete actions, learnt from all that was ever done."""

from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn

from trellis.checks import at_least_one, positive, probability
from trellis.lightning_modules.engine.objective import Objective, build_network
from trellis.lightning_modules.rl.agent import Agent, end_step, one_step, scheduled, step
from trellis.networks.rl.value import QNetwork
from trellis.rl.replay import Transitions
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


class DQN(Agent, Objective):
    r"""The value of an action follows the best value of what comes after it.

    .. math:: L = \frac1B \sum_i w_i \, \ell(\delta_i), \quad
        \delta = r + \gamma^n \max_{a'} Q'(s', a') - Q(s, a)

    Q' follows Q from behind. Where an episode terminated, r stands alone; a time limit keeps what
    would have followed. Double learning chooses a' by Q and values it by Q'.

    Batch: a ``ReplayBlock``; all its updates are counted as one: ``global_step``, ``max_steps``
    and schedules count blocks. With priorities in the data the weights w are those of its draws,
    and each transition's error is reported. A dueling network is an option of ``QNetwork``.

    Logged: ``train/return``, the mean of the last 100 finished episodes, and of the last update
    the loss and the mean of the values. Evaluation: ``val/return`` and
    ``val/episode_length`` of whole episodes with the best actions.

    Args:
        network: from the sizes of an environment to the values of its actions.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler, stepped once a block.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        n_step: rewards of a target.
        double: a' is the best by Q.
        target_period: updates between two of Q'.
        tau: how far Q' goes then; 1 makes it Q.
        epsilon: share of random actions at the end of exploration; it begins with 1.
        exploration: share of the run until then, in which it falls in a straight line.
        loss: ``"mse"``, or ``"huber"``, whose gradient is cut to 1.
        max_grad_norm: gradients are scaled down to this norm; ``None`` leaves them.
    Raises:
        ValueError: a number out of range, an unknown loss, an environment with real-valued
            actions, or clipping and accumulation by the trainer.

    Source: Mnih et al. 2015, algorithm 1; van Hasselt et al. 2016, eq. 4 (double); Hessel et al.
    2018 (n steps).
    """

    network: nn.Module

    def __init__(
        self,
        network: QNetworkFactory = QNetwork,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        gamma: float = 0.99,
        n_step: int = 1,
        double: bool = False,
        target_period: int = 50,
        tau: float = 1.0,
        epsilon: float = 0.05,
        exploration: float = 0.5,
        loss: Literal["mse", "huber"] = "mse",
        max_grad_norm: float | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma, self.n_step = probability("gamma", gamma), at_least_one("n_step", n_step)
        self.target_period = at_least_one("target_period", target_period)
        self.tau, self.epsilon = probability("tau", tau), probability("epsilon", epsilon)
        self.exploration = probability("exploration", exploration)
        if loss not in LOSSES:
            raise ValueError(f"loss={loss!r}: choose from {', '.join(LOSSES)}")
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.save_hyperparameters()
        self.network_factory, self.double_q, self.loss = network, double, LOSSES[loss]

    def build(self, spec: EnvironmentSpec) -> None:
        if not spec.num_actions:
            raise ValueError(
                f"DQN compares discrete actions; those of {spec.environment} are real numbers: "
                f"take DDPG, TD3 or SAC"
            )
        sizes: dict[str, Any] = {
            "observation_shape": spec.observation_shape,
            "num_observations": spec.num_observations,
            "num_actions": spec.num_actions,
        }
        self.network = build_network(self.network_factory, sizes, "observation", objective=self)
        self.target = frozen_copy(self.network)

    def configure_optimizers(self) -> Any:
        return scheduled(self, [self.optimizer(self.network.parameters())])

    def forward(self, observation: Tensor) -> Tensor:
        """Values ``[B, num_actions]`` of ``observation [B, *shape]``."""
        return self.network(observation)

    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions for ``observations [N, *shape]``: the best, or a share ``epsilon`` at random."""
        if deterministic:
            return self.network(observations).argmax(-1)
        return self._disturbed(observations, self.epsilon)

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions for ``observations [N, *shape]``, the fewer at random the further the run is."""
        return self._disturbed(observations, self._epsilon(progress))

    def _epsilon(self, progress: float) -> float:
        share = progress / self.exploration if self.exploration else 1.0
        return 1.0 + (self.epsilon - 1.0) * min(share, 1.0)

    def _disturbed(self, observations: Tensor, epsilon: float) -> Tensor:
        shape, device = (len(observations),), observations.device
        by_chance = torch.rand(shape) < epsilon
        # Of one environment it is one or the other: half of the work is for naught.
        if not by_chance.any():
            return self.network(observations).argmax(-1)
        others = torch.randint(self.spec.num_actions, shape, device=device)
        if by_chance.all():
            return others
        best = self.network(observations).argmax(-1)
        return torch.where(by_chance.to(device), others, best)

    def training_step(self, block: Any, batch_idx: int) -> None:
        with one_step(self) as [optimizer]:
            for number, batch in enumerate(block, 1):
                values = self._values(batch.transitions)
                targets = self._targets(batch.transitions)
                loss = batch.mean(self.loss(values, targets, reduction="none"))
                step(self, optimizer, loss)
                block.report(batch, values - targets)
                if (self.global_step * len(block) + number) % self.target_period == 0:
                    polyak_update_(self.target, self.network, self.tau)
        end_step(self, block, loss=loss, value=values.mean())

    def _values(self, transitions: Transitions) -> Tensor:
        values = self.network(transitions.observations)
        return values.gather(-1, transitions.actions[:, None]).squeeze(-1)

    @torch.no_grad()
    def _targets(self, transitions: Transitions) -> Tensor:
        after = self.target(transitions.next_observations)
        if not self.double_q:
            return transitions.targets(after.amax(-1))
        best = self.network(transitions.next_observations).argmax(-1, keepdim=True)
        return transitions.targets(after.gather(-1, best).squeeze(-1))
