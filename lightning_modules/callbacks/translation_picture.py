"""A picture of translated images."""

from typing import TYPE_CHECKING, Any

import lightning as L
import torch
from torch import Tensor

from trellis.analysis.images import image_picture, to_pixels
from trellis.checks import at_least_one
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
from trellis.lightning_modules.generative.adversarial_translation import AdversarialTranslation
from trellis.spec import TensorPairSpec, TensorSpec

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class TranslationGrid(PictureAfterFit):
    """Plots validation images, ``val/translations``, after a fit.

    Each row has an input, its translation and the true target.

    Args:
        num_images: rows.
    Raises:
        ValueError: the objective does not translate images, or they have neither one nor three
            channels.
    """

    key = "val/translations"

    def __init__(self, num_images: int = 8) -> None:
        self.num_images = at_least_one("num_images", num_images)

    def check(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """See ``PictureAfterFit``."""
        require_objective("TranslationGrid", pl_module, AdversarialTranslation)
        spec = data_spec(trainer, pl_module)
        sides = (spec.input, spec.target) if isinstance(spec, TensorPairSpec) else (spec,)
        for side in sides:
            require_images("TranslationGrid", side)

    def figure(self, trainer: L.Trainer, pl_module: L.LightningModule) -> "Figure | None":
        """See ``PictureAfterFit``."""
        if (found := first_examples(trainer, self.num_images)) is None:
            return None
        spec: Any = pl_module.spec
        x, y = found
        with evaluation(pl_module), trainer.precision_plugin.forward_context():
            translated = pl_module(x)
        shown = [(x, spec.input), (translated, spec.target), (y, spec.target)]
        pixels = torch.stack([_in_colour(images, each) for images, each in shown], 1)
        grid = TensorSpec(3, 0, spec.target.size, values="unit")
        return image_picture(pixels.flatten(0, 1), grid, columns=3)


def _in_colour(images: Tensor, spec: TensorSpec) -> Tensor:
    """Pixels ``[N, 3, H, W]`` in [0, 1]; those of grey images three times."""
    return to_pixels(images, spec).cpu().expand(-1, 3, -1, -1)
