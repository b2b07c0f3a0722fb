"""Latent-variable models by a bound on their likelihood."""

import math
from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import at_least_one, choose_from
from trellis.generative.bits_per_dim import bits_per_dim
from trellis.generative.bounds import iwae
from trellis.generative.pixel_likelihood import LIKELIHOODS, Likelihood
from trellis.labels import balanced_labels
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage, build_network
from trellis.networks.generative.vae import VAE, Latents
from trellis.spec import TensorSpec, Values

# Kinds of values that a likelihood is no probability of, and what to give instead.
REFUSED: dict[str, tuple[tuple[Values, ...], str]] = {
    "bernoulli": (("real", "logit"), "data with pixels='unit' or a binary kind, or gaussian"),
    "discretized_logistic": (("real", "dequantized", "logit"), "data with pixels='unit'"),
    "categorical": (("real", "dequantized", "logit"), "data with pixels='unit'"),
}
# Kinds of values of which it is a probability, or the density of dequantized ones.
WITH_BITS: dict[str, tuple[Values, ...]] = {
    "bernoulli": ("binary",),
    "gaussian": ("dequantized", "logit"),
    "unit_gaussian": ("dequantized", "logit"),
    "discretized_logistic": ("unit",),
    "categorical": ("unit",),
}
CHUNK = 2**21  # parameters of p(x | z) that an estimate with many codes holds at once


class LatentVariableFactory(Protocol):
    """Builds a latent-variable model from the shape of an example; called by keyword.

    ``num_parameters`` is how many numbers the likelihood needs for each entry of an example;
    ``num_classes`` is given where the objective is conditional. The network has ``forward(x, y,
    num_samples) -> Latents``, ``encode``, ``decode``, ``reconstruct`` and ``sample``, as ``VAE``
    has them.
    """

    def __call__(self, shape: tuple[int, ...], num_parameters: int) -> nn.Module: ...


class Variational(Objective):
    r"""Maximum of a lower bound on the likelihood of the examples.

    .. math::
        \ln p(x) \ge \mathbb E_{q(z \mid x)} \ln p(x \mid z)
        - \beta\, \mathrm{KL}(q(z \mid x) \,\|\, p(z)), \quad \beta = 1

    With K > 1 codes for each example the importance-weighted bound is raised instead. Beta is for
    training alone: evaluation reports the bound itself, ``neg_elbo_nats``, its parts
    ``reconstruction_nats`` and ``kl_nats``, and with K > 1 ``nll_isK_nats``, the negative
    importance-weighted bound. Where the values are bits or levels, ``bits_per_dim_bound`` is
    the same ``neg_elbo_nats`` per entry.

    Batch: ``(x, y)`` with examples ``x [B, *shape]`` and labels ``y [B]``, which only a
    conditional network reads.

    Args:
        network: from ``(shape, num_parameters)`` to a latent-variable model.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler; a ``Schedule`` steps once a step, others
            once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
        likelihood: of an example given its code.
        beta: weight of the divergence in training.
        beta_steps: steps over which that weight grows from 0.
        num_samples: codes for each example, K.
        conditional: give the labels to the network.
        test_samples: codes for each example by which ``test`` estimates the likelihood itself, as
            ``nll_isK_nats``; 0 leaves it out.
    Raises:
        ValueError: an option out of range, or values that the likelihood is no probability of.

    Source: Kingma and Welling 2014, eq. 3; Higgins et al. 2017 (beta); Bowman et al. 2016,
    section 3.1 (its growth); Burda et al. 2016, eq. 8 (K > 1) and section 5 (test).
    """

    spec_type = TensorSpec
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
        super().__init__(optimizer, lr_scheduler, spec)
        choose_from("likelihood", likelihood, Likelihood)
        for name, value in (
            ("beta", beta),
            ("beta_steps", beta_steps),
            ("test_samples", test_samples),
        ):
            if not 0 <= value < math.inf:
                raise ValueError(f"{name}={value}: give at least 0")
        self.save_hyperparameters()
        self.network_factory, self.likelihood_name = network, likelihood
        self.likelihood = LIKELIHOODS[likelihood]
        self.beta, self.beta_steps = beta, beta_steps
        self.num_samples = at_least_one("num_samples", num_samples)
        self.conditional, self.test_samples = conditional, test_samples

    def build(self, spec: TensorSpec) -> None:
        refused, fix = REFUSED.get(self.likelihood_name, ((), ""))
        if spec.values in refused:
            raise ValueError(
                f"likelihood={self.likelihood_name!r} is no probability of {spec.values!r} "
                f"values; give {fix}"
            )
        sizes: dict[str, Any] = {
            "shape": spec.shape,
            "num_parameters": self.likelihood.num_parameters,
        }
        if self.conditional:
            if spec.out_channels < 2:
                raise ValueError(
                    f"conditional=True: the data has out_channels={spec.out_channels}, but "
                    f"labels of at least 2 classes are needed; leave it out"
                )
            sizes["num_classes"] = spec.out_channels
        self.network = build_network(
            self.network_factory, sizes, "x", "y", "num_samples", objective=self
        )

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
        """Reconstructions ``[B, *shape]``: means of p(x | z) at the mean code."""
        return self.likelihood.mean(self.network.reconstruct(x, self._condition(y)))

    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Means of p(x | z) for codes from the prior, ``[num_samples, *shape]``.

        Args:
            num_samples: how many.
            y: labels ``[num_samples]``, where the objective is conditional; ``None`` takes the
                classes in turn.
            generator: of the codes; the global one by default.
        Raises:
            ValueError: labels, but the objective is not conditional.
        """
        if y is not None and not self.conditional:
            raise ValueError("y is given, but conditional=False: leave y out")
        if y is None and self.conditional:
            y = balanced_labels(num_samples, self.spec.out_channels, self.device)
        parameters = self.network.sample(num_samples, y, generator=generator)
        return self.likelihood.mean(parameters)

    def log_likelihood(
        self, x: Tensor, y: Tensor | None = None, num_samples: int = 1000
    ) -> Tensor:
        """Importance-sampled ln p(x) in nats, a lower bound in expectation, ``[B]``.

        Args:
            x: examples ``[B, *shape]``.
            y: labels ``[B]``, where the objective is conditional.
            num_samples: codes for each example, drawn so many at once as memory allows.
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
        """The log-weights and ln p(x | z), ``[K, B]`` each."""
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
        """Mean codes ``[B, latent_dim]``."""
        x, y = batch
        return self.network.encode(x, self._condition(y))[0]


def _nll(num_samples: int) -> str:
    return f"nll_is{num_samples}_nats"
