"""Diffusion: learning what noise was added to an example, at any step of a chain."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one, choose_from
from trellis.generative.diffusion_bound import diffusion_bound, even_steps
from trellis.generative.diffusion_sampling import (
    DDIM,
    Denoiser,
    DiffusionSampler,
    ProbabilityFlow,
)
from trellis.generative.frozen_codes import FrozenCodes
from trellis.generative.guidance import Guidance
from trellis.generative.noise_schedule import (
    Denoised,
    NoiseSchedule,
    Prediction,
    denoised,
    prediction_target,
)
from trellis.lightning_modules.engine.build_network import build_network
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.generative.autoencoder import AutoencoderFactory
from trellis.lightning_modules.generative.denoiser_labels import DenoiserFactory, DenoiserLabels
from trellis.lightning_modules.generative.generative_objective import (
    GenerativeObjective,
    likelihood_metrics,
)
from trellis.networks.generative.denoiser import MLPDenoiser
from trellis.spec import TensorSpec


class Diffusion(GenerativeObjective):
    r"""Regression on the noise in an example, or on the example in the noise.

    .. math:: L = E\, \lVert \epsilon - \epsilon_\theta(x_k, k) \rVert^2, \quad
        x_k = \sqrt{\bar\alpha_k}\, x + \sqrt{1 - \bar\alpha_k}\, \epsilon

    at a random step k of the schedule; as a mean over dimensions.

    With an ``autoencoder`` the examples are its codes: latent diffusion. It is frozen, and its
    weights are those of a trained one, which enter by prefix: ``--init_from AUTOENCODER.ckpt
    --init_map '{network: codes.autoencoder}'``. Samples are decoded. As codes have no likelihood
    that could be compared, evaluation reports the loss alone.

    Evaluation reports L as ``loss``; ``bound_nll_nats``, an unbiased estimate of the variational
    bound by two steps for each example; and with ``likelihood`` also ``nll_nats``, that of the
    probability flow. ``bits_per_dim`` and ``bound_bits_per_dim`` stand beside them where the
    values have levels.

    Args:
        network: from ``(shape, [num_classes | context_features])`` to ``(x, t, [y])``; t is
            (k + 1) / K.
        prediction: what the network computes: ``noise``, ``example`` or ``velocity``, see
            ``denoised``.
        schedule: makes the ``NoiseSchedule``.
        sampler: makes the sampler: ``DDIM``, or ``ProbabilityFlow``.
        likelihood: makes the equation by which likelihoods are computed; ``None`` computes none.
        likelihood_examples: of each batch, whose likelihoods an evaluation computes, each by
            many calls of the network; ``None`` takes all.
        autoencoder: from ``(shape)`` to an autoencoder with codes ``[B, L]``; the network is then
            built for the shape ``(L,)``.
        guidance: makes the ``Guidance`` of samples, if the objective is conditional; the network
            then has a class more.
    Raises:
        ValueError: an unknown prediction, ``conditional`` with data without classes, guidance
            without ``conditional``, an autoencoder without codes, or a network that does not take
            them.

    Source: Ho et al. 2020, algorithm 1; Salimans and Ho 2022 (velocity); Kingma et al. 2021
    (bound); Rombach et al. 2022 (latent).
    """

    real_context = True

    def __init__(
        self,
        network: DenoiserFactory = MLPDenoiser,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        conditional: bool = False,
        prediction: Prediction = "noise",
        schedule: Callable[[], NoiseSchedule] = NoiseSchedule,
        sampler: Callable[[], DiffusionSampler] = DDIM,
        likelihood: Callable[[], ProbabilityFlow] | None = ProbabilityFlow,
        likelihood_examples: int | None = None,
        guidance: Callable[[], Guidance] | None = None,
        autoencoder: AutoencoderFactory | None = None,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec, conditional)
        self.labels = DenoiserLabels(conditional, guidance)
        self.network_factory = network
        self.prediction = choose_from("prediction", prediction, Prediction)
        self.schedule, self.sampler = schedule(), sampler()
        self.autoencoder_factory = autoencoder
        self.codes: FrozenCodes | None = None
        self.likelihood = None if likelihood is None or autoencoder else likelihood()
        if likelihood_examples is not None:
            at_least_one("likelihood_examples", likelihood_examples)
        self.likelihood_examples = likelihood_examples

    def build(self, spec: TensorSpec) -> None:
        labels, sizes = ("y",) if self.conditional else (), self.labels.sizes(self.sizes(spec))
        if self.autoencoder_factory is not None:
            whole: dict[str, Any] = {"shape": spec.shape}
            autoencoder = build_network(self.autoencoder_factory, whole, "x", objective=self)
            self.codes = FrozenCodes(autoencoder)
            sizes["shape"] = (self.codes.latent_dim,)
        self.shape = sizes["shape"]
        self.build_network(sizes, "x", "t", *labels)

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        if self.codes is not None:
            return {"loss": BatchMean()}
        found = {"loss": BatchMean(), **likelihood_metrics(spec, "bound_")}
        return found if self.likelihood is None else found | likelihood_metrics(spec)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        """The prediction ``[B, *shape]`` at noisy examples ``x`` and times ``t [B]``."""
        return self.network(x, t) if y is None else self.network(x, t, y)

    def _encoded(self, x: Tensor) -> Tensor:
        return x if self.codes is None else self.codes.encode(x)

    def denoiser(self, y: Tensor | None, *, guided: bool = False) -> Denoiser:
        """The denoiser given labels ``[B]``, which repeat where there are more examples.

        Args:
            y: labels, which only a conditional objective uses.
            guided: with guidance, if there is any.
        """
        predict = self.labels.field(self, y, guided=guided)

        def denoise(x: Tensor, steps: Tensor) -> Denoised:
            predicted = predict(x, self.schedule.times(steps).to(x.dtype))
            return denoised(predicted, x, *self.schedule.scales(steps, x), self.prediction)

        return denoise

    def loss(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        """Mean squared error of the prediction, at a random step for each example."""
        x, y = self._encoded(batch[0]), batch[1]
        steps = even_steps(len(x), self.schedule.num_steps, x.device)
        signal, noise = self.schedule.scales(steps, x)
        drawn = torch.randn_like(x)
        times = self.schedule.times(steps).to(x.dtype)
        predicted = self(signal * x + noise * drawn, times, self.labels.in_training(y))
        return nn.functional.mse_loss(
            predicted, prediction_target(x, drawn, signal, noise, self.prediction)
        )

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = self.loss(batch)
        self.log_train(loss=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        metrics, (x, y) = self.evaluated(stage), batch
        metrics["loss"].update(self.loss(batch), len(x))
        if self.codes is not None:
            return
        bound = diffusion_bound(self.denoiser(y), self.schedule, x)
        self.count_likelihood(metrics, -bound, x, "bound_")
        if self.likelihood is not None:
            few = slice(self.likelihood_examples)
            log_prob = self.likelihood.log_prob(self.denoiser(y[few]), self.schedule, x[few])
            self.count_likelihood(metrics, log_prob, x[few])

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Log-likelihood of each example in nats, ``[B]``; without ``likelihood`` its bound.

        Of latent diffusion the bound of the code.
        """
        x, y = self._encoded(batch[0]), batch[1]
        if self.likelihood is None:
            return -diffusion_bound(self.denoiser(y), self.schedule, x)
        return self.likelihood.log_prob(self.denoiser(y), self.schedule, x)

    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """See ``GenerativeObjective``."""
        noise = torch.randn(num_samples, *self.shape, generator=generator, device=self.device)
        x = self.sampler.sample(self.denoiser(y, guided=True), self.schedule, noise, generator)
        return x if self.codes is None else self.codes.decode(x)
