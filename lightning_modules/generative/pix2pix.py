"""Translation of images that is learned from pairs, by a conditional adversarial network."""

from collections.abc import Callable, Mapping, Sequence

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import not_negative
from trellis.generative.adversarial import AdversarialLoss, NonSaturatingLoss
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.engine.own_steps import frozen
from trellis.lightning_modules.generative.adversarial_translation import (
    AdversarialTranslation,
    PatchDiscriminatorFactory,
    TranslatorFactory,
)
from trellis.networks.generative.translation import PatchDiscriminator, TranslationUNet
from trellis.spec import TensorPairSpec


class Pix2Pix(AdversarialTranslation):
    r"""Translates inputs into targets that a discriminator of pairs takes for real, and near them.

    .. math:: L_G + \text{l1\_weight} \cdot E \lvert y - G(x) \rvert_1

    with the loss L_G of the generator G against a discriminator that sees the input x beside
    the target y or the translation G(x), as channels of one image. The L1 distance is the mean
    over the entries of an image. Every batch trains the discriminator, then the generator.

    Evaluation reports ``mean_absolute_error`` between translations and targets, per entry.

    Args:
        generator: see ``AdversarialTranslation``.
        discriminator: takes as many channels as inputs and targets have together.
        l1_weight: weight of the L1 distance.
    Raises:
        ValueError: see ``AdversarialTranslation``; or data without pairs to train on.

    Source: Isola et al. 2017, eq. 1 to 4. Deviates: the paper halves the discriminator's loss,
    which Adam makes up for.
    """

    monitor = "val/mean_absolute_error"
    discriminator: nn.Module

    def __init__(
        self,
        generator: TranslatorFactory = TranslationUNet,
        discriminator: PatchDiscriminatorFactory = PatchDiscriminator,
        generator_optimizer: OptimizerCallable = torch.optim.Adam,
        discriminator_optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorPairSpec | None = None,
        loss: Callable[[], AdversarialLoss] = NonSaturatingLoss,
        l1_weight: float = 100.0,
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
        self.l1_weight = not_negative("l1_weight", l1_weight)

    def build(self, spec: TensorPairSpec) -> None:
        super().build(spec)
        if not spec.paired:
            raise ValueError(
                "Pix2Pix learns from pairs, but the data has paired=False: choose paired=True, "
                "or CycleGAN"
            )
        inputs, targets = spec.input.in_channels, spec.target.in_channels
        self.generator = self.make_generator(inputs, targets)
        self.discriminator = self.make_discriminator(inputs + targets)

    @property
    def generators(self) -> Sequence[nn.Module]:
        """See ``AdversarialTranslation``."""
        return (self.generator,)

    @property
    def discriminators(self) -> Sequence[nn.Module]:
        """See ``AdversarialTranslation``."""
        return (self.discriminator,)

    def metrics(self, spec: TensorPairSpec) -> Mapping[str, Metric]:
        return {"mean_absolute_error": BatchMean()}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        fake = self(x)
        discriminator_loss = self.adversarial_loss.discriminator(
            self._logits(x, y), self._logits(x, fake.detach())
        )
        self.step_discriminators(discriminator_loss)
        with frozen(self.discriminator):
            generator_loss = self.adversarial_loss.generator(self._logits(x, fake))
            l1 = (y - fake).abs().mean()
            self.step_generators(generator_loss + self.l1_weight * l1)
        self.end_step(
            discriminator_loss=discriminator_loss, generator_loss=generator_loss, l1_loss=l1
        )

    def _logits(self, x: Tensor, y: Tensor) -> Tensor:
        return self.discriminator(torch.cat([x, y], 1))

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        error = (y - self(x)).abs().mean()
        self.evaluated(stage)["mean_absolute_error"].update(error, len(x))
