"""Files of images: which ones a folder holds, and their pixels."""

import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal, NamedTuple

import numpy as np
import torch
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch import Tensor

from trellis.files import read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image

ENDINGS = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SPLIT_NAMES = {"train", "training", "val", "valid", "validation", "dev", "test", "testing"}
Unreadable = Literal["error", "skip"]


class Form(NamedTuple):
    """What becomes of the pixels of a file.

    Args:
        size: height and width; ``None`` keeps them.
        grey: one channel instead of three.
        background: grey level behind what is transparent.
    """

    size: tuple[int, ...] | None = None
    grey: bool = False
    background: int = 255


def labelled_files(folder: Path) -> tuple[list[tuple[Path, int]], tuple[str, ...]]:
    """Images of a folder with their labels, and the names of its sub-folders, the classes.

    Raises:
        FileNotFoundError: no such folder.
        ValueError: images beside sub-folders of images, sub-folders that are splits, or a class
            without images.
    """
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


def read_files(
    paths: Sequence[Path], form: Form, unreadable: Unreadable = "error"
) -> tuple[Tensor, list[int]]:
    """Bytes ``[N, C, H, W]``, and which of the files they are.

    Args:
        paths: of the files.
        form: of the images.
        unreadable: raise an error about the first file that cannot be read, or skip all of them
            with a warning.
    Raises:
        ImportError: Pillow is missing.
        ValueError: a file cannot be read, or none can, or two have different sizes.
    """
    result = torch.empty(0)
    kept: list[int] = []
    problems: list[str] = []
    for number, path in enumerate(paths):
        try:
            pixels = read_pixels(path, str(path), form)
        except ValueError as error:
            if unreadable == "error":
                raise
            problems.append(str(error))
            continue
        if not kept:
            result = torch.empty(len(paths), *pixels.shape, dtype=torch.uint8)
        elif pixels.shape != result.shape[1:]:
            first = f"{paths[kept[0]]} has {measures(result.shape)}"
            raise ValueError(
                f"images of different sizes: {first}, {path} has {measures(pixels.shape)}: give "
                f"size= to scale them all"
            )
        result[len(kept)] = pixels
        kept.append(number)
    if problems and not kept:
        raise ValueError(
            f"none of {len(paths)} images can be read, the first one is {problems[0]}"
        )
    if problems:
        rank_zero_warn(f"{len(problems)} of {len(paths)} images are skipped: {problems[0]}")
    return result[: len(kept)], kept


def read_new_images(path: str, form: Form, unreadable: Unreadable) -> tuple[Tensor, list[str]]:
    """Bytes ``[N, C, H, W]`` and names of images to make predictions for.

    Args:
        path: of a file; of a folder, whose images at any depth are named by their paths in it; or
            ``-`` for one image in standard input.
        form: of the images.
        unreadable: see ``read_files``.
    Raises:
        FileNotFoundError: there is nothing there.
        ValueError: a folder without images; see also ``read_files``.
    """
    place = Path(path).expanduser()
    if not place.is_dir():
        file = io.BytesIO(read_bytes(path if path == "-" else place, "input"))
        return read_pixels(file, path, form)[None], [place.name]
    paths = list(_images_below(place))
    if not paths:
        raise ValueError(f"input={path}: the folder holds no images ({', '.join(ENDINGS)})")
    pixels, kept = read_files(paths, form, unreadable)
    return pixels, [paths[number].relative_to(place).as_posix() for number in kept]


def measures(shape: Sequence[int]) -> str:
    """Height and width of an image ``[..., H, W]`` in words."""
    return f"{shape[-2]}x{shape[-1]} (height x width)"


def read_pixels(source: Path | BinaryIO, name: str, form: Form) -> Tensor:
    """Bytes ``[C, H, W]`` of one image.

    Args:
        source: a path, or an open file.
        name: what errors call it.
        form: of the image.
    Raises:
        ImportError: Pillow is missing.
        ValueError: it cannot be read as an image.
    """
    try:
        from PIL import Image, ImageOps
    except ImportError as error:
        raise ImportError(
            "files of images are read with Pillow: pip install pillow", name="PIL"
        ) from error
    try:
        with Image.open(source) as file:
            image = ImageOps.exif_transpose(file)
            if image.mode.startswith(("I", "F")):
                raise ValueError(f"its pixels are of kind {image.mode}, not bytes")
            image = _opaque(image, form.background).convert("L" if form.grey else "RGB")
            image = _scaled(image, form.size)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (
            str(error)
            .splitlines()[0]
            .removesuffix(f" {source!r}")
            .removesuffix(f" {str(source)!r}")
        )
        raise ValueError(
            f"{name} cannot be read as an image ({reason}): repair or remove it"
        ) from None
    pixels = torch.from_numpy(np.array(image, dtype=np.uint8))
    return pixels[None] if form.grey else pixels.permute(2, 0, 1)


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
