"""Classification from few labels, by a latent-variable model of all examples."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor

from trellis.checks import not_negative
from trellis.generative.pixel_likelihood import LIKELIHOODS, Likelihood, refuse_values
from trellis.lightning_modules.engine.build_network import build_network, require_targets
from trellis.lightning_modules.engine.classifier import Classifier, Split
from trellis.lightning_modules.engine.evaluation import IGNORED
from trellis.lightning_modules.generative.variational import LatentVariableFactory
from trellis.networks.factory import NetworkFactory
from trellis.networks.generative.vae import VAE
from trellis.networks.vector.mlp import MLP
from trellis.spec import TensorSpec


class SemiSupervised(Classifier):
    r"""Maximises the evidence lower bound of examples with and without labels: the model M2.

    .. math::
        -\mathcal L(x, y) &= \mathbb E_{q(z \mid x, y)} \ln p(x \mid y, z) + \ln p(y)
            - \mathrm{KL}(q(z \mid x, y) \,\|\, p(z)) \\
        -\mathcal U(x) &= \sum_y q(y \mid x) (-\mathcal L(x, y)) + \mathrm H(q(y \mid x))

    with L for labelled and U for unlabelled examples, averaged over a batch, and
    :math:`-\alpha \ln q(y \mid x)` averaged over its labelled ones. All classes are equally
    probable a priori. An example passes through the latent-variable model once for each class.

    With ``features`` it models the codes of a trained VAE in place of the examples, which is
    M1+M2: training draws them from q(z | x), evaluation takes the mean. Their weights come from
    ``--init_from CHECKPOINT --init_map '{network: features}'`` and do not change.

    Batch: ``(x, y)`` with examples ``x [B, *shape]`` and labels ``y [B]``, -100 where there is
    none, as those of ``MNIST`` with ``num_labels``. Evaluation needs labels.

    Args:
        network: from ``(in_channels, out_channels)`` to the classifier q(y | x): ``x -> logits``.
        latent: from ``(shape, num_parameters, num_classes)`` to the latent-variable model given
            the label, see ``Variational``.
        likelihood: p(x | y, z) of an example or of its features.
        alpha: weight of the classifier's own loss.
        features: from ``(shape, num_parameters)`` to a VAE, whose codes are vectors; its
            likelihood has one parameter for each entry, as ``bernoulli``. ``None`` models x.
    Raises:
        ValueError: see ``Classifier``; values for which the likelihood is not defined, a
            negative ``alpha``, or data without labels.

    Source: Kingma et al. 2014 (Semi-supervised learning), eq. 6 to 9 and section 3.2; their
    alpha is 0.1 N for a sum over N examples, which is 0.1 for the mean.
    Deviates: the share of labelled examples is that of a batch, not that of the data.
    """

    spec_type = TensorSpec
    monitor = "val/accuracy"
    monitor_mode = "max"
    latent: Any  # with the methods of a latent-variable model
    features: Any

    def __init__(
        self,
        network: NetworkFactory = MLP,
        latent: LatentVariableFactory = VAE,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        likelihood: Likelihood = "bernoulli",
        alpha: float = 0.1,
        features: LatentVariableFactory | None = None,
    ) -> None:
        super().__init__(network, optimizer, lr_scheduler, spec)
        self.latent_factory, self.features_factory = latent, features
        self.likelihood_name, self.likelihood = likelihood, LIKELIHOODS[likelihood]
        self.alpha = not_negative("alpha", alpha)

    def build(self, spec: TensorSpec) -> None:
        advice = "use Variational, or data with labels"
        require_targets(spec, "labels", "SemiSupervised predicts", advice)
        shape, self.features = spec.shape, None
        if self.features_factory is not None:
            sizes: dict[str, Any] = {"shape": shape, "num_parameters": 1}
            self.features = build_network(self.features_factory, sizes, "x", objective=self)
            self.features.requires_grad_(False).eval()
            shape = (self.features.latent_dim,)
        refuse_values(self.likelihood_name, "real" if self.features else spec.values)
        self.build_network({"in_channels": shape[0], "out_channels": spec.out_channels}, "x")
        sizes = {
            "shape": shape,
            "num_parameters": self.likelihood.num_parameters,
            "num_classes": spec.out_channels,
        }
        self.latent = build_network(self.latent_factory, sizes, "x", "y", objective=self)

    def train(self, mode: bool = True) -> "SemiSupervised":
        """As of any module, but for features, which are fixed."""
        super().train(mode)
        if getattr(self, "features", None) is not None:
            self.features.eval()
        return self

    def forward(self, *inputs: Tensor, **options: Tensor) -> Tensor:
        """Logits ``[B, out_channels]`` of q(y | x) for examples ``x [B, *shape]``."""
        return self.network(self._features(*inputs, **options))

    def _features(self, x: Tensor) -> Tensor:
        if self.features is None:
            return x
        mean, log_scale = self.features.encode(x)
        return mean + log_scale.exp() * torch.randn_like(mean) if self.training else mean

    def logits_and_labels(
        self, batch: tuple[Tensor, Tensor], split: Split
    ) -> tuple[Tensor, Tensor]:
        x, y = batch
        return self(x), y

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        x = self._features(x)
        logits = self.network(x)
        bound = self.bound(x, y, logits).mean()
        known = (y != IGNORED).sum().clamp(min=1)
        entropy = F.cross_entropy(logits, y, ignore_index=IGNORED, reduction="sum") / known
        loss = self.alpha * entropy - bound
        self.log_train(loss=loss, neg_elbo_nats=-bound, classifier_nats=entropy)
        return loss

    def bound(self, x: Tensor, y: Tensor, logits: Tensor) -> Tensor:
        """Lower bounds ``[B]`` in nats on ln p(x, y), and on ln p(x) where y is -100.

        Args:
            x: examples or features ``[B, *shape]``.
            y: labels ``[B]``.
            logits: of q(y | x), ``[B, out_channels]``.
        """
        count = logits.size(1)
        labels = torch.arange(count, device=x.device).repeat(len(x))
        repeated = x.repeat_interleave(count, 0)
        latents = self.latent(repeated, labels)
        bounds = self.likelihood.log_prob(repeated, latents.parameters).mean(0) - latents.kl
        bounds = bounds.view(-1, count) - math.log(count)  # of each class
        log_posterior = logits.log_softmax(1)
        marginal = (log_posterior.exp() * (bounds - log_posterior)).sum(1)
        given = bounds.gather(1, y.clamp(min=0).unsqueeze(1)).squeeze(1)
        return given.where(y != IGNORED, marginal)
