"""Translation of images between two sets of them, without pairs."""

from collections.abc import Callable, Mapping, Sequence

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import not_negative
from trellis.generative.adversarial import AdversarialLoss, LeastSquaresLoss
from trellis.generative.image_pool import ImagePool
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.engine.own_steps import frozen
from trellis.lightning_modules.generative.adversarial_translation import (
    AdversarialTranslation,
    PatchDiscriminatorFactory,
    TranslatorFactory,
)
from trellis.networks.generative.translation import PatchDiscriminator, TranslationResNet
from trellis.spec import TensorPairSpec


class CycleGAN(AdversarialTranslation):
    r"""Translates in both directions, so that there and back again is where one began.

    .. math:: L_G + L_F + \text{cycle\_weight} \cdot \left(
        E \lvert F(G(x)) - x \rvert_1 + E \lvert G(F(y)) - y \rvert_1 \right)
        + \text{identity\_weight} \cdot \left(
        E \lvert G(y) - y \rvert_1 + E \lvert F(x) - x \rvert_1 \right)

    with the generators G from inputs x to targets y and F back, ``generator_back``, and their
    losses L_G and L_F against a discriminator of targets and one of inputs. L1 distances are means
    over the entries of an image. Every batch trains the generators, then the discriminators on
    translations of this batch and of earlier ones, see ``ImagePool``. Which input comes with
    which target does not matter to the training.

    Evaluation reports, per entry, ``mean_absolute_error`` between translations and the true
    targets, ``mean_absolute_error_back`` between backward translations and the true inputs, and
    ``cycle_error``, the mean of the two cycle terms. The first two need pairs, which training
    does not have; so the best checkpoint is the latest one, by ``val/generator_steps``.

    Args:
        generator: from ``(in_channels, out_channels)`` to a module; called for each direction.
        discriminator: called for targets and for inputs.
        cycle_weight: weight of the cycle terms; see below.
        identity_weight: weight of the identity terms, which keep colours; the paper takes half
            of ``cycle_weight`` for paintings and 0 else.
        pool_size: translations of each direction that are kept; 0 shows the discriminators
            those of this batch alone.
    Raises:
        ValueError: see ``AdversarialTranslation``; or ``identity_weight`` for inputs and targets
            of different channels.

    Source: Zhu et al. 2017, eq. 1 to 3, sections 4 and 5.2. Deviates: ``LeastSquaresLoss`` has
    the factor 1/2 of Mao et al. 2017 in the generators' loss, too, so that a weight of 5 is
    the paper's 10.
    """

    monitor = "val/generator_steps"
    monitor_mode = "max"
    generator_back: nn.Module
    discriminator: nn.Module
    discriminator_back: nn.Module

    def __init__(
        self,
        generator: TranslatorFactory = TranslationResNet,
        discriminator: PatchDiscriminatorFactory = PatchDiscriminator,
        generator_optimizer: OptimizerCallable = torch.optim.Adam,
        discriminator_optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorPairSpec | None = None,
        loss: Callable[[], AdversarialLoss] = LeastSquaresLoss,
        cycle_weight: float = 10.0,
        identity_weight: float = 0.0,
        pool_size: int = 50,
        max_grad_norm: float | None = None,
    ) -> None:
        super().__init__(
            generator,
            discriminator,
            generator_optimizer,
            discriminator_optimizer,
            lr_scheduler,
            spec,
            loss,
            max_grad_norm,
        )
        self.cycle_weight = not_negative("cycle_weight", cycle_weight)
        self.identity_weight = not_negative("identity_weight", identity_weight)
        self.pool_size = not_negative("pool_size", pool_size)

    def build(self, spec: TensorPairSpec) -> None:
        super().build(spec)
        inputs, targets = spec.input.in_channels, spec.target.in_channels
        if self.identity_weight and inputs != targets:
            raise ValueError(
                f"identity_weight={self.identity_weight}: inputs of {inputs} channels and targets "
                f"of {targets} cannot be equal; give 0"
            )
        self.generator = self.make_generator(inputs, targets)
        self.generator_back = self.make_generator(targets, inputs)
        self.discriminator = self.make_discriminator(targets)
        self.discriminator_back = self.make_discriminator(inputs)
        self.pool: nn.Module = nn.Identity()
        self.pool_back: nn.Module = nn.Identity()
        if self.pool_size:
            self.pool = ImagePool(self.pool_size, spec.target.shape)
            self.pool_back = ImagePool(self.pool_size, spec.input.shape)

    @property
    def generators(self) -> Sequence[nn.Module]:
        """See ``AdversarialTranslation``."""
        return (self.generator, self.generator_back)

    @property
    def discriminators(self) -> Sequence[nn.Module]:
        """See ``AdversarialTranslation``."""
        return (self.discriminator, self.discriminator_back)

    def metrics(self, spec: TensorPairSpec) -> Mapping[str, Metric]:
        names = ("mean_absolute_error", "mean_absolute_error_back", "cycle_error")
        return {name: BatchMean() for name in names}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        with frozen(self.discriminator), frozen(self.discriminator_back):
            fake_y, fake_x = self.generator(x), self.generator_back(y)
            generator_loss = self.adversarial_loss.generator(
                self.discriminator(fake_y)
            ) + self.adversarial_loss.generator(self.discriminator_back(fake_x))
            cycle = 2 * self._cycle(x, y, fake_x, fake_y)
            loss = generator_loss + self.cycle_weight * cycle
            if self.identity_weight:
                same = (self.generator(y) - y).abs().mean()
                same = same + (self.generator_back(x) - x).abs().mean()
                loss = loss + self.identity_weight * same
            self.step_generators(loss)
        discriminator_loss = self.adversarial_loss.discriminator(
            self.discriminator(y), self.discriminator(self.pool(fake_y.detach()))
        ) + self.adversarial_loss.discriminator(
            self.discriminator_back(x), self.discriminator_back(self.pool_back(fake_x.detach()))
        )
        self.step_discriminators(discriminator_loss)
        self.end_step(
            discriminator_loss=discriminator_loss, generator_loss=generator_loss, cycle_loss=cycle
        )

    def _cycle(self, x: Tensor, y: Tensor, fake_x: Tensor, fake_y: Tensor) -> Tensor:
        """Mean of the two distances between images and what comes back of them."""
        there = (self.generator_back(fake_y) - x).abs().mean()
        return (there + (self.generator(fake_x) - y).abs().mean()) / 2

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        fake_y, fake_x, metrics = self.generator(x), self.generator_back(y), self.evaluated(stage)
        metrics["mean_absolute_error"].update((fake_y - y).abs().mean(), len(x))
        metrics["mean_absolute_error_back"].update((fake_x - x).abs().mean(), len(x))
        metrics["cycle_error"].update(self._cycle(x, y, fake_x, fake_y), len(x))

    def on_validation_epoch_end(self) -> None:
        super().on_validation_epoch_end()
        if self.trainer.state.fn == "fit":
            self.log("val/generator_steps", float(self.trainer.global_step), sync_dist=True)
