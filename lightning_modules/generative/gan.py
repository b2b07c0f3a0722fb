"""Generative adversarial networks: two networks, two optimisers, one count of steps."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from lightning.pytorch.core.optimizer import LightningOptimizer
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import Metric

from trellis.checks import at_least_one, not_negative, positive
from trellis.generative.adversarial import (
    AdversarialLoss,
    NonSaturatingLoss,
    clip_weights_,
    gradient_penalty,
    instance_noise,
    interpolates,
)
from trellis.labels import balanced_labels
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.lightning_private import do_not_count
from trellis.lightning_modules.engine.objective import (
    Objective,
    Stage,
    build_network,
    clip_gradients,
    frozen,
    plan,
    steps_often,
)
from trellis.networks.generative.gan import MLPDiscriminator, MLPGenerator
from trellis.spec import TensorSpec


class ShapeFactory(Protocol):
    """Builds a generator or a discriminator from the shape of an example; called by keyword.

    A generator has ``latent_dim`` and ``forward(z [B, latent_dim], y) -> x [B, *shape]``, a
    discriminator ``forward(x, y) -> logits [B]``. ``num_classes`` and labels ``y [B]`` are given
    by a conditional objective only.
    """

    def __call__(self, shape: tuple[int, ...], num_classes: int = 0) -> nn.Module: ...


class GAN(Objective):
    """A generator learns to draw what a discriminator cannot tell from the data.

    Batch: ``(x, y)`` with examples ``x [B, *shape]``; their labels ``y [B]`` are used by a
    conditional pair alone. Every batch trains the discriminator, every ``critic_steps``-th batch
    the generator too, on the same generated examples. A step is a step of the generator:
    ``global_step``, ``max_steps``, schedules, checkpoints and averages of weights count them. The
    steps on the axis of a logger are batches, as everywhere.

    Evaluation reports the discriminator's mean logits of real and of generated examples, and
    ``val/generator_steps``: the best state is the newest unless ``BestAndLastCheckpoint`` is given
    another monitor, for a loss of either network says little about the samples.

    Args:
        generator: from ``(shape, [num_classes])`` to a module ``(z, [y]) -> x``.
        discriminator: from ``(shape, [num_classes])`` to a module ``(x, [y]) -> logits``.
        generator_optimizer: from the generator's parameters to an optimiser.
        discriminator_optimizer: from the discriminator's parameters to an optimiser.
        lr_scheduler: from an optimiser to a scheduler, one for each of the two; a ``Schedule``
            steps with the generator, others once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
        loss: makes the two losses.
        critic_steps: batches for each step of the generator.
        gradient_penalty: weight of the discriminator's gradient penalty on interpolates.
        weight_clip: the discriminator's weights are kept in ``[-weight_clip, weight_clip]``;
            ``None`` lets them grow.
        instance_noise: standard deviation of what is added to all the discriminator sees.
        max_grad_norm: gradients of each network are scaled down to this norm; ``None`` leaves
            them. Takes the place of the trainer's ``gradient_clip_val``.
        conditional: give both networks the labels.
    Raises:
        ValueError: a count below 1, a weight below 0, or clipping and accumulation by the
            trainer, which would not know whose gradients they are.

    Source: Goodfellow et al. 2014; Arjovsky et al. 2017 and Gulrajani et al. 2017 (critic steps,
    clipped weights, gradient penalty); Mirza and Osindero 2014 (conditional).
    """

    spec_type = TensorSpec
    monitor = "val/generator_steps"
    monitor_mode = "max"
    generator: Any  # with latent_dim, which nn.Module does not declare
    discriminator: nn.Module

    def __init__(
        self,
        generator: ShapeFactory = MLPGenerator,
        discriminator: ShapeFactory = MLPDiscriminator,
        generator_optimizer: OptimizerCallable = torch.optim.Adam,
        discriminator_optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        loss: Callable[[], AdversarialLoss] = NonSaturatingLoss,
        critic_steps: int = 1,
        gradient_penalty: float = 0.0,
        weight_clip: float | None = None,
        instance_noise: float = 0.0,
        max_grad_norm: float | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(generator_optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.critic_steps = at_least_one("critic_steps", critic_steps)
        self.gradient_penalty = not_negative("gradient_penalty", gradient_penalty)
        self.instance_noise = not_negative("instance_noise", instance_noise)
        self.weight_clip = positive("weight_clip", weight_clip)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.save_hyperparameters()
        self.factories = {"generator": generator, "discriminator": discriminator}
        self.optimizer_factories = (generator_optimizer, discriminator_optimizer)
        self.loss, self.conditional = loss(), conditional
        self._critic_steps = 0  # since the generator's last step

    def build(self, spec: TensorSpec) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape}
        labels = ("y",) if self.conditional else ()
        if self.conditional:
            sizes["num_classes"] = spec.out_channels
        for name, first in (("generator", "z"), ("discriminator", "x")):
            network = build_network(self.factories[name], sizes, first, *labels, objective=self)
            setattr(self, name, network)
        if not isinstance(getattr(self.generator, "latent_dim", None), int):
            raise ValueError(
                f"GAN: {type(self.generator).__name__} has no latent_dim, the width of the noise "
                f"it takes: choose a generator"
            )

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return {"real_logits": BatchMean(), "fake_logits": BatchMean()}

    def configure_optimizers(self) -> Any:
        networks = (self.generator, self.discriminator)
        optimizers = [
            make(network.parameters())
            for make, network in zip(self.optimizer_factories, networks, strict=True)
        ]
        if self.lr_scheduler is None:
            return optimizers
        schedulers = [self.lr_scheduler(optimizer) for optimizer in optimizers]
        for scheduler in schedulers:
            plan(scheduler, self._planned_steps)
        return optimizers, [{"scheduler": scheduler} for scheduler in schedulers]

    def _planned_steps(self) -> int:
        """Steps of the generator in the whole run."""
        batches = int(self.trainer.estimated_stepping_batches)  # max_steps, if these come first
        if self.trainer.max_epochs in (None, -1):
            return batches
        epochs = self.trainer.num_training_batches * self.trainer.max_epochs
        return int(min(batches, epochs / self.critic_steps))

    def setup(self, stage: str) -> None:
        self._critic_steps = 0

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Examples ``[B, *shape]`` from noise ``z [B, latent_dim]``."""
        return self.generator(z) if y is None else self.generator(z, y)

    def sample(self, num_samples: int, y: Tensor | None = None) -> Tensor:
        """Draw examples ``[num_samples, *shape]``.

        Args:
            num_samples: how many.
            y: labels ``[num_samples]`` of a conditional pair; ``None`` takes its classes in turn.
        """
        if y is not None and not self.conditional:
            raise ValueError("y was given, but this GAN is not conditional: leave y out")
        if y is None and self.conditional:
            y = balanced_labels(num_samples, self.spec.out_channels, self.device)
        return self(self._noise(num_samples), y)

    def _noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        width = self.generator.latent_dim
        if generator is not None:
            return torch.randn(count, width, generator=generator).to(self.device)
        return torch.randn(count, width, device=self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        labels = (y,) if self.conditional else ()
        both = self._critic_steps + 1 >= self.critic_steps
        with torch.set_grad_enabled(both):
            fake = self(self._noise(len(x)), *labels)
        losses = {"discriminator_loss": self._discriminator_step(x, fake.detach(), labels)}
        if both:
            losses["generator_loss"] = self._generator_step(fake, labels)
        self._step_schedulers(both)
        self._critic_steps = 0 if both else self._critic_steps + 1
        self.log_train(**losses)

    def _judged(self, x: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        return self.discriminator(instance_noise(x, self.instance_noise), *labels)

    def _discriminator_step(
        self, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]
    ) -> Tensor:
        loss = self.loss.discriminator(self._judged(real, labels), self._judged(fake, labels))
        if self.gradient_penalty:
            slope = gradient_penalty(
                lambda points: self.discriminator(points, *labels), interpolates(real, fake)
            )
            loss = loss + self.gradient_penalty * slope
        _, optimizer = self._optimizers()
        # Lightning would count this step too, and stop, save and average at half the way.
        do_not_count(optimizer)
        self._step(optimizer, loss)
        if self.weight_clip is not None:
            clip_weights_(self.discriminator.parameters(), self.weight_clip)
        return loss

    def _generator_step(self, fake: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        with frozen(self.discriminator):
            loss = self.loss.generator(self._judged(fake, labels))
            self._step(self._optimizers()[0], loss)
        return loss

    def _optimizers(self) -> list[LightningOptimizer]:
        return self.optimizers()  # type: ignore[return-value]

    def _step(self, optimizer: LightningOptimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here a scaler has scaled back, and FiniteGuard has seen whose gradient is not finite.
        clip_gradients(optimizer, self.max_grad_norm)

    def _schedulers(self) -> list[Any]:
        return self.lr_schedulers() or []  # type: ignore[return-value]

    def _step_schedulers(self, generator_stepped: bool) -> None:
        # An epoch's schedulers step before what follows its last batch, as Lightning's own do:
        # then checkpoints of the validation and of the end of the epoch agree.
        for scheduler in self._schedulers():
            if hasattr(scheduler, "monitor"):
                continue  # until it has been logged
            if generator_stepped if steps_often(scheduler) else self.trainer.is_last_batch:
                scheduler.step()

    def on_train_epoch_end(self) -> None:
        for scheduler in self._schedulers():
            if hasattr(scheduler, "monitor"):  # Lightning's ReduceLROnPlateau
                scheduler.step(self.trainer.callback_metrics[scheduler.monitor])

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        labels, metrics = (y,) if self.conditional else (), self.evaluated(stage)
        # The same noise in each evaluation, and none of what training draws from.
        seed = int(metrics["real_logits"].count)  # type: ignore[arg-type]
        fake = self(self._noise(len(x), torch.Generator().manual_seed(seed)), *labels)
        metrics["real_logits"].update(self.discriminator(x, *labels).mean(), len(x))
        metrics["fake_logits"].update(self.discriminator(fake, *labels).mean(), len(x))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit":
            self.log("val/generator_steps", float(self.trainer.global_step), sync_dist=True)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """As many samples as the batch has examples, of their classes in a conditional pair."""
        x, y = batch
        return self.sample(len(x), y if self.conditional else None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["trellis"]["critic_steps"] = self._critic_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._critic_steps = checkpoint.get("trellis", {}).get("critic_steps", 0)
