"""Autoencoders with discrete codes."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import choose_from, not_negative
from trellis.generative.pixel_likelihood import LIKELIHOODS, Likelihood, refuse_values
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.networks.generative.vq_vae import VQVAE
from trellis.spec import TensorSpec


class DiscreteFactory(Protocol):
    """Builds an autoencoder with discrete codes from the shape of an example; by keyword.

    The network has ``forward(x) -> DiscreteCodes``, ``encode(x) -> indices`` and ``num_codes``.
    """

    def __call__(self, shape: tuple[int, ...], num_parameters: int) -> nn.Module: ...


class CodePerplexity(Metric):
    """Exponential of the entropy of the codes' frequencies: how many are in use.

    Args:
        num_codes: how many there are.
    """

    full_state_update = False
    counts: Tensor

    def __init__(self, num_codes: int) -> None:
        super().__init__()
        self.add_state("counts", torch.zeros(num_codes), dist_reduce_fx="sum")

    def update(self, indices: Tensor) -> None:
        """Count codes of any shape."""
        ones = torch.ones(indices.numel(), device=indices.device, dtype=self.counts.dtype)
        self.counts.index_add_(0, indices.flatten(), ones)

    def compute(self) -> Tensor:
        """The perplexity of all codes so far, from 1 to their number."""
        shares = self.counts / self.counts.sum()
        return torch.special.entr(shares).sum().exp()


class VectorQuantization(Objective):
    r"""Minimises the reconstruction error of quantised codes and their distance from a codebook.

    .. math:: -\ln p(x \mid e) + \| \mathrm{sg}[z] - e \|^2 + \beta \| z - \mathrm{sg}[e] \|^2

    with the encoder's vectors z, their nearest codes e, and the stop-gradient sg; all are summed
    over an example. Evaluation reports ``reconstruction_nats``, the ``squared_error`` of the
    means, and the ``perplexity`` of the codes, the number that are in use.

    Batch: ``(x, y)`` with examples ``x [B, *shape]``; labels are not used.

    Args:
        network: from ``(shape, num_parameters)`` to an autoencoder with discrete codes.
        likelihood: of an example given its codes.
        commitment: beta.
    Raises:
        ValueError: an option out of range, or values for which the likelihood is not defined.

    Source: van den Oord et al. 2017, eq. 3.
    """

    spec_type = TensorSpec
    monitor = "val/reconstruction_nats"
    network: Any  # with encode and num_codes, which nn.Module does not declare

    def __init__(
        self,
        network: DiscreteFactory = VQVAE,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        likelihood: Likelihood = "bernoulli",
        commitment: float = 0.25,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        choose_from("likelihood", likelihood, Likelihood)
        self.network_factory, self.likelihood_name = network, likelihood
        self.likelihood = LIKELIHOODS[likelihood]
        self.commitment = not_negative("commitment", commitment)

    def build(self, spec: TensorSpec) -> None:
        refuse_values(self.likelihood_name, spec.values)
        sizes: dict[str, Any] = {"shape": spec.shape}
        self.build_network(sizes | {"num_parameters": self.likelihood.num_parameters}, "x")

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return {
            "reconstruction_nats": BatchMean(),
            "squared_error": BatchMean(),
            "perplexity": CodePerplexity(self.network.num_codes),
        }

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions ``[B, *shape]``."""
        return self.likelihood.mean(self.network(x).parameters)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, _ = batch
        codes = self.network(x)
        reconstruction = -self.likelihood.log_prob(x, codes.parameters).mean()
        distance = codes.codebook_loss + self.commitment * codes.commitment_loss
        loss = reconstruction + distance.mean()
        self.log_train(loss=loss, reconstruction_nats=reconstruction)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, _ = batch
        codes, metrics = self.network(x), self.evaluated(stage)
        nats = -self.likelihood.log_prob(x, codes.parameters)
        squared = (x - self.likelihood.mean(codes.parameters)).square().flatten(1).sum(1)
        metrics["reconstruction_nats"].update(nats.mean(), len(x))
        metrics["squared_error"].update(squared.mean(), len(x))
        metrics["perplexity"].update(codes.indices)

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Indices of the codes, ``[B, h, w]``."""
        x, _ = batch
        return self.network.encode(x)
