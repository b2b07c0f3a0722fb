"""The likelihood of examples, by networks that compute it exactly."""

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torchmetrics import Metric

from trellis.generative.bits_per_dim import bits_per_dim
from trellis.labels import balanced_labels
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective, Stage, build_network
from trellis.spec import TensorSpec


class DensityFactory(Protocol):
    """Builds a density from the shape of an example; called by keyword.

    ``num_classes`` is given by a conditional objective only. The network has ``forward(x, [y]) ->
    log_prob [B]`` in nats and ``sample(num_samples, [y], generator=...) -> [num_samples,
    *shape]``. One that gives probabilities of levels, not a density, has ``discrete = True``.
    """

    def __call__(self, shape: tuple[int, ...]) -> nn.Module: ...


class DensityEstimation(Objective):
    r"""Maximum likelihood: flows, autoregressive networks, whatever gives ln p(x) itself.

    .. math:: L = -\tfrac1B \sum_b \ln p(x_b) \quad\text{or}\quad -\tfrac1B \sum_b \ln p(x_b | y_b)

    Batch: ``(x, y)`` with examples ``x [B, *shape]`` and labels ``y [B]``, which only a
    conditional network reads. Evaluation reports L as ``nll_nats``, summed over the dimensions,
    and ``bits_per_dim`` where the values are bits or stand for bytes: see ``units.bits_per_dim``.
    Values in [0, 1] have them from a discrete network alone.

    Args:
        network: from ``(shape, [num_classes])`` to a density.
        optimizer: from parameters to an optimiser.
        lr_scheduler: from the optimiser to a scheduler; a ``Schedule`` steps once a step, others
            once an epoch.
        spec: sizes of the data; ``None`` asks the data module.
        conditional: give the network the labels.
    Raises:
        ValueError: a network that does not fit or cannot draw samples, or conditional on data
            without classes.
    """

    spec_type = TensorSpec
    monitor = "val/nll_nats"
    network: Any  # with sample, which nn.Module does not declare

    def __init__(
        self,
        network: DensityFactory,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.save_hyperparameters()
        self.network_factory, self.conditional = network, conditional

    def build(self, spec: TensorSpec) -> None:
        sizes: dict[str, Any] = {"shape": spec.shape}
        if self.conditional:
            if spec.out_channels < 2:
                raise ValueError(
                    f"conditional=True: the data has out_channels={spec.out_channels}, but "
                    f"labels of at least 2 classes are needed; leave it out"
                )
            sizes["num_classes"] = spec.out_channels
        labels = ("y",) if self.conditional else ()
        self.network = build_network(self.network_factory, sizes, "x", *labels, objective=self)
        if not callable(getattr(self.network, "sample", None)):
            raise ValueError(
                f"DensityEstimation draws with network.sample(num_samples), which "
                f"{type(self.network).__name__} does not have: choose a density"
            )

    def metrics(self, spec: TensorSpec) -> Mapping[str, Metric]:
        metrics: dict[str, Metric] = {"nll_nats": BatchMean()}
        discrete = getattr(self.network, "discrete", False)
        if spec.values in ("binary", "dequantized", "logit") or (
            spec.values == "unit" and discrete
        ):
            metrics["bits_per_dim"] = BatchMean()
        return metrics

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Log-likelihood ``[B]`` in nats."""
        return self.network(x) if y is None else self.network(x, y)

    def _log_prob(self, batch: tuple[Tensor, Tensor]) -> Tensor:
        x, y = batch
        log_prob = self(x, y if self.conditional else None)
        if log_prob.shape != x.shape[:1]:
            raise ValueError(
                f"{type(self.network).__name__} gave {list(log_prob.shape)} for x "
                f"{list(x.shape)}: a density gives one number for each example, [{len(x)}]"
            )
        return log_prob

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        loss = -self._log_prob(batch).mean()
        self.log_train(nll_nats=loss)
        return loss

    def evaluate(self, batch: tuple[Tensor, Tensor], stage: Stage) -> None:
        metrics, log_prob, x = self.evaluated(stage), self._log_prob(batch), batch[0]
        metrics["nll_nats"].update(-log_prob.mean(), len(x))
        if "bits_per_dim" in metrics:
            bits = bits_per_dim(log_prob, x, self.spec.values, self.spec.alpha)
            metrics["bits_per_dim"].update(bits.mean(), len(x))

    def predict_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Log-likelihood of each example in nats, ``[B]``."""
        return self._log_prob(batch)

    def sample(self, num_samples: int, y: Tensor | None = None) -> Tensor:
        """Draw examples ``[num_samples, *shape]``.

        Args:
            num_samples: how many.
            y: labels ``[num_samples]`` of a conditional network; ``None`` takes its classes in
                turn.
        Raises:
            ValueError: labels for a network that is not conditional.
        """
        if y is not None and not self.conditional:
            raise ValueError("y is given, but conditional=False: leave y out")
        if not self.conditional:
            return self.network.sample(num_samples)
        if y is None:
            y = balanced_labels(num_samples, self.spec.out_channels, self.device)
        return self.network.sample(num_samples, y)
