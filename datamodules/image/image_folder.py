"""Any folder of images, with its sub-folders as classes."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import SPLITS, DataModule, Split
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.image.pixels import VALUES, Pixels, PixelValues, image_loader
from trellis.files import FilePath
from trellis.spec import TensorSpec

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
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
            if ``size`` is not given, a class without images, images beside sub-folders of
            images, sub-folders that are splits, or an option out of range.
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
    ) -> None:
        super().__init__()
        self.path, self.grey = Path(path).expanduser(), grey
        self.size = (size, size) if isinstance(size, int) else None if size is None else (*size,)
        for side in self.size or ():
            at_least_one("size", side)
        if min(val_share, test_share) < 0 or val_share + test_share >= 1:
            raise ValueError(
                f"val_share={val_share}, test_share={test_share}: give shares that leave some to "
                f"train on"
            )
        if not 0 <= background <= 255:
            raise ValueError(f"background={background}: give a grey level, 0 to 255")
        self.background = background
        self.batch_size = at_least_one("batch_size", batch_size)
        self.flatten, self.seed = flatten, seed
        self.val_share, self.test_share = val_share, test_share
        self.values, self.alpha = PixelValues(pixels, alpha, seed), alpha
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        files, classes = _files(self.path)
        if len(files) < 3:
            raise ValueError(
                f"{self.path} holds {len(files)} images: give at least 3, for 3 splits"
            )
        x = _read(files, self.size, self.grey, self.background)
        labels = torch.tensor([label for _, label in files])
        channels, *size = x.shape[1:]
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
        self.splits = {
            split: (x[part].flatten(1), labels[part])
            for split, part in zip(SPLITS, parts, strict=True)
        }

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        pixels, labels = self.splits[split]
        train, fixed = split == "train", None
        if self.values.is_fixed(train):
            blocks = enumerate(pixels.split(BLOCK))
            place = SPLITS.index(split)
            fixed = torch.cat([self.values.fixed(block, place, n) for n, block in blocks])
        return image_loader(
            pixels,
            labels,
            self.spec.shape,
            self.values,
            fixed,
            batch_size=self.batch_size,
            train=train,
        )


def _files(folder: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Images with their labels, and the names of the classes, in alphabetical order."""
    if not folder.is_dir():
        raise FileNotFoundError(f"path={folder}: there is no such folder")
    loose = [path for path in sorted(folder.iterdir()) if _is_image(path)]
    below = {
        path.name: list(_images_below(path))
        for path in sorted(folder.iterdir())
        if _is_class(path)
    }
    if not any(below.values()):
        return [(path, 0) for path in loose], ()
    if loose:
        raise ValueError(
            f"{folder} holds {loose[0].name} beside folders of images: move it into the folder of "
            f"its class"
        )
    splits = [name for name in below if name.lower() in SPLIT_NAMES]
    if len(splits) > 1:
        raise ValueError(
            f"{folder} holds the folders {', '.join(splits)}, which are splits and no classes: "
            f"give path={folder / splits[0]}, or move the images of each class into one folder"
        )
    if empty := [name for name, images in below.items() if not images]:
        raise ValueError(f"{folder / empty[0]} holds no images: remove it, or add some")
    labelled = [(path, label) for label, images in enumerate(below.values()) for path in images]
    return labelled, tuple(below)


def _is_class(path: Path) -> bool:
    return path.is_dir() and not path.name.startswith(".")


def _is_image(path: Path) -> bool:
    visible = not path.name.startswith(".")
    return visible and path.suffix.lower() in ENDINGS and path.is_file()


def _images_below(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _is_class(path):
            yield from _images_below(path)
        elif _is_image(path):
            yield path


def _read(
    files: list[tuple[Path, int]], size: tuple[int, ...] | None, grey: bool, background: int
) -> Tensor:
    """Bytes ``[N, C, H, W]``."""
    first = _pixels(files[0][0], size, grey, background)
    result = torch.empty(len(files), *first.shape, dtype=torch.uint8)
    for number, (path, _) in enumerate(files):
        pixels = first if number == 0 else _pixels(path, size, grey, background)
        if pixels.shape != first.shape:
            raise ValueError(
                f"images of different sizes: {files[0][0]} has {_measures(first.shape)}, {path} "
                f"has {_measures(pixels.shape)}: give size= to scale them all"
            )
        result[number] = pixels
    return result


def _measures(shape: torch.Size) -> str:
    return f"{shape[1]}x{shape[2]} (height x width)"


def _pixels(path: Path, size: tuple[int, ...] | None, grey: bool, background: int) -> Tensor:
    """Bytes ``[C, H, W]`` of one file."""
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "ImageFolder reads files with Pillow: pip install pillow", name="PIL"
        ) from error
    try:
        with Image.open(path) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are of kind {image.mode}, not bytes")
            image = _opaque(image, background).convert("L" if grey else "RGB")
            image = _scaled(image, size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = str(error).splitlines()[0].removesuffix(f" {str(path)!r}")
        raise ValueError(
            f"{path} cannot be read as an image ({reason}): repair or remove it"
        ) from None
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if grey else pixels.permute(2, 0, 1)


def _opaque(image: "Image", background: int) -> "Image":
    """The image as it is seen on a background of one grey."""
    from PIL import Image

    if image.mode.upper() not in ("RGBA", "LA", "PA") and "transparency" not in image.info:
        return image
    behind = Image.new("RGBA", image.size, (background, background, background, 255))
    return Image.alpha_composite(behind, image.convert("RGBA"))


def _scaled(image: "Image", size: tuple[int, ...] | None) -> "Image":
    from PIL import Image

    if size is None or image.size == (size[1], size[0]):
        return image
    width = min(image.width, max(1, round(image.height * size[1] / size[0])))
    height = min(image.height, max(1, round(image.width * size[0] / size[1])))
    left, top = (image.width - width) // 2, (image.height - height) // 2
    # Crop before scaling: interpolation must not use pixels outside of the crop.
    middle = image.crop((left, top, left + width, top + height))
    return middle.resize((size[1], size[0]), Image.Resampling.BICUBIC)
