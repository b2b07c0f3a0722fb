"""Autoencoders: reconstruction, denoising, sparsity and contraction."""

from collections.abc import Mapping
from typing import Any, Literal, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.checks import choose_from, fraction, not_negative, probability
from trellis.generative.code_penalties import activation_kl, squared_jacobian
from trellis.generative.pixel_likelihood import LIKELIHOODS, refuse_values
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage
from trellis.networks.generative.autoencoder import MLPAutoencoder
from trellis.spec import TensorSpec


class AutoencoderFactory(Protocol):
    """Builds an autoencoder from the shape of an example; called by keyword.

    The network has ``encode(x) -> code [B, L]``, ``decode(code) -> [B, *shape]`` and ``forward``,
    the composition of the two.
    """

    def __call__(self, shape: tuple[int, ...]) -> nn.Module: ...


class Autoencoder(Objective):
    r"""Minimises the reconstruction error, optionally of corrupted examples and with penalties.

    .. math:: -\ln p(x \mid \mathrm{decode}(h)) + \lambda_s S(h) + \lambda_c
        \left\| \frac{\partial h}{\partial \tilde x} \right\|_F^2, \quad h =
        \mathrm{encode}(\tilde x)

    where x~ is the example x, or a corrupted copy of it. Errors are summed over the entries of an
    example. Corruption and penalties apply to training only: evaluation reports
    ``reconstruction_nats`` and ``squared_error``, the squared distance of an example from its
    reconstruction.

    Batch: ``(x, y)`` with examples ``x [B, *shape]``; labels are not used.

    Args:
        network: from ``(shape)`` to an autoencoder.
        likelihood: ``unit_gaussian`` is half the squared error plus a constant; ``bernoulli``
            takes the network's outputs as logits.
        gaussian_noise: standard deviation of the noise that is added to each entry.
        masking: probability that an entry is set to 0.
        sparsity: weight of the sparsity penalty S on the codes.
        sparsity_target: target of the mean activation of each unit, see ``activation_kl``;
            ``None`` penalises the L1 norm of the codes instead.
        contraction: weight of the penalty on the Jacobian, see ``squared_jacobian``.
    Raises:
        ValueError: an option out of range, or examples outside [0, 1] with ``bernoulli``.

    Source: Vincent et al. 2010, sections 2.3 and 3.3 (noise and masking); Ng 2011, section 3
    (target); Olshausen and Field 1996, eq. 2 to 4 (L1); Rifai et al. 2011, eq. 5 (contraction).
    """

    spec_type = TensorSpec
    monitor = "val/reconstruction_nats"
    network: Any  # with encode and decode, which nn.Module does not declare

    def __init__(
        self,
        network: AutoencoderFactory = MLPAutoencoder,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        likelihood: Literal["unit_gaussian", "bernoulli"] = "unit_gaussian",
        gaussian_noise: float = 0.0,
        masking: float = 0.0,
        sparsity: float = 0.0,
        sparsity_target: float | None = None,
        contraction: float = 0.0,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        choose_from("likelihood", likelihood, ("unit_gaussian", "bernoulli"))
        if sparsity_target is not None:
            fraction("sparsity_target", sparsity_target)
        self.masking = probability("masking", masking)
        self.network_factory, self.likelihood = network, LIKELIHOODS[likelihood]
        self.likelihood_name = likelihood
        self.gaussian_noise = not_negative("gaussian_noise", gaussian_noise)
        self.sparsity, self.sparsity_target = not_negative("sparsity", sparsity), sparsity_target
        self.contraction = not_negative("contraction", contraction)

    def build(self, spec: TensorSpec) -> None:
        refuse_values(self.likelihood_name, spec.values)
        sizes: dict[str, Any] = {"shape": spec.shape}
        self.build_network(sizes, "x")

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        return {"reconstruction_nats": BatchMean(), "squared_error": BatchMean()}

    def forward(self, x: Tensor) -> Tensor:
        """Reconstructions ``[B, *shape]``."""
        return self.likelihood.mean(self.network(x).unsqueeze(1))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, _ = batch
        corrupted = self._corrupted(x)
        if self.contraction:
            corrupted = corrupted.detach().requires_grad_()
        code = self.network.encode(corrupted)
        outputs = self.network.decode(code)
        loss = reconstruction = -self.likelihood.log_prob(x, outputs.unsqueeze(1)).mean()
        if self.sparsity:
            loss = loss + self.sparsity * self._sparsity(code)
        if self.contraction:
            loss = loss + self.contraction * squared_jacobian(code, corrupted).mean()
        self.log_train(loss=loss, reconstruction_nats=reconstruction)
        return loss

    def _corrupted(self, x: Tensor) -> Tensor:
        if self.gaussian_noise:
            x = x + self.gaussian_noise * torch.randn_like(x)
        if self.masking:
            x = x * (torch.rand_like(x) >= self.masking)
        return x

    def _sparsity(self, code: Tensor) -> Tensor:
        if self.sparsity_target is None:
            return code.abs().sum(1).mean()
        return activation_kl(code, self.sparsity_target)

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        x, _ = batch
        outputs, metrics = self.network(x).unsqueeze(1), self.evaluated(stage)
        squared = (x - self.likelihood.mean(outputs)).square().flatten(1).sum(1)
        metrics["reconstruction_nats"].update(-self.likelihood.log_prob(x, outputs).mean(), len(x))
        metrics["squared_error"].update(squared.mean(), len(x))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Codes ``[B, L]``."""
        x, _ = batch
        return self.network.encode(x)
