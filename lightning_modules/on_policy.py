"""What objectives share that learn from rollouts of their own: acting, evaluation, steps."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple, Protocol

import torch
from lightning.pytorch.core.optimizer import LightningOptimizer, do_nothing_closure
from torch import Tensor, nn
from torch.distributions import Distribution
from torchmetrics import Metric, MetricCollection

from trellis.lightning_modules.base import Objective, plan
from trellis.lightning_modules.evaluation import BatchMean
from trellis.nn.running_scale import RunningScale
from trellis.spec import EnvironmentSpec


class ActorCriticFactory(Protocol):
    """Builds a policy with a value from the sizes of an environment; called by keyword.

    The network has ``forward(observation) -> (distribution, value)``, ``policy(observation)`` and
    ``value(observation)``; a distribution has ``sample``, ``mode``, ``log_prob`` and
    ``entropy``. Either ``num_actions`` or ``action_dim`` is 0.
    """

    def __call__(
        self,
        observation_shape: tuple[int, ...],
        num_actions: int = 0,
        action_dim: int = 0,
        *,
        num_observations: int = 0,
    ) -> nn.Module: ...


class Experience(NamedTuple):
    """The steps of a rollout that there is something to learn from, in one row.

    Args:
        observations: ``[B, *shape]``.
        actions: ``[B]`` or ``[B, A]``.
        advantages: ``[B]``.
        returns: targets of the values ``[B]``.
        values: when they were taken ``[B]``.
        log_prob: of the actions when they were taken ``[B]``; a sum over the entries of a real
            action.
    """

    observations: Tensor
    actions: Tensor
    advantages: Tensor
    returns: Tensor
    values: Tensor
    log_prob: Tensor

    def rows(self, indices: Tensor) -> "Experience":
        """Some of the steps."""
        return Experience(*(field.index_select(0, indices) for field in self))


def sizes(spec: EnvironmentSpec) -> dict[str, Any]:
    """What an ``ActorCriticFactory`` is called with."""
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


def episode_metrics() -> Mapping[str, Metric]:
    """What evaluation episodes are measured by."""
    return {"return": BatchMean(), "episode_length": BatchMean()}


def count_episodes(metrics: MetricCollection, episodes: Any) -> None:
    """Count the episodes of an evaluation batch.

    Args:
        metrics: from ``episode_metrics``.
        episodes: with ``returns`` and ``lengths``, both ``[E]``.
    """
    returns, lengths = episodes.returns, episodes.lengths
    metrics["return"].update(returns.mean(), len(returns))
    metrics["episode_length"].update(lengths.float().mean(), len(lengths))


def refuse_trainer_options(objective: Objective) -> None:
    """Refuse clipping and accumulation by the trainer, which knows one step a batch.

    Raises:
        ValueError: either is asked for; says what to give instead.
    """
    name, trainer = type(objective).__name__, objective.trainer
    if clip := trainer.gradient_clip_val:
        raise ValueError(
            f"gradient_clip_val={clip}: {name} makes its own steps; give the model "
            f"max_grad_norm={clip} instead"
        )
    if trainer.accumulate_grad_batches != 1:
        raise ValueError(
            f"accumulate_grad_batches={trainer.accumulate_grad_batches}: {name} learns from each "
            f"rollout; give the data more num_steps instead"
        )


def configure(objective: Objective) -> Any:
    """The optimiser, and a scheduler that ``end_rollout`` steps once a rollout."""
    optimizer = objective.optimizer(objective.parameters())
    if objective.lr_scheduler is None:
        return optimizer
    scheduler = objective.lr_scheduler(optimizer)
    if hasattr(scheduler, "monitor"):
        raise ValueError("lr_scheduler: ReduceLROnPlateau has no place between rollouts")
    plan(scheduler, lambda: _planned_rollouts(objective))
    return [optimizer], [{"scheduler": scheduler}]


def _planned_rollouts(objective: Objective) -> int:
    trainer = objective.trainer
    trainer.fit_loop.setup_data()  # or else nobody knows how many there are
    # The data end after one epoch, whatever max_epochs is.
    return int(min(trainer.estimated_stepping_batches, trainer.num_training_batches))


@contextmanager
def one_step(objective: Objective) -> Iterator[LightningOptimizer]:
    """The optimiser; all its steps in here are counted as one.

    ``global_step``, ``max_steps``, checkpoints and averages of weights count rollouts.
    """
    optimizer: LightningOptimizer = objective.optimizers()  # type: ignore[assignment]
    before, after = optimizer._on_before_step, optimizer._on_after_step
    optimizer._on_before_step = optimizer._on_after_step = do_nothing_closure
    try:
        yield optimizer
    finally:
        optimizer._on_before_step, optimizer._on_after_step = before, after
    before()
    after()


def step(objective: Objective, optimizer: LightningOptimizer, loss: Tensor) -> None:
    """One step of the optimiser along the gradient of ``loss``."""
    optimizer.zero_grad()
    objective.manual_backward(loss)
    optimizer.step()


def end_rollout(objective: Objective, rollout: Any, **values: Tensor) -> None:
    """Step the scheduler, log ``values`` and how the last finished episodes went.

    Each ``RunningScale`` in the objective counts the observations of the rollout.
    """
    for module in objective.modules():
        if isinstance(module, RunningScale):
            module.update(rollout.observations[:-1].flatten(0, 1))
    recent_returns = rollout.recent_returns
    scheduler: Any = objective.lr_schedulers()
    if scheduler is not None:
        scheduler.step()
    if len(recent_returns):
        values = {"return": recent_returns.mean(), **values}
    objective.log_train(**values)


def flat(rollout: Any, *others: Tensor) -> Experience:
    """The steps of ``rollout`` and of tensors ``[T, N]`` beside it that are no steps of reset.

    Args:
        rollout: of the data module.
        others: advantages, returns, values and log_prob.
    """
    steps = [rollout.observations[:-1], rollout.actions, *others]
    keep = rollout.mask.flatten().nonzero().squeeze(1)
    if len(keep) == rollout.mask.numel():
        return Experience(*(field.flatten(0, 1) for field in steps))
    return Experience(*(field.flatten(0, 1).index_select(0, keep) for field in steps))


def judge(network: nn.Module, rollout: Any) -> tuple[Tensor, Tensor, Tensor]:
    """What the network that acted says of the steps of a rollout, without gradients.

    Returns:
        values ``[T, N]``, values of what followed ``[T, N]``, log_prob of the actions ``[T, N]``.
    """
    steps, width = rollout.rewards.shape
    with torch.no_grad():
        distribution, values = network(rollout.observations[:-1].flatten(0, 1))
        log_prob = distribution.log_prob(rollout.actions.flatten(0, 1)).view(steps, width)
        values = values.view(steps, width)
        last = network.value(rollout.observations[-1])  # type: ignore[operator]
    return values, torch.cat([values[1:], last[None]]), log_prob
