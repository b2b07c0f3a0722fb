"""What the public data sets of labelled images share: bytes in memory, numbers batch by batch."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative
from trellis.datamodules.engine.base import SPLITS, DataModule, Inputs, Split, held_out
from trellis.datamodules.engine.downloads import fetch
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.image.augmented import (
    AugmentationFactory,
    ImageChanges,
    changed_loader,
    check_augmentable,
)
from trellis.datamodules.image.few_labels import LabelledDraw, few_labels
from trellis.datamodules.image.image_files import Form, read_new_images
from trellis.datamodules.image.pixels import VALUES, Pixels, PixelValues, image_loader
from trellis.files import FilePath, data_root
from trellis.spec import TensorSpec

Part = Literal["train", "test"]


class LabelledImages(DataModule):
    """Base of the data sets of images of one size with a training and a test part.

    A subclass says what they are, and reads them.

    Args:
        data_dir: the files are in ``data_dir/NAME/raw``, or are downloaded there; NAME is that of
            the class.
        batch_size: examples per batch.
        flatten: vectors instead of images.
        num_val: number of training images, drawn with a fixed seed, to validate on. 0 trains on
            all of them and validates on the test images: good for curves, not for model selection.
        pixels: ``normalized`` has mean 0 and variance 1 over the training pixels of each colour;
            for the others see ``PixelValues``. Random values of evaluation are drawn once.
        alpha: of ``logit`` pixels.
        augmentations: random changes of the training images, in this order, such as
            ``RandomCrop``; of ``normalized`` and ``unit`` pixels only. After ``Mixup`` training
            labels are probabilities ``[B, classes]``.
        num_labels: training images that keep their label, equally many of each class; the labels
            of the others are -100. ``None`` keeps all.
        labels_per_batch: with ``num_labels``, labelled images that are added to each training
            batch, drawn with replacement.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged.
        ValueError: ``num_val`` leaves nothing to train on, a label is out of range, ``pixels``
            or ``alpha`` is out of range, pixels of this kind cannot be augmented, or
            ``num_labels`` does not divide into the classes or is given with augmentations.
    """

    folder: ClassVar[str]
    files: ClassVar[Mapping[str, str | None]]  # with their checksums
    urls: ClassVar[tuple[str, ...]]
    classes: ClassVar[tuple[str, ...]]
    shape: ClassVar[tuple[int, int, int]]
    # Mean and standard deviation of each colour of the training pixels in [0, 1].
    mean: ClassVar[tuple[float, ...]]
    std: ClassVar[tuple[float, ...]]

    def __init__(
        self,
        data_dir: FilePath | None = None,
        batch_size: int = 64,
        flatten: bool = False,
        num_val: int = 5000,
        pixels: Literal["normalized"] | Pixels = "normalized",
        alpha: float = 1e-6,
        augmentations: Sequence[AugmentationFactory] = (),
        num_labels: int | None = None,
        labels_per_batch: int = 10,
    ) -> None:
        super().__init__()
        self.raw = data_root(data_dir) / self.folder / "raw"
        self.batch_size = at_least_one("batch_size", batch_size)
        self.num_val = not_negative("num_val", num_val)
        self.values = None if pixels == "normalized" else PixelValues(pixels, alpha)
        check_augmentable(augmentations, pixels, "normalized", "unit")
        self.changes = ImageChanges(augmentations, len(self.classes))
        if num_labels is not None and augmentations:
            raise ValueError(f"num_labels={num_labels}: give no augmentations, or all labels")
        self.num_labels = num_labels
        self.labels_per_batch = at_least_one("labels_per_batch", labels_per_batch)
        channels, *size = self.shape
        self.spec = TensorSpec(
            channels * size[0] * size[1] if flatten else channels,
            len(self.classes),
            () if flatten else tuple(size),
            self.classes,
            "real" if pixels == "normalized" else VALUES[pixels],
            alpha if pixels == "logit" else 0.0,
        )
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    @abstractmethod
    def read(self, part: Part) -> tuple[Tensor, Tensor]:
        """Pixels ``[N, C * H * W]`` as bytes, and labels ``[N]``."""

    def prepare_data(self) -> None:
        fetch(self.raw, self.files, self.urls)

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        self.splits = held_out(*self.read("train"), *self.read("test"), self.num_val)
        if self.num_labels is not None:
            x, y = self.splits["train"]
            self.splits["train"] = x, few_labels(y, self.num_labels, len(self.classes))

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        if split == "train" and self.changes:
            return changed_loader(
                *self.splits[split],
                self.changes,
                self.shape,
                self._finished,
                batch_size=self.batch_size,
                device=self.device,
            )
        return self._unchanged_loader(*self.splits[split], split)

    def inputs(self, path: str, spec: Any) -> Inputs:
        channels, *size = self.shape
        pixels, names = read_new_images(path, Form(tuple(size), channels == 1), "error")
        labels = torch.zeros(len(pixels), dtype=torch.long)
        return Inputs(self._unchanged_loader(pixels.flatten(1), labels, "test"), names)

    def _unchanged_loader(
        self, pixels: Tensor, labels: Tensor, split: Split
    ) -> Loader[tuple[Tensor, Tensor]]:
        train, values, fixed = split == "train", self.values, None
        if values is not None and values.is_fixed(train):
            fixed = values.fixed(pixels, SPLITS.index(split))
        draws = train and self.num_labels is not None
        return image_loader(
            pixels,
            labels,
            self.spec.shape,
            self._scaled if values is None or values.kind == "unit" else values,
            fixed,
            batch_size=self.batch_size,
            train=train,
            further=LabelledDraw(labels, self.labels_per_batch) if draws else None,
        )

    def _scaled(self, pixels: Tensor, epoch: int, first: int) -> Tensor:
        """Bytes ``[B, K]`` as they are or normalised, in floats."""
        mean, std = self._moments()
        if len(mean) == 1:
            # One pass from gathered bytes to floats: faster than indexing a float tensor.
            return torch.add(torch.tensor(-mean[0] / std[0]), pixels, alpha=1 / (255 * std[0]))
        colours = pixels.view(len(pixels), len(mean), -1)
        scale, shift = 1 / (255 * torch.tensor(std)), -torch.tensor(mean) / torch.tensor(std)
        return torch.addcmul(shift[:, None], colours, scale[:, None]).flatten(1)

    def _finished(self, x: Tensor) -> Tensor:
        """Images in [0, 1] as they are or normalised, of the shape that the spec says."""
        mean, std = (x.new_tensor(each)[:, None, None] for each in self._moments())
        return ((x - mean) / std).view(-1, *self.spec.shape)

    def _moments(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        return (self.mean, self.std) if self.values is None else ((0.0,), (1.0,))
