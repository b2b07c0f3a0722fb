"""The base of the objectives of agents: acting, evaluation by episodes, updates counted as one."""

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any, ClassVar, Literal

import lightning as L
import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor
from torch.distributions import Distribution
from torch.optim import Optimizer
from torchmetrics import Metric

from trellis.checks import positive, probability
from trellis.lightning_modules.engine.compiling import CompiledLoss
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.lightning_private import counted_as_one, take_step
from trellis.lightning_modules.engine.objective import Objective, Stage, plan
from trellis.lightning_modules.engine.own_steps import clip_gradients
from trellis.rl.collector import Rollout
from trellis.rl.replay_block import ReplayBlock
from trellis.rl.reward_scale import RewardScale
from trellis.rl.running_scale import RunningScale
from trellis.rl.spaces import bytes_to_float
from trellis.rl.vector_environments import Episodes
from trellis.spec import EnvironmentSpec


class AgentObjective(Objective):
    """Base of the agents, which act in an environment and learn from what happened.

    A subclass sets ``learns_from``, defines ``build`` (its networks) and ``act``, and updates its
    networks in ``training_step``. It passes ``**options`` on to this class, which documents them::

        with self.one_step() as optimizers:
            losses = self.descend(optimizers, self._losses, batch)
        self.end_step(batch, **losses)

    Its data module calls ``act`` and ``explore`` and reads ``learns_from``, ``gamma``, ``n_step``,
    ``spec``, ``device`` and ``dtype``, nothing else.

    All updates on a batch count as one step: ``global_step``, ``max_steps`` and schedules count
    batches. A run is one pass over the data, whatever ``max_epochs`` is. Logged with each batch:
    ``train/env_steps``, steps of the environments so far, and ``train/return``, the mean of the
    last 100 finished episodes. Evaluation: ``val/return`` and ``val/episode_length`` of whole
    episodes with deterministic actions. Prediction: return and length of each episode of the test.

    Args:
        optimizer: from parameters to an optimiser.
        lr_scheduler: from an optimiser to a scheduler, stepped once a batch.
        spec: sizes of the environment; ``None`` asks the data module.
        gamma: discount per step, in [0, 1].
        max_grad_norm: gradients of each optimiser are scaled down to this norm; ``None`` leaves
            them.
    Raises:
        ValueError: a number out of range, clipping and accumulation by the trainer, parameters of
            16 bits; in ``fit`` a ``RewardScale`` with another discount.
    """

    # Rollouts of its current policy, each used once, or a replay buffer.
    learns_from: ClassVar[Literal["rollouts", "replay"]]
    spec_type: ClassVar[type] = EnvironmentSpec
    # Called for each step of the environments, and what compiling makes cheap; see ``Recorded``.
    recorded: ClassVar[tuple[str, ...]] = ("act",)
    monitor: ClassVar[str] = "val/return"
    monitor_mode: ClassVar[Literal["min", "max"]] = "max"
    n_step: int = 1  # rewards of a transition in the replay buffer
    spec: EnvironmentSpec
    network: Any  # if it has several, the subclass makes their optimisers

    def __init__(
        self,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: EnvironmentSpec | None = None,
        *,
        gamma: float = 0.99,
        max_grad_norm: float | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.gamma = probability("gamma", gamma)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)

    @abstractmethod
    def act(self, observations: Tensor, deterministic: bool = False) -> Tensor:
        """Actions ``[N]`` or ``[N, A]`` for ``observations [N, *shape]``, on its device.

        Args:
            observations: of N environments; of bytes the floats they stand for, as in batches.
            deterministic: the best actions by what it knows, as in evaluation; else as it acts in
                training.
        """

    def explore(self, observations: Tensor, progress: float) -> Tensor:
        """Actions to fill a replay buffer with; those of ``act`` unless it changes in training.

        Args:
            observations: of N environments, ``[N, *shape]``.
            progress: share of the run's steps that are made, in [0, 1].
        """
        return self.act(observations)

    def other_actions(self, spec: EnvironmentSpec, learns: str, are: str, take: str) -> ValueError:
        """The error about an environment with actions that the agent cannot learn."""
        actions = f"those of {spec.environment} {are}"
        return ValueError(f"{type(self).__name__} learns {learns}; {actions}: take {take}")

    def metrics(self, spec: EnvironmentSpec) -> Mapping[str, Metric]:
        return {"return": BatchMean(), "episode_length": BatchMean()}

    def evaluate(self, batch: Episodes, stage: Stage) -> None:
        returns, lengths = batch.returns, batch.lengths
        metrics = self.evaluated(stage)
        metrics["return"].update(returns.mean(), len(returns))
        metrics["episode_length"].update(lengths.float().mean(), len(lengths))

    def predict_step(self, batch: Episodes, batch_idx: int) -> dict[str, Tensor]:
        """Return and length of each episode of the test, ``[E]`` each."""
        return {"return": batch.returns, "length": batch.lengths}

    def configure_callbacks(self) -> list[L.Callback]:
        if (precision := str(self.trainer.precision)) in ("bf16-true", "16-true"):
            raise ValueError(
                f"precision={precision}: the small updates of {type(self).__name__} and of target "
                f"networks round to nothing; give precision={precision.replace('true', 'mixed')}"
            )
        return super().configure_callbacks()

    def on_fit_start(self) -> None:
        super().on_fit_start()
        for part in self.modules():
            if isinstance(part, RewardScale) and part.gamma != self.gamma:
                raise ValueError(
                    f"RewardScale(gamma={part.gamma}) in {type(self).__name__}(gamma="
                    f"{self.gamma}): rewards are scaled by their discounted sums, give both the "
                    f"same gamma"
                )

    def on_train_start(self) -> None:
        if self.current_epoch > 0:  # resumed after its last batch
            self.trainer.should_stop = True

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        # Before the last batch, not after it: so it is validated like the end of an epoch.
        if batch_idx + 1 >= self.trainer.num_training_batches:
            self.trainer.should_stop = True

    def configure_optimizers(self) -> Any:
        return self.scheduled([self.optimizer(self.network.parameters())])

    def scheduled(self, optimizers: Sequence[Optimizer]) -> Any:
        """For ``configure_optimizers``: each optimiser with a scheduler, if there are any."""
        if self.lr_scheduler is None:
            return list(optimizers)
        schedulers = [self.lr_scheduler(optimizer) for optimizer in optimizers]
        for scheduler in schedulers:
            if hasattr(scheduler, "monitor"):
                raise ValueError(
                    "lr_scheduler: an agent steps it with each batch, and ReduceLROnPlateau waits "
                    "for a validation: give another"
                )
            plan(scheduler, self._planned_batches)
        return list(optimizers), [{"scheduler": scheduler} for scheduler in schedulers]

    def _planned_batches(self) -> int:
        trainer = self.trainer
        trainer.fit_loop.setup_data()  # before that the number of batches is unknown
        # A run is one epoch, whatever max_epochs is.
        return int(min(trainer.estimated_stepping_batches, trainer.num_training_batches))

    @contextmanager
    def one_step(self) -> Iterator[list[LightningOptimizer]]:
        """The optimisers; all their steps in here count as one step of the trainer.

        ``global_step``, ``max_steps``, checkpoints and averages of weights count batches.
        """
        optimizers: Any = self.optimizers()
        optimizers = optimizers if isinstance(optimizers, list) else [optimizers]
        with counted_as_one(optimizers):
            yield optimizers

    def step(self, optimizers: Sequence[LightningOptimizer], loss: Tensor) -> None:
        """One step of each optimiser along the gradient of ``loss``."""
        for each in optimizers:
            self.optimizer_zero_grad(self.current_epoch, 0, each.optimizer)
        self.manual_backward(loss)
        for each in optimizers:
            take_step(self, each)

    def descend(
        self,
        optimizers: Sequence[LightningOptimizer],
        losses: Callable[..., dict[str, Tensor]],
        *inputs: Any,
    ) -> dict[str, Tensor]:
        """One step of each optimiser along the gradient of the loss of ``inputs``.

        Args:
            optimizers: of the parameters that learn.
            losses: a method of this objective that it names in ``differentiated``: tensors by
                name, among them ``"loss"``. Compiled, it is one graph with its gradients.
            inputs: of ``losses``.
        Returns:
            what ``losses`` returned before the step, detached.
        """
        if isinstance(losses, CompiledLoss):
            groups = [group for each in optimizers for group in each.param_groups]
            parameters = [p for group in groups for p in group["params"] if p.requires_grad]
            values = losses.backward(parameters, *inputs)
            for each in optimizers:
                take_step(self, each)
            return values
        values = losses(*inputs)
        self.step(optimizers, values["loss"])
        return {name: value.detach() for name, value in values.items()}

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Callbacks come first: FiniteGuard has seen the gradients as they were.
        clip_gradients(optimizer, self.max_grad_norm)

    @cached_property
    def _running_scales(self) -> list[RunningScale]:
        """Of observations, in any of its networks; looked up once."""
        return [part for part in self.modules() if isinstance(part, RunningScale)]

    def end_step(self, batch: Rollout | ReplayBlock, **values: Tensor) -> None:
        """Update the statistics of observations, step the schedulers and log.

        Args:
            batch: that was learned from.
            values: to be logged, beside ``env_steps`` and ``return``.
        """
        for scale in self._running_scales:
            seen = bytes_to_float(batch.observations[:-1], self.spec.observation_shape)
            scale.update(seen.flatten(0, 1).flatten(1))
        schedulers: Any = self.lr_schedulers() or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()
        if len(batch.recent_returns):
            values = {"return": batch.recent_returns.mean(), **values}
        self.log_train(env_steps=batch.env_steps.float(), **values)


def observation_sizes(spec: EnvironmentSpec) -> dict[str, Any]:
    """What each network of an agent is built from, beside the sizes of actions."""
    return {
        "observation_shape": spec.observation_shape,
        "num_observations": spec.num_observations,
    }


def choose(distribution: Distribution, deterministic: bool) -> Tensor:
    """An action for each observation: sampled, or the mode.

    >>> choose(torch.distributions.Categorical(torch.tensor([[0.1, 0.9]])), deterministic=True)
    tensor([1])
    """
    return distribution.mode if deterministic else distribution.sample()
