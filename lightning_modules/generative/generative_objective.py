"""The base of objectives that draw samples."""

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from trellis.checks import at_least
from trellis.generative.bits_per_dim import bits_per_dim
from trellis.labels import balanced_labels
from trellis.lightning_modules.engine.build_network import require_targets
from trellis.lightning_modules.engine.evaluation import BatchMean
from trellis.lightning_modules.engine.objective import Objective
from trellis.spec import TensorSpec


def likelihood_metrics(
    spec: TensorSpec, name: str = "", *, discrete: bool = False
) -> dict[str, Metric]:
    """``NAMEnll_nats``, and ``NAMEbits_per_dim`` where the values stand for bits or bytes.

    Args:
        spec: of the data.
        name: a prefix, as of an estimator beside another.
        discrete: whether it is a probability of levels, not a density.
    """
    metrics: dict[str, Metric] = {f"{name}nll_nats": BatchMean()}
    if spec.values in ("binary", "dequantized", "logit") or (spec.values == "unit" and discrete):
        metrics[f"{name}bits_per_dim"] = BatchMean()
    return metrics


def given_real_targets(objective: Any) -> bool:
    """Whether any objective is conditional, and on real targets instead of classes."""
    spec = getattr(objective, "spec", None)
    return getattr(objective, "conditional", False) and getattr(spec, "targets", "") == "real"


def require_classes(objective: Any, advice: str) -> None:
    """Refuse an objective that is conditional on real targets, which cannot be taken in turn.

    Args:
        objective: any; one without ``conditional`` is not.
        advice: what to do.
    Raises:
        ValueError: says that it is.
    """
    if given_real_targets(objective):
        count = objective.spec.out_channels
        raise ValueError(
            f"this {type(objective).__name__} is conditional on {count} real targets, "
            f"not on classes: {advice}"
        )


class GenerativeObjective(Objective):
    """Base of the objectives that draw samples, given labels if they are conditional.

    A subclass builds its networks with ``sizes`` and defines ``draw``.

    Batch: ``(x, y)`` with examples ``x [B, *shape]`` and labels ``y [B]`` or real targets
    ``y [B, out_channels]``, which are used by conditional networks only.

    Args:
        conditional: condition the networks on the labels, or on real targets if they can.
    """

    spec_type = TensorSpec
    # Whether networks can be conditioned on real targets, too.
    real_context: ClassVar[bool] = False

    def __init__(
        self,
        optimizer: OptimizerCallable,
        lr_scheduler: LRSchedulerCallable | None = None,
        spec: TensorSpec | None = None,
        conditional: bool = False,
    ) -> None:
        super().__init__(optimizer, lr_scheduler, spec)
        self.conditional = conditional

    def sizes(self, spec: TensorSpec) -> dict[str, Any]:
        """The sizes with which networks are built.

        They are ``shape`` and, if conditional, ``num_classes``, or ``context_features`` where the
        targets are real.

        Raises:
            ValueError: conditional, but the data has no labels of at least two classes.
        """
        if not self.conditional:
            return {"shape": spec.shape}
        if self.real_context and spec.targets == "real":
            return {"shape": spec.shape, "context_features": spec.out_channels}
        require_targets(spec, "labels", "conditional=True needs", "leave it out")
        reason = ", the classes of the data, or leave it out"
        at_least(2, "conditional=True: out_channels", spec.out_channels, reason)
        return {"shape": spec.shape, "num_classes": spec.out_channels}

    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """Draw samples ``[N, *shape]``.

        Args:
            num_samples: N.
            y: labels ``[N]``, if the objective is conditional; ``None`` takes all classes about
                equally often. Real targets ``[N, out_channels]``, if it is conditional on those.
            generator: of the random numbers; torch's own by default.
        Raises:
            ValueError: y, but the objective is not conditional; or no real targets, but it is
                conditional on them.
        """
        if y is not None and not self.conditional:
            raise ValueError("y is given, but conditional=False: leave y out")
        if y is None and self.conditional:
            require_classes(self, "give y, the targets to sample for")
            y = balanced_labels(num_samples, self.spec.out_channels, self.device)
        return self.draw(num_samples, y, generator)

    def count_likelihood(
        self, metrics: MetricCollection, log_prob: Tensor, x: Tensor, name: str = ""
    ) -> None:
        """Count ``NAMEnll_nats``, and ``NAMEbits_per_dim`` where there is such a metric."""
        metrics[f"{name}nll_nats"].update(-log_prob.mean(), len(x))
        if (bits := f"{name}bits_per_dim") in metrics:
            found = bits_per_dim(log_prob, x, self.spec.values, self.spec.alpha)
            metrics[bits].update(found.mean(), len(x))

    @abstractmethod
    def draw(
        self, num_samples: int, y: Tensor | None, generator: torch.Generator | None
    ) -> Tensor:
        """Samples ``[N, *shape]`` of labels ``y [N]``, which are ``None`` if not conditional."""
