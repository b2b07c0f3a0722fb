"""Pictures of the latent space of autoencoders, after a fit.

Legend: N images, L latent dimensions. Of a ``Variational`` objective a code is the mean of
q(z | x).
"""

from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from trellis.analysis.images import image_picture
from trellis.checks import at_least, at_least_one
from trellis.lightning_modules.callbacks.after_fit import (
    PictureAfterFit,
    evaluation,
    require_objective,
)
from trellis.lightning_modules.callbacks.generative_pictures import (
    data_spec,
    first_examples,
    require_images,
)
from trellis.lightning_modules.generative.autoencoder import Autoencoder
from trellis.lightning_modules.generative.variational import Variational

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Reconstructions(PictureAfterFit):
    """The first validation images above their reconstructions, ``val/reconstructions``.

    Args:
        num_images: to show, side by side.
    Raises:
        ValueError: the objective is neither ``Autoencoder`` nor ``Variational``, or the data are
            not images.
    """

    key = "val/reconstructions"

    def __init__(self, num_images: int = 10) -> None:
        self.num_images = at_least_one("num_images", num_images)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        _require(self, trainer, pl_module, Autoencoder, Variational)

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        if (found := first_examples(trainer, self.num_images)) is None:
            return None
        x, y = found
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            again = decode(pl_module, encode(pl_module, x, y), y)
        rows = torch.cat([x.float(), again.float()])
        return image_picture(rows, pl_module.spec, columns=len(x))  # type: ignore[arg-type]


class Interpolations(PictureAfterFit):
    """Linear interpolations between the codes of two validation images, ``val/interpolations``.

    Each row shows one pair, with the reconstructions of the two images at its ends. With labels,
    a row has that of its first image.

    Args:
        num_pairs: rows.
        steps: images in a row, both ends included, at least 2.
    Raises:
        ValueError: the objective is neither ``Autoencoder`` nor ``Variational``, the data are not
            images, or there are fewer than two steps.
    """

    key = "val/interpolations"

    def __init__(self, num_pairs: int = 5, steps: int = 10) -> None:
        self.num_pairs = at_least_one("num_pairs", num_pairs)
        self.steps = at_least(2, "steps", steps, ", for both ends")

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        _require(self, trainer, pl_module, Autoencoder, Variational)

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        found = first_examples(trainer, 2 * self.num_pairs)
        if found is None or len(found[0]) < 2:
            return None
        x, y = (part[: len(part) // 2 * 2] for part in found)
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            codes = encode(pl_module, x, y)
            share = torch.linspace(0, 1, self.steps).to(codes)[:, None]
            rows = torch.lerp(codes[::2, None], codes[1::2, None], share)  # [pairs, steps, L]
            labels = y[::2].repeat_interleave(self.steps)
            images = decode(pl_module, rows.flatten(0, 1), labels).float()
        return image_picture(images, pl_module.spec, columns=self.steps)  # type: ignore[arg-type]


class LatentTraversals(PictureAfterFit):
    """Latent traversals, ``val/latent_traversals``: each row varies one latent dimension.

    Along a row the dimension increases from ``-reach`` to ``reach``, in standard deviations of
    the prior, while the others are 0. The most active dimensions come first: those whose
    posterior mean varies most over validation images. With labels, all images have class 0.

    Args:
        num_entries: rows, at most as many as there are latent dimensions.
        steps: images in a row.
        reach: largest value of the dimension.
        num_images: validation images from which the most active dimensions are found.
    Raises:
        ValueError: the objective is not ``Variational``, or the data are not images.

    Source: Higgins et al. 2017, figure 4; Burda et al. 2016, section 5.2 (active units).
    """

    key = "val/latent_traversals"

    def __init__(
        self, num_entries: int = 10, steps: int = 11, reach: float = 3.0, num_images: int = 500
    ) -> None:
        self.num_entries = at_least_one("num_entries", num_entries)
        self.steps = at_least_one("steps", steps)
        self.num_images = at_least_one("num_images", num_images)
        if not reach > 0:
            raise ValueError(f"reach={reach}: give more than 0")
        self.reach = reach

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        _require(self, trainer, pl_module, Variational)

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        if (found := first_examples(trainer, self.num_images)) is None:
            return None
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            codes = encode(pl_module, *found)
            chosen = codes.var(0, unbiased=False).argsort(descending=True)[: self.num_entries]
            values = torch.linspace(-self.reach, self.reach, self.steps).to(codes)
            rows = codes.new_zeros(len(chosen), self.steps, codes.size(1))
            rows[torch.arange(len(chosen)), :, chosen] = values
            labels = found[1].new_zeros(len(chosen) * self.steps)
            images = decode(pl_module, rows.flatten(0, 1), labels).float()
        return image_picture(images, pl_module.spec, columns=self.steps)  # type: ignore[arg-type]


def encode(objective: Any, x: Tensor, y: Tensor) -> Tensor:
    """Codes ``[N, L]`` of examples.

    Args:
        objective: ``Autoencoder`` or ``Variational``.
        x: examples.
        y: labels, used by a conditional objective.
    """
    return objective.predict_step((x, y), 0)


def decode(objective: Any, code: Tensor, y: Tensor) -> Tensor:
    """Examples ``[N, *shape]`` decoded from codes: means of p(x | z).

    Args:
        objective: ``Autoencoder`` or ``Variational``.
        code: ``[N, L]``.
        y: labels, used by a conditional objective.
    """
    if isinstance(objective, Autoencoder):
        parameters = objective.network.decode(code).unsqueeze(1)
    else:
        parameters = objective.network.decode(code, y if objective.conditional else None)
    return objective.likelihood.mean(parameters)


def _require(
    callback: L.Callback, trainer: L.Trainer, pl_module: L.LightningModule, *kinds: type
) -> None:
    """Refuse objectives of other kinds, and data other than images."""
    name = type(callback).__name__
    require_objective(name, pl_module, *kinds)
    require_images(name, data_spec(trainer, pl_module))
