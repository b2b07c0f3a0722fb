"""Any folder of images, with its sub-folders as classes."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import SPLITS, DataModule, Inputs, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.image.augmented import (
    AugmentationFactory,
    ImageChanges,
    changed_loader,
    check_augmentable,
)
from trellis.datamodules.image.image_files import (
    Form,
    Unreadable,
    labelled_files,
    measures,
    read_files,
    read_new_images,
)
from trellis.datamodules.image.pixels import VALUES, Pixels, PixelValues, image_loader
from trellis.files import FilePath
from trellis.spec import TensorSpec

BLOCK = 1000  # images per random draw


class ImageFolder(DataModule):
    """Images of a folder, kept in memory as bytes.

    Each sub-folder is a class, with images at any depth; images without sub-folders are one class
    without a name. Hidden files and files without an image extension are skipped. Batch:
    ``(x, y)`` with ``x [B, C, H, W]`` (or ``[B, C * H * W]``) and labels ``y [B]``; C is 3, or 1
    for grey images. The splits are random, with a fixed seed.

    Args:
        path: the folder.
        size: height and width of all images, or one number for both: each image is cropped to
            this aspect ratio around its centre, then scaled. ``None`` keeps the images as they
            are, which must be of one size.
        grey: convert images to one channel.
        background: grey level, 0 (black) to 255 (white), behind what is transparent.
        augmentations: random changes of the training images, in this order, such as
            ``RandomCrop``; of ``unit`` pixels only. After ``Mixup`` training labels are
            probabilities ``[B, classes]``.
        unreadable: ``error`` names the first image that cannot be read, ``skip`` leaves all such
            images out, with a warning.
        batch_size: examples per batch.
        flatten: vectors instead of images.
        val_share: share of the images for validation; at least one image.
        test_share: share of the images for test; at least one image.
        seed: of the splits and of random pixel values.
        pixels: values of the pixels, see ``PixelValues``; those of evaluation are drawn once.
        alpha: of ``logit`` pixels.
    Raises:
        FileNotFoundError: no such folder.
        ImportError: Pillow is missing; says how to install it.
        ValueError: fewer than three images, one that cannot be read, images of different sizes
            if ``size`` is not given, a class without images, or without any to train on,
            images beside sub-folders of images, sub-folders that are splits, or an option out of
            range.
    """

    def __init__(
        self,
        path: FilePath,
        size: int | tuple[int, int] | None = None,
        grey: bool = False,
        batch_size: int = 64,
        flatten: bool = False,
        val_share: float = 0.1,
        test_share: float = 0.1,
        seed: int = 0,
        pixels: Pixels = "unit",
        alpha: float = 1e-6,
        background: int = 255,
        augmentations: Sequence[AugmentationFactory] = (),
        unreadable: Unreadable = "error",
    ) -> None:
        super().__init__()
        self.path = Path(path).expanduser()
        sides = (size, size) if isinstance(size, int) else None if size is None else (*size,)
        for side in sides or ():
            at_least_one("size", side)
        if min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise ValueError(
                f"val_share={val_share}, test_share={test_share}: give shares that leave some to "
                f"train on"
            )
        if not 0 <= background <= 255:
            raise ValueError(f"background={background}: give a grey level, 0 to 255")
        self.form = Form(sides, grey, background)
        self.unreadable = choose_from("unreadable", unreadable, Unreadable)
        check_augmentable(augmentations, pixels, "unit")
        self.augmentations = augmentations
        self.batch_size = at_least_one("batch_size", batch_size)
        self.flatten, self.seed = flatten, seed
        self.val_share, self.test_share = val_share, test_share
        self.values, self.alpha = PixelValues(pixels, alpha, seed), alpha
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        files, classes = labelled_files(self.path)
        self.changes = ImageChanges(self.augmentations, max(len(classes), 1))
        x, kept = read_files([path for path, _ in files], self.form, self.unreadable)
        if len(x) < 3:
            raise ValueError(f"{self.path} holds {len(x)} images: give at least 3, for 3 splits")
        labels = torch.tensor([files[number][1] for number in kept])
        channels, *size = x.shape[1:]
        self.size = tuple(size)
        kind = VALUES[self.values.kind]
        self.spec = TensorSpec(
            x[0].numel() if self.flatten else channels,
            max(len(classes), 1),
            () if self.flatten else tuple(size),
            classes,
            kind,
            self.alpha if kind == "logit" else 0.0,
        )
        val, test = (max(1, round(s * len(x))) for s in (self.val_share, self.test_share))
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(self.seed))
        parts = order.split([len(x) - val - test, val, test])
        self._check_every_class_trains(labels[parts[0]], classes)
        self.splits = {
            split: (x[part].flatten(1), labels[part])
            for split, part in zip(SPLITS, parts, strict=True)
        }

    def _check_every_class_trains(self, labels: Tensor, classes: tuple[str, ...]) -> None:
        counts = labels.bincount(minlength=len(classes)).tolist()
        if missing := [name for name, count in zip(classes, counts, strict=False) if not count]:
            raise ValueError(
                f"{self.path}: no image of {missing[0]!r} is in the training split, of "
                f"{len(labels)} images: give more of them, smaller shares or another seed"
            )

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        if split == "train" and self.changes:
            channels = 1 if self.form.grey else 3
            return changed_loader(
                *self.splits[split],
                self.changes,
                (channels, *self.size),
                lambda x: x.view(-1, *self.spec.shape),
                batch_size=self.batch_size,
                device=self.device,
            )
        return self._loader(*self.splits[split], self.spec, split)

    def _loader(
        self, pixels: Tensor, labels: Tensor, spec: TensorSpec, split: Split
    ) -> Loader[tuple[Tensor, Tensor]]:
        train, fixed = split == "train", None
        if self.values.is_fixed(train):
            blocks = enumerate(pixels.split(BLOCK))
            place = SPLITS.index(split)
            fixed = torch.cat([self.values.fixed(block, place, n) for n, block in blocks])
        return image_loader(
            pixels,
            labels,
            spec.shape,
            self.values,
            fixed,
            batch_size=self.batch_size,
            train=train,
        )

    def inputs(self, path: str, spec: Any) -> Inputs:
        pixels, names = read_new_images(path, self.form, self.unreadable)
        shape = (pixels[0].numel(),) if self.flatten else tuple(pixels.shape[1:])
        if shape != spec.shape:
            raise ValueError(
                f"input={path}: {names[0]} has {measures(pixels.shape)} and {pixels.size(1)} "
                f"channels, but the model learned from {list(spec.shape)}: give data.size to "
                f"scale new images"
            )
        labels = torch.zeros(len(pixels), dtype=torch.long)
        return Inputs(self._loader(pixels.flatten(1), labels, spec, "test"), names)
