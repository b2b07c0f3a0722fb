"""Batches of images that are changed at random, on the device where they are learned from."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from trellis.datamodules.engine.loader import Loader
from trellis.labels import one_hot
from trellis.nn.augmentation import Augmentation
from trellis.random import hashed_integers

AugmentationFactory = Callable[[], Augmentation]
STEPS = 1 << 24  # of the uniform numbers: as many as float32 tells apart


class ImageChanges:
    """Augmentations one after the other.

    What happens to an image is a function of seed, epoch and the image; with whom ``Mixup`` mixes
    it, of the batch too.

    Args:
        augmentations: factories of the augmentations.
        num_classes: that labels can have.
    """

    def __init__(self, augmentations: Sequence[AugmentationFactory], num_classes: int) -> None:
        self.steps = [make() for make in augmentations]
        self.mixes_labels = any(step.mixes_labels for step in self.steps)
        self.num_classes = num_classes

    def __bool__(self) -> bool:
        return bool(self.steps)

    def __call__(
        self, x: Tensor, y: Tensor, indices: Tensor, seed: int, epoch: int
    ) -> tuple[Tensor, Tensor]:
        """Changed images, and labels or their probabilities.

        Args:
            x: images in [0, 1].
            y: labels.
            indices: which images they are, on the CPU.
            seed: of the random numbers.
            epoch: each has others.
        Shape:
            x ``[B, C, H, W]``, y and indices ``[B]`` -> x ``[B, C, H, W]``, y ``[B]`` or
            ``[B, num_classes]``
        """
        counts = [step.num_random for step in self.steps]
        keys = (epoch, indices[:, None], torch.arange(sum(counts)))
        uniform = hashed_integers(STEPS, seed, *keys).float().div_(STEPS).to(x.device)
        if self.mixes_labels:
            y = one_hot(y, self.num_classes)
        for step, numbers in zip(self.steps, uniform.split(counts, 1), strict=True):
            step.to(x.device)
            x, y = step(x, numbers), step.labels(y, numbers)
        return x, y


def check_augmentable(
    augmentations: Sequence[AugmentationFactory], pixels: str, *kinds: str
) -> None:
    """Check that pixels are numbers that augmentations can change.

    Args:
        augmentations: that are asked for.
        pixels: kind of the pixels.
        kinds: that can be changed.
    Raises:
        ValueError: there are augmentations, and the pixels are of another kind.
    """
    if augmentations and pixels not in kinds:
        wanted = " or ".join(map(repr, kinds))
        raise ValueError(
            f"pixels={pixels!r}: augmentations change pixels that are {wanted}; choose these, or "
            f"leave augmentations out"
        )


def changed_loader(
    pixels: Tensor,
    labels: Tensor,
    changes: ImageChanges,
    shape: tuple[int, ...],
    finish: Callable[[Tensor], Tensor],
    *,
    batch_size: int,
    device: torch.device,
) -> Loader[tuple[Tensor, Tensor]]:
    """Shuffled batches ``(x, y)`` to train on.

    Bytes go to the device, a quarter of the numbers that they become there.

    Args:
        pixels: bytes ``[N, C * H * W]``.
        labels: ``[N]``.
        changes: to make.
        shape: of an image, ``(C, H, W)``.
        finish: from the changed images in [0, 1] to what the network takes.
        batch_size: examples per batch.
        device: where the batches are made.
    """

    def batch(indices: Tensor) -> tuple[Tensor, Tensor]:
        x, y = (each.index_select(0, indices).to(device) for each in (pixels, labels))
        x, y = changes(x.view(-1, *shape) / 255, y, indices, loader.seed, loader.epoch)
        return finish(x), y

    loader = Loader(len(pixels), batch, batch_size=batch_size, shuffle=True)
    return loader
