"""Generative adversarial networks, with two optimisers and one step count."""

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
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
from trellis.lightning_modules.engine.build_network import build_network
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.engine.own_steps import (
    clip_gradients,
    descend,
    frozen,
    planned_steps,
    scheduled,
    step_plateaus,
    step_schedulers,
)
from trellis.lightning_modules.generative.generative_objective import GenerativeObjective
from trellis.networks.generative.gan import MLPDiscriminator, MLPGenerator
from trellis.spec import TensorSpec


class GeneratorFactory(Protocol):
    """Builds a generator from the shape of an example; called by keyword.

    The network has ``latent_dim`` and ``forward(z [B, latent_dim], [y]) -> x [B, *shape]``. A
    conditional objective also gives ``num_classes``, and labels ``y [B]``.
    """

    def __call__(self, shape: tuple[int, ...], num_classes: int = 0) -> nn.Module: ...


class DiscriminatorFactory(Protocol):
    """Builds a discriminator from the shape of an example; called by keyword.

    The network has ``forward(x [B, *shape], [y]) -> logits [B]``. A conditional objective also
    gives ``num_classes``, and labels ``y [B]``.
    """

    def __call__(self, shape: tuple[int, ...], num_classes: int = 0) -> nn.Module: ...


class GAN(GenerativeObjective):
    """Trains a generator against a discriminator, or against a Wasserstein critic.

    Every batch trains the discriminator, every ``critic_steps``-th batch the generator too, on
    the same generated examples. Only the steps of the generator count for ``global_step``,
    ``max_steps``, schedulers, checkpoints and weight averaging. The x-axis of a logger is in
    batches, as everywhere.

    Evaluation reports the discriminator's mean logits of real and of generated examples, and
    ``val/generator_steps``. By that monitor the best checkpoint is the latest one; a loss of
    either network says little about the samples, but ``BestAndLastCheckpoint`` takes any metric.

    Args:
        generator: from ``(shape, [num_classes])`` to a module ``(z, [y]) -> x``.
        discriminator: from ``(shape, [num_classes])`` to a module ``(x, [y]) -> logits``.
        generator_optimizer: from the generator's parameters to an optimiser.
        discriminator_optimizer: from the discriminator's parameters to an optimiser.
        lr_scheduler: from an optimiser to a learning rate scheduler, one for each of the two. See
            ``Objective``; both are stepped with the generator.
        loss: builds the two losses.
        critic_steps: batches for each step of the generator.
        gradient_penalty: weight of the discriminator's gradient penalty on interpolates.
        weight_clip: clip the discriminator's weights to ``[-weight_clip, weight_clip]``; ``None``
            does not clip them.
        instance_noise: standard deviation of the noise added to all inputs of the discriminator.
        max_grad_norm: clip the gradients of each network to this norm; ``None`` does not clip
            them. Replaces the trainer's ``gradient_clip_val``.
    Raises:
        ValueError: a count below 1, a negative weight, ``conditional`` with data without classes,
            or gradient clipping or accumulation by the trainer, which assume one optimiser.

    Source: Goodfellow et al. 2014; Arjovsky et al. 2017 and Gulrajani et al. 2017 (critic steps,
    weight clipping, gradient penalty); Mirza and Osindero 2014 (conditional).
    """

    monitor = "val/generator_steps"
    monitor_mode = "max"
    partial_losses = True
    generator: Any  # with latent_dim, which nn.Module does not declare
    discriminator: nn.Module

    def __init__(
        self,
        generator: GeneratorFactory = MLPGenerator,
        discriminator: DiscriminatorFactory = MLPDiscriminator,
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
        super().__init__(generator_optimizer, lr_scheduler, spec, conditional)
        self.automatic_optimization = False
        self.critic_steps = at_least_one("critic_steps", critic_steps)
        self.gradient_penalty = not_negative("gradient_penalty", gradient_penalty)
        self.instance_noise = not_negative("instance_noise", instance_noise)
        self.weight_clip = positive("weight_clip", weight_clip)
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.factories = {"generator": generator, "discriminator": discriminator}
        self.optimizer_factories = (generator_optimizer, discriminator_optimizer)
        self.adversarial_loss = loss()
        self._critic_steps = 0  # since the generator's last step

    def build(self, spec: TensorSpec) -> None:
        sizes, labels = self.sizes(spec), ("y",) if self.conditional else ()
        for name, first in (("generator", "z"), ("discriminator", "x")):
            network = build_network(self.factories[name], sizes, first, *labels, objective=self)
            setattr(self, name, network)
        if not isinstance(getattr(self.generator, "latent_dim", None), int):
            raise ValueError(
                f"GAN: {type(self.generator).__name__} has no latent_dim, the width of its noise: "
                f"choose a generator"
            )

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return {"real_logits": BatchMean(), "fake_logits": BatchMean()}

    def configure_optimizers(self) -> Any:
        networks = (self.generator, self.discriminator)
        optimizers = [
            make(network.parameters())
            for make, network in zip(self.optimizer_factories, networks, strict=True)
        ]
        return scheduled(
            optimizers,
            self.lr_scheduler,
            lambda: planned_steps(self.trainer, self.critic_steps),
        )

    def setup(self, stage: str) -> None:
        self._critic_steps = 0

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Examples ``[B, *shape]`` from noise ``z [B, latent_dim]``."""
        return self.generator(z) if y is None else self.generator(z, y)

    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """See ``GenerativeObjective``."""
        return self(self._noise(num_samples, generator), y)

    def _noise(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        width = self.generator.latent_dim
        if generator is not None:
            return torch.randn(count, width, generator=generator).to(self.device)
        return torch.randn(count, width, device=self.device)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        labels = (y,) if self.conditional else ()
        train_generator = self._critic_steps + 1 >= self.critic_steps
        with torch.set_grad_enabled(train_generator):
            fake = self(self._noise(len(x)), *labels)
        losses = {"discriminator_loss": self._discriminator_step(x, fake.detach(), labels)}
        if train_generator:
            losses["generator_loss"] = self._generator_step(fake, labels)
        step_schedulers(self._schedulers(), train_generator, self.trainer.is_last_batch)
        self._critic_steps = 0 if train_generator else self._critic_steps + 1
        self.log_train(**losses)

    def _logits(self, x: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        return self.discriminator(instance_noise(x, self.instance_noise), *labels)

    def _discriminator_step(
        self, real: Tensor, fake: Tensor, labels: tuple[Tensor, ...]
    ) -> Tensor:
        loss = self.adversarial_loss.discriminator(
            self._logits(real, labels), self._logits(fake, labels)
        )
        if self.gradient_penalty:
            penalty = gradient_penalty(
                lambda points: self.discriminator(points, *labels), interpolates(real, fake)
            )
            loss = loss + self.gradient_penalty * penalty
        descend(self, 1, loss)
        if self.weight_clip is not None:
            clip_weights_(self.discriminator.parameters(), self.weight_clip)
        return loss

    def _generator_step(self, fake: Tensor, labels: tuple[Tensor, ...]) -> Tensor:
        with frozen(self.discriminator):
            loss = self.adversarial_loss.generator(self._logits(fake, labels))
            descend(self, 0, loss)
        return loss

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # By now a gradient scaler has unscaled, and FiniteGuard has checked the gradients.
        clip_gradients(optimizer, self.max_grad_norm)

    def _schedulers(self) -> list[Any]:
        return self.lr_schedulers() or []  # type: ignore[return-value]

    def on_train_epoch_end(self) -> None:
        step_plateaus(self._schedulers(), self.trainer.callback_metrics)

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        labels, metrics = (y,) if self.conditional else (), self.evaluated(stage)
        fake = self(self._noise(len(x)), *labels)
        metrics["real_logits"].update(self.discriminator(x, *labels).mean(), len(x))
        metrics["fake_logits"].update(self.discriminator(fake, *labels).mean(), len(x))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit":
            self.log("val/generator_steps", float(self.trainer.global_step), sync_dist=True)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """As many samples as the batch has examples, with their labels if conditional."""
        x, y = batch
        return self.sample(len(x), y if self.conditional else None)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint["trellis"]["critic_steps"] = self._critic_steps

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self._critic_steps = checkpoint.get("trellis", {}).get("critic_steps", 0)
