"""Reproducible samples of an objective that leave the random state of a run alone."""

from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from trellis.labels import balanced_labels
from trellis.lightning_modules.generative.generative_objective import require_classes


def can_sample(objective: nn.Module) -> bool:
    """Whether an objective has ``sample(num_samples)``."""
    return callable(getattr(objective, "sample", None))


def require_samples(caller: str, objective: nn.Module) -> None:
    """Refuse an objective without ``sample(num_samples)``.

    Args:
        caller: what needs the samples, for the error.
        objective: any module.
    Raises:
        ValueError: names both.
    """
    if not can_sample(objective):
        raise ValueError(
            f"{caller} needs samples: it works with objectives that have sample(num_samples), "
            f"such as DensityEstimation, Variational and GAN, not with {type(objective).__name__}"
        )


def draw_samples(
    objective: Any,
    num_samples: int,
    *,
    seed: int,
    labels: Tensor | None = None,
    batch_size: int = 500,
) -> Tensor:
    """Draw samples of an objective in evaluation mode, on its device and in its data's units.

    The same seed gives the same samples of the same weights in every process, and the random
    states are restored afterwards.

    Args:
        objective: has ``sample``.
        num_samples: N.
        seed: of the random numbers.
        labels: classes of the samples of a conditional objective; ``None`` takes all classes
            about equally often. Of one conditional on real targets, these.
        batch_size: number of samples drawn at once.
    Shape:
        labels ``[N]`` or real targets ``[N, out_channels]`` -> ``[N, *shape]``
    Raises:
        ValueError: no real targets for an objective that is conditional on them.
    """
    if labels is None and getattr(objective, "conditional", False):
        require_classes(objective, "give labels, the targets to sample for")
        labels = balanced_labels(num_samples, objective.spec.out_channels)
    modes = {module: module.training for module in objective.modules()}
    objective.eval()
    parts: list[Tensor] = []
    try:
        with isolate_rng(), torch.no_grad():
            torch.manual_seed(seed)
            for start in range(0, num_samples, batch_size):
                number = min(batch_size, num_samples - start)
                if labels is None:
                    parts.append(objective.sample(number))
                else:
                    y = labels[start : start + number].to(objective.device)
                    parts.append(objective.sample(number, y))
    finally:
        for module, training in modes.items():
            module.training = training
    return torch.cat(parts)
