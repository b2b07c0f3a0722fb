"""Variational inference: latent-variable models, trained by a lower bound on the likelihood."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one, choose_from, not_negative
from trellis.generative.bits_per_dim import bits_per_dim
from trellis.generative.bounds import iwae
from trellis.generative.pixel_likelihood import LIKELIHOODS, Likelihood, refuse_values
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Stage
from trellis.lightning_modules.generative.generative_objective import GenerativeObjective
from trellis.networks.generative.vae import VAE, Latents
from trellis.spec import TensorSpec, Values

# Kinds of values for which it is a probability, or the density of dequantized levels.
WITH_BITS: dict[str, tuple[Values, ...]] = {
    "bernoulli": ("binary",),
    "gaussian": ("dequantized", "logit"),
    "unit_gaussian": ("dequantized", "logit"),
    "discretized_logistic": ("unit",),
    "categorical": ("unit",),
}
CHUNK = 2**21  # parameters of p(x | z) that an estimate with many samples holds at once


class LatentVariableFactory(Protocol):
    """Builds a latent-variable model from the shape of an example; called by keyword.

    ``num_parameters`` is the number of parameters of the likelihood for each entry of an example;
    a conditional objective also gives ``num_classes``. The network has ``forward(x, y,
    num_samples) -> Latents``, ``encode``, ``decode``, ``reconstruct`` and ``sample``, with the
    signatures of ``VAE``.
    """

    def __call__(self, shape: tuple[int, ...], num_parameters: int) -> nn.Module: ...


class Variational(GenerativeObjective):
    r"""Maximises the evidence lower bound, or the importance-weighted bound.

    .. math::
        \ln p(x) \ge \mathbb E_{q(z \mid x)} \ln p(x \mid z)
        - \beta\, \mathrm{KL}(q(z \mid x) \,\|\, p(z)), \quad \beta = 1

    With K > 1 samples of z the importance-weighted bound is maximised instead. Beta applies to
    training only: evaluation reports the negative evidence lower bound, ``neg_elbo_nats``, its
    terms ``reconstruction_nats`` and ``kl_nats``, and with K > 1 the negative
    importance-weighted bound, ``nll_isK_nats``. If the values are bits or levels,
    ``bits_per_dim_bound`` is ``neg_elbo_nats`` in bits per dimension.

    Args:
        network: from ``(shape, num_parameters, [num_classes])`` to a latent-variable model.
        likelihood: of an example given the latent variable.
        beta: weight of the KL divergence in training.
        beta_steps: training steps over which that weight increases linearly from 0.
        num_samples: samples of the latent variable for each example, K.
        test_samples: samples for each example from which ``test`` estimates the likelihood, as
            ``nll_isK_nats``; 0 leaves it out.
    Raises:
        ValueError: an option out of range, or values for which the likelihood is not defined.

    Source: Kingma and Welling 2014, eq. 3; Higgins et al. 2017 (beta); Bowman et al. 2016,
    section 3.1 (KL annealing); Burda et al. 2016, eq. 8 (K > 1) and section 5 (test).
    """

    monitor = "val/neg_elbo_nats"
    network: Any  # with sample, which nn.Module does not declare

    def __init__(
        self,
        network: LatentVariableFactory = VAE,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        likelihood: Likelihood = "bernoulli",
        beta: float = 1.0,
        beta_steps: int = 0,
        num_samples: int = 1,
        conditional: bool = False,
        test_samples: int = 0,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec, conditional)
        choose_from("likelihood", likelihood, Likelihood)
        self.network_factory, self.likelihood_name = network, likelihood
        self.likelihood = LIKELIHOODS[likelihood]
        self.beta = not_negative("beta", beta)
        self.beta_steps = not_negative("beta_steps", beta_steps)
        self.num_samples = at_least_one("num_samples", num_samples)
        self.test_samples = not_negative("test_samples", test_samples)

    def build(self, spec: TensorSpec) -> None:
        refuse_values(self.likelihood_name, spec.values)
        sizes = self.sizes(spec) | {"num_parameters": self.likelihood.num_parameters}
        self.build_network(sizes, "x", "y", "num_samples")

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        names = ["neg_elbo_nats", "reconstruction_nats", "kl_nats"]
        if spec.values in WITH_BITS[self.likelihood_name]:
            names.append("bits_per_dim_bound")
        if self.num_samples > 1:
            names.append(_nll(self.num_samples))
        return {name: BatchMean() for name in names}

    def on_test_epoch_start(self) -> None:
        name = _nll(self.test_samples)
        if self.test_samples and name not in self.test_metrics:
            self.test_metrics.add_metrics({name: BatchMean().to(self.device)})
        super().on_test_epoch_start()

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Reconstructions ``[B, *shape]``: means of p(x | z) at the mean of q(z | x)."""
        return self.likelihood.mean(self.network.reconstruct(x, self._condition(y)))

    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Means of p(x | z), z from the prior; see ``GenerativeObjective``."""
        parameters = self.network.sample(num_samples, y, generator=generator)
        return self.likelihood.mean(parameters)

    def log_likelihood(
        self, x: Tensor, y: Tensor | None = None, num_samples: int = 1000
    ) -> Tensor:
        """Importance sampling estimate of ln p(x) ``[B]`` in nats, in expectation a lower bound.

        Args:
            x: examples ``[B, *shape]``.
            y: labels ``[B]``, if the objective is conditional.
            num_samples: samples of the latent variable for each example, drawn in chunks.
        """
        y = self._condition(y)
        at_once = max(1, CHUNK // (x.numel() * self.likelihood.num_parameters))
        weights = []
        for begin in range(0, num_samples, at_once):
            latents = self.network(x, y, min(at_once, num_samples - begin))
            weights.append(self._log_weights(x, latents)[0])
        return iwae(torch.cat(weights))

    def _condition(self, y: Tensor | None) -> Tensor | None:
        return y if self.conditional else None

    def _log_weights(
        self, x: Tensor, latents: Latents, beta: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Logarithms of the importance weights, and ln p(x | z), ``[K, B]`` each."""
        log_likelihood = self.likelihood.log_prob(x, latents.parameters)
        prior = latents.log_prior() - latents.log_posterior()
        return log_likelihood + beta * prior, log_likelihood

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        latents, beta = self.network(x, self._condition(y), self.num_samples), self._current_beta()
        if self.num_samples > 1:
            weights, _ = self._log_weights(x, latents, beta)
            loss = -iwae(weights).mean()
        else:
            log_likelihood = self.likelihood.log_prob(x, latents.parameters)
            loss = (beta * latents.kl - log_likelihood).mean()
        self.log_train(loss=loss)
        return loss

    def _current_beta(self) -> float:
        if not self.beta_steps:
            return self.beta
        return self.beta * min(self.global_step / self.beta_steps, 1.0)

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, y = batch
        latents = self.network(x, self._condition(y), self.num_samples)
        weights, log_likelihood = self._log_weights(x, latents)
        reconstruction, kl = -log_likelihood.mean(), latents.kl.mean()
        values = {
            "neg_elbo_nats": reconstruction + kl,
            "reconstruction_nats": reconstruction,
            "kl_nats": kl,
            _nll(self.num_samples): -iwae(weights).mean(),
        }
        metrics = self.evaluated(stage)
        if "bits_per_dim_bound" in metrics:
            bound = log_likelihood.mean(0) - latents.kl
            bits = bits_per_dim(bound, x, self.spec.values, self.spec.alpha)
            values["bits_per_dim_bound"] = bits.mean()
        if stage == "test" and self.test_samples:
            estimate = self.log_likelihood(x, y, self.test_samples)
            values[_nll(self.test_samples)] = -estimate.mean()
        for name, value in values.items():
            if name in metrics:
                metrics[name].update(value, len(x))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Means of q(z | x), ``[B, latent_dim]``."""
        x, y = batch
        return self.network.encode(x, self._condition(y))[0]


def _nll(num_samples: int) -> str:
    return f"nll_is{num_samples}_nats"
