"""What objectives of agents share: evaluation in whole episodes, many steps counted as one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Literal

from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.distributions import Distribution
from torch.optim import Optimizer
from torchmetrics import Metric

from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.lightning_private import counted_as_one
from trellis.lightning_modules.engine.objective import Objective, Stage, clip_gradients, plan
from trellis.rl.running_scale import RunningScale
from trellis.spec import EnvironmentSpec


class Agent:
    """A mixin beside ``Objective``: ``class PPO(Agent, Objective)``.

    Evaluation: ``val/return`` and ``val/episode_length`` of whole episodes with deterministic
    actions. Logged with each batch: ``train/env_steps``, steps of the environments so far, and
    ``train/return``, the mean of the last 100 finished episodes. A subclass has
    ``act(observations, deterministic=False) -> actions``, which data modules call, and sets
    ``automatic_optimization`` to false and ``max_grad_norm``.
    """

    spec_type: ClassVar[type] = EnvironmentSpec
    monitor: ClassVar[str] = "val/return"
    monitor_mode: ClassVar[Literal["min", "max"]] = "max"
    max_grad_norm: float | None = None
    gamma: float
    n_step: int = 1  # rewards that a transition of a replay memory spans

    @cached_property
    def running_scales(self: Any) -> list[RunningScale]:
        """Those of observations in its networks, looked for once."""
        return [part for part in self.modules() if isinstance(part, RunningScale)]

    def metrics(self, spec: EnvironmentSpec) -> Mapping[str, Metric]:
        return {"return": BatchMean(), "episode_length": BatchMean()}

    def evaluate(self: Any, batch: Any, stage: Stage) -> None:
        returns, lengths = batch.returns, batch.lengths
        metrics = self.evaluated(stage)
        metrics["return"].update(returns.mean(), len(returns))
        metrics["episode_length"].update(lengths.float().mean(), len(lengths))

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here FiniteGuard has seen whose gradient is not finite.
        clip_gradients(optimizer, self.max_grad_norm)


def sizes(spec: EnvironmentSpec) -> dict[str, Any]:
    """What a factory of policies is called with; either ``num_actions`` or ``action_dim`` is 0."""
    return {
        "observation_shape": spec.observation_shape,
        "num_observations": spec.num_observations,
        "num_actions": spec.num_actions,
        "action_dim": len(spec.action_low),
    }


def choose(distribution: Distribution, deterministic: bool) -> Tensor:
    """An action for each observation: drawn, or the most probable.

    >>> choose(torch.distributions.Categorical(torch.tensor([[0.1, 0.9]])), deterministic=True)
    tensor([1])
    """
    return distribution.mode if deterministic else distribution.sample()


def scheduled(objective: Objective, optimizers: Sequence[Optimizer]) -> Any:
    """The optimisers, each with a scheduler that ``end_step`` steps once a batch."""
    if objective.lr_scheduler is None:
        return list(optimizers)
    schedulers = [objective.lr_scheduler(optimizer) for optimizer in optimizers]
    for scheduler in schedulers:
        if hasattr(scheduler, "monitor"):
            raise ValueError("lr_scheduler: ReduceLROnPlateau has no place between rollouts")
        plan(scheduler, lambda: _planned_batches(objective))
    return list(optimizers), [{"scheduler": scheduler} for scheduler in schedulers]


def _planned_batches(objective: Objective) -> int:
    trainer = objective.trainer
    trainer.fit_loop.setup_data()  # or else nobody knows how many there are
    # The data end after one epoch, whatever max_epochs is.
    return int(min(trainer.estimated_stepping_batches, trainer.num_training_batches))


@contextmanager
def one_step(objective: Objective) -> Iterator[list[LightningOptimizer]]:
    """The optimisers; all their steps in here are counted as one.

    ``global_step``, ``max_steps``, checkpoints and averages of weights count batches.
    """
    found: Any = objective.optimizers()
    optimizers: list[LightningOptimizer] = found if isinstance(found, list) else [found]
    with counted_as_one(optimizers):
        yield optimizers


def step(objective: Objective, optimizer: LightningOptimizer, loss: Tensor) -> None:
    """One step of the optimiser along the gradient of ``loss``."""
    objective.optimizer_zero_grad(objective.current_epoch, 0, optimizer.optimizer)
    objective.manual_backward(loss)
    optimizer.step()


def end_step(objective: Any, batch: Any, **values: Tensor) -> None:
    """Step the schedulers, log ``values``, the steps so far and how the last episodes went.

    Each ``RunningScale`` in the objective counts the observations of the batch.

    Args:
        objective: that learnt from the batch.
        batch: with ``observations [T + 1, N, *shape]``, ``recent_returns [E]``, ``env_steps``.
        values: to be logged.
    """
    for module in objective.running_scales:
        module.update(batch.observations[:-1].flatten(0, 1))
    found: Any = objective.lr_schedulers()
    for scheduler in found if isinstance(found, list) else [found] if found else []:
        scheduler.step()
    if len(batch.recent_returns):
        values = {"return": batch.recent_returns.mean(), **values}
    objective.log_train(env_steps=batch.env_steps.float(), **values)
