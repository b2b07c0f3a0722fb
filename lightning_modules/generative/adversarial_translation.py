"""What adversarial objectives of image translation share: two optimisers and one step count."""

from abc import abstractmethod
from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from typing import Any, Protocol

from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.optim import Optimizer

from trellis.checks import positive
from trellis.generative.adversarial import AdversarialLoss
from trellis.lightning_modules.engine.build_network import build_network
from trellis.lightning_modules.engine.objective import Objective
from trellis.lightning_modules.engine.own_steps import (
    clip_gradients,
    descend,
    planned_steps,
    scheduled,
    step_plateaus,
    step_schedulers,
)
from trellis.spec import TensorPairSpec


class TranslatorFactory(Protocol):
    """Builds a generator of images from images; called by keyword.

    The network has ``forward(x [B, in_channels, H, W]) -> [B, out_channels, H, W]``.
    """

    def __call__(self, in_channels: int, out_channels: int) -> nn.Module: ...


class PatchDiscriminatorFactory(Protocol):
    """Builds a discriminator of images; called by keyword.

    The network has ``forward(x [B, in_channels, H, W]) -> logits``, one for each image or for
    each of its patches.
    """

    def __call__(self, in_channels: int) -> nn.Module: ...


class AdversarialTranslation(Objective):
    """Base of the objectives that translate images with generators and discriminators.

    A subclass builds its networks, names them in ``generators`` and ``discriminators``, and makes
    its steps with ``step_generators`` and ``step_discriminators``. All generators share an
    optimiser, and so do all discriminators. Only the generators' steps count for ``global_step``,
    ``max_steps``, schedulers, checkpoints and weight averaging.

    Batch: ``(input [B, C, H, W], target [B, C', H, W])``.

    Args:
        generator: from ``(in_channels, out_channels)`` to a module ``x -> translation``.
        discriminator: from ``(in_channels)`` to a module ``x -> logits``.
        generator_optimizer: from the generators' parameters to an optimiser.
        discriminator_optimizer: from the discriminators' parameters to an optimiser.
        lr_scheduler: from an optimiser to a learning rate scheduler, one for each of the two. See
            ``Objective``; both are stepped with the generators.
        loss: builds the two losses.
        max_grad_norm: clip the gradients of generators and of discriminators to this norm;
            ``None`` does not clip them. Replaces the trainer's ``gradient_clip_val``.
    Raises:
        ValueError: a negative weight, inputs and targets that are no images of one size, or
            gradient clipping or accumulation by the trainer, which assume one optimiser.
    """

    spec_type = TensorPairSpec
    partial_losses = True
    generator: nn.Module  # from inputs to targets

    def __init__(
        self,
        generator: TranslatorFactory,
        discriminator: PatchDiscriminatorFactory,
        generator_optimizer: OptimizerCallable,
        discriminator_optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None,
        spec: TensorPairSpec | None,
        loss: Callable[[], AdversarialLoss],
        max_grad_norm: float | None,
    ) -> None:
        super().__init__(generator_optimizer, lr_scheduler, spec)
        self.automatic_optimization = False
        self.max_grad_norm = positive("max_grad_norm", max_grad_norm)
        self.generator_factory, self.discriminator_factory = generator, discriminator
        self.optimizer_factories = (generator_optimizer, discriminator_optimizer)
        self.adversarial_loss = loss()

    @property
    @abstractmethod
    def generators(self) -> Sequence[nn.Module]:
        """Networks of the first optimiser."""

    @property
    @abstractmethod
    def discriminators(self) -> Sequence[nn.Module]:
        """Networks of the second optimiser."""

    def make_generator(self, in_channels: int, out_channels: int) -> nn.Module:
        """A generator of these sizes."""
        sizes = {"in_channels": in_channels, "out_channels": out_channels}
        return build_network(self.generator_factory, sizes, "x", objective=self)

    def make_discriminator(self, in_channels: int) -> nn.Module:
        """A discriminator of this size."""
        sizes = {"in_channels": in_channels}
        return build_network(self.discriminator_factory, sizes, "x", objective=self)

    def build(self, spec: TensorPairSpec) -> None:
        name, one, other = type(self).__name__, spec.input.size, spec.target.size
        if len(one) != 2 or one != other:
            raise ValueError(
                f"{name} translates images (C, H, W) into images of the same H and W, but "
                f"inputs are {list(spec.input.shape)} and targets {list(spec.target.shape)}: "
                f"choose other data"
            )

    def configure_optimizers(self) -> Any:
        optimizers = [
            make(chain.from_iterable(network.parameters() for network in networks))
            for make, networks in zip(
                self.optimizer_factories, (self.generators, self.discriminators), strict=True
            )
        ]
        return scheduled(optimizers, self.lr_scheduler, lambda: planned_steps(self.trainer))

    def forward(self, x: Tensor) -> Tensor:
        """Translations ``[B, C', H, W]`` of inputs ``x [B, C, H, W]``."""
        return self.generator(x)

    def step_generators(self, loss: Tensor) -> None:
        """A step of the first optimiser, which counts."""
        descend(self, 0, loss)

    def step_discriminators(self, loss: Tensor) -> None:
        """A step of the second optimiser, which does not count."""
        descend(self, 1, loss)

    def end_step(self, **losses: Tensor) -> None:
        """Step the schedulers and log, at the end of a training step."""
        step_schedulers(self._schedulers(), True, self.trainer.is_last_batch)
        self.log_train(**losses)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # By now a gradient scaler has unscaled, and FiniteGuard has checked the gradients.
        clip_gradients(optimizer, self.max_grad_norm)

    def _schedulers(self) -> Iterable[Any]:
        return self.lr_schedulers() or []  # type: ignore[return-value]

    def on_train_epoch_end(self) -> None:
        step_plateaus(self._schedulers(), self.trainer.callback_metrics)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Translations ``[B, C', H, W]``."""
        return self(batch[0])
