"""Random changes of images to train on, each a function of uniform numbers that it is given.

An ``Augmentation`` draws nothing itself: it says how many numbers it wants for an image. A data
module derives them from the seed, the epoch and the image, so that the same image is changed in
the same way after a resume, in any process, in any batch and on any device.
"""

import math
from abc import ABC, abstractmethod

import numpy as np
import torch
from torch import Tensor, nn

from trellis.checks import at_least_one, not_negative, positive, probability
from trellis.functional.augmentation import (
    cut_out,
    flip_images,
    mix_up,
    recolour_images,
    rotate_images,
    shift_images,
)

NUM_PROPORTIONS = 1 << 14  # of mixup


class Augmentation(nn.Module, ABC):
    """Base of the random changes of images.

    Attributes:
        num_random: uniform numbers that it takes for each image, U.
        mixes_labels: whether it changes labels too, which then are probabilities.
    Shape:
        x ``[B, C, H, W]`` in [0, 1], uniform ``[B, U]`` in [0, 1) -> ``[B, C, H, W]``
    """

    num_random: int
    mixes_labels = False

    @abstractmethod
    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        """The changed images."""

    def labels(self, y: Tensor, uniform: Tensor) -> Tensor:
        """The labels of the changed images.

        Args:
            y: labels, or probabilities of the classes if it ``mixes_labels``.
            uniform: the numbers that ``forward`` was given.
        Shape:
            y ``[B]`` or ``[B, num_classes]`` -> the same
        """
        return y


class RandomCrop(Augmentation):
    """A crop of the image's own size from the image with zeros around it.

    Args:
        padding: zeros on each side, in pixels.
    Raises:
        ValueError: it is below 1.

    Source: He et al. 2016, section 4.2, with 4 for CIFAR.
    """

    num_random = 2

    def __init__(self, padding: int = 4) -> None:
        super().__init__()
        self.padding = at_least_one("padding", padding)

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        offset = (uniform * (2 * self.padding + 1)).long() - self.padding
        return shift_images(x, offset[:, 0], offset[:, 1])


class RandomFlip(Augmentation):
    """The mirror image, left to right, of some images.

    Args:
        chance: probability of each image to be mirrored.
    Raises:
        ValueError: it lies outside [0, 1].
    """

    num_random = 1

    def __init__(self, chance: float = 0.5) -> None:
        super().__init__()
        self.chance = probability("chance", chance)

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        return flip_images(x, uniform[:, 0] < self.chance)


class RandomRotation(Augmentation):
    """The image turned about its centre.

    Args:
        degrees: largest angle, in either direction.
    Raises:
        ValueError: it is negative.
    """

    num_random = 1

    def __init__(self, degrees: float = 10.0) -> None:
        super().__init__()
        self.degrees = not_negative("degrees", degrees)

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        return rotate_images(x, math.radians(self.degrees) * (2 * uniform[:, 0] - 1))


class RandomColour(Augmentation):
    """Another brightness, contrast and saturation; each factor is uniform in 1 ± its strength.

    Args:
        brightness: strength, in [0, 1].
        contrast: strength.
        saturation: strength; without effect on grey images.
    Raises:
        ValueError: a strength lies outside [0, 1].
    """

    num_random = 3

    def __init__(
        self, brightness: float = 0.2, contrast: float = 0.2, saturation: float = 0.2
    ) -> None:
        super().__init__()
        strengths = {"brightness": brightness, "contrast": contrast, "saturation": saturation}
        self.strengths = [probability(name, value) for name, value in strengths.items()]

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        signed = (2 * uniform - 1).unbind(1)
        factors = [1 + each * u for each, u in zip(self.strengths, signed, strict=True)]
        return recolour_images(x, *factors)


class Cutout(Augmentation):
    """A square of zeros around a random pixel, which may reach over the edge.

    Args:
        size: side of the square in pixels.
    Raises:
        ValueError: it is below 1.

    Source: DeVries and Taylor 2017, section 3; 16 for CIFAR-10.
    """

    num_random = 2

    def __init__(self, size: int = 8) -> None:
        super().__init__()
        self.size = at_least_one("size", size)

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        rows, columns = (uniform[:, i].mul(x.size(i - 2)).long() for i in (0, 1))
        return cut_out(x, rows, columns, self.size)


class Mixup(Augmentation):
    """Each image mixed with another of its batch, and their labels in the same proportion.

    Args:
        alpha: both parameters of the Beta distribution of the proportion; small ones leave most
            images nearly as they are.
    Raises:
        ValueError: it is not above 0.

    Source: Zhang et al. 2018, section 2; 0.2 for ImageNet, 1 for CIFAR-10. Deviates: the
    proportion is one of 16,384 draws.
    """

    num_random = 1
    mixes_labels = True
    proportions: Tensor

    def __init__(self, alpha: float = 0.2) -> None:
        super().__init__()
        positive("alpha", alpha)
        # Beta distributions have no quantile function in torch; a sample needs none.
        draws = np.random.default_rng(0).beta(alpha, alpha, NUM_PROPORTIONS)
        self.register_buffer("proportions", torch.from_numpy(draws).float(), persistent=False)

    def forward(self, x: Tensor, uniform: Tensor) -> Tensor:
        return mix_up(x, self._weights(uniform))

    def labels(self, y: Tensor, uniform: Tensor) -> Tensor:
        return mix_up(y, self._weights(uniform))

    def _weights(self, uniform: Tensor) -> Tensor:
        return self.proportions[(uniform[:, 0] * NUM_PROPORTIONS).long()]
