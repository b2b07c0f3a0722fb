"""Samples of an objective, the same for the same seed, whatever is drawn around them."""

from typing import Any

import torch
from lightning.pytorch.utilities.seed import isolate_rng
from torch import Tensor, nn

from trellis.labels import balanced_labels


def can_sample(objective: nn.Module) -> bool:
    """Whether an objective has ``sample(num_samples)``."""
    return callable(getattr(objective, "sample", None))


def require_samples(asker: str, objective: nn.Module) -> None:
    """Refuse an objective without ``sample(num_samples)``.

    Raises:
        ValueError: names who asks and the objective.
    """
    if not can_sample(objective):
        raise ValueError(
            f"{asker} asks for samples: it works with objectives that have sample(num_samples), "
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
    """Samples of an objective in evaluation mode, on its device and in the units of its data.

    Nothing else feels the draws: the random states are as before. The same seed gives the same
    samples of the same weights, in every process.

    Args:
        objective: has ``sample``.
        num_samples: how many.
        seed: of the draws.
        labels: classes of the samples, for an objective that is conditional; ``None`` takes its
            classes in turn.
        batch_size: samples drawn at once.
    Shape:
        labels ``[num_samples]`` -> ``[num_samples, *shape]``
    """
    if labels is None and getattr(objective, "conditional", False):
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
