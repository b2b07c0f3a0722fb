"""Handwritten digits of 28x28 pixels, read from the original IDX files."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from trellis.checks import at_least_one, not_negative
from trellis.datamodules.engine.base import SPLITS, DataModule, Split
from trellis.datamodules.engine.checks import check_labels
from trellis.datamodules.engine.downloads import damaged_file, fetch, read_gzip
from trellis.datamodules.engine.loader import Loader
from trellis.datamodules.image.pixels import VALUES, Pixels, PixelValues, image_loader
from trellis.files import FilePath, data_root
from trellis.spec import TensorSpec

MEAN, STD = 0.1307, 0.3081  # of the training pixels in [0, 1]
URLS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist",
    "https://storage.googleapis.com/cvdf-datasets/mnist",
)
FILES = {
    "train-images-idx3-ubyte.gz": "sha256:"
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
    "train-labels-idx1-ubyte.gz": "sha256:"
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
    "t10k-images-idx3-ubyte.gz": "sha256:"
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
    "t10k-labels-idx1-ubyte.gz": "sha256:"
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
}


class MNIST(DataModule):
    """70,000 handwritten digits, 10 classes.

    Batch: ``(x, y)`` with ``x [B, 1, 28, 28]`` (or ``[B, 784]``) and labels ``y [B]``. Pixels
    are bytes in memory and are converted to floats batch by batch.

    ====== ===== ====== =======
    train  val   test   classes
    ====== ===== ====== =======
    55,000 5,000 10,000 10
    ====== ===== ====== =======

    Args:
        data_dir: the files are in ``data_dir/MNIST/raw``, or are downloaded there.
        batch_size: examples per batch.
        flatten: vectors of 784 features instead of images with one channel.
        num_val: number of training images, drawn with a fixed seed, to validate on. 0 trains on
            all of them and validates on the test images: good for curves, not for model selection.
        pixels: ``normalized`` has mean 0 and variance 1 over the training pixels; for the others
            see ``PixelValues``. Random values of evaluation are drawn once.
        alpha: of ``logit`` pixels.
    Raises:
        FileNotFoundError: the files are missing and cannot be downloaded.
        OSError: a file is damaged.
        ValueError: ``num_val`` leaves nothing to train on, a label is not a digit, or ``pixels``
            or ``alpha`` is out of range.

    Source: LeCun, Cortes and Burges 1998.
    """

    def __init__(
        self,
        data_dir: FilePath | None = None,
        batch_size: int = 64,
        flatten: bool = False,
        num_val: int = 5000,
        pixels: Literal["normalized"] | Pixels = "normalized",
        alpha: float = 1e-6,
    ) -> None:
        super().__init__()
        self.raw = data_root(data_dir) / "MNIST" / "raw"
        self.batch_size = at_least_one("batch_size", batch_size)
        self.flatten, self.num_val = flatten, not_negative("num_val", num_val)
        self.values = None if pixels == "normalized" else PixelValues(pixels, alpha)
        classes = tuple(str(digit) for digit in range(10))
        channels, size = (784, ()) if flatten else (1, (28, 28))
        self.spec = TensorSpec(channels, 10, size, classes)
        if pixels != "normalized":
            kept = alpha if pixels == "logit" else 0.0
            self.spec = replace(self.spec, values=VALUES[pixels], alpha=kept)
        self.splits: dict[str, tuple[Tensor, Tensor]] = {}

    def prepare_data(self) -> None:
        fetch(self.raw, FILES, URLS)

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        x, y = read_images(self.raw, "train")
        test = read_images(self.raw, "t10k")
        if self.num_val >= len(x):
            raise ValueError(
                f"num_val={self.num_val}: give less than the {len(x)} training images"
            )
        if self.num_val == 0:
            self.splits = {"train": (x, y), "val": test, "test": test}
            return
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        train, val = order[: -self.num_val], order[-self.num_val :]
        self.splits = {"train": (x[train], y[train]), "val": (x[val], y[val]), "test": test}

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        pixels, labels = self.splits[split]
        train, values, fixed = split == "train", self.values, None
        if values is not None and values.is_fixed(train):
            fixed = values.fixed(pixels, SPLITS.index(split))
        mean, std = (MEAN, STD) if values is None else (0.0, 1.0)
        scale, shift = 1 / (255 * std), torch.tensor(-mean / std)

        def scaled(pixels: Tensor, epoch: int, first: int) -> Tensor:
            # One pass from gathered bytes to floats: faster than indexing a float tensor.
            return torch.add(shift, pixels, alpha=scale)

        return image_loader(
            pixels,
            labels,
            self.spec.shape,
            scaled if values is None or values.kind == "unit" else values,
            fixed,
            batch_size=self.batch_size,
            train=train,
        )


def read_images(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Pixels ``[N, 784]`` as bytes and labels ``[N]`` of ``part``, ``"train"`` or ``"t10k"``.

    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file is damaged, or the two files differ in length.
        ValueError: a label is not a digit.
    """
    images, labels = (
        folder / f"{part}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")
    )
    x, y = read_idx(images, 3), read_idx(labels, 1).long()
    if x.shape[1:] != (28, 28):
        raise damaged_file(images, f"images of {x.shape[1]}x{x.shape[2]} pixels instead of 28x28")
    if len(x) != len(y):
        raise OSError(f"{labels} has {len(y)} labels for the {len(x)} images of {images.name}")
    check_labels(y, 10, str(labels))
    return x.flatten(1), y


def read_idx(path: Path, dims: int) -> Tensor:
    """Bytes of a compressed IDX file as a tensor of ``dims`` dimensions.

    Raises:
        FileNotFoundError: the file is missing.
        OSError: it is not an IDX file of bytes with ``dims`` dimensions, or is truncated.
    """
    content = read_gzip(path)
    header = 4 + 4 * dims
    if content[:4] != bytes((0, 0, 8, dims)) or len(content) < header:
        magic = content[:4].hex() or "nothing"
        raise damaged_file(path, f"it starts with {magic} instead of 000008{dims:02x}")
    shape = np.frombuffer(content, ">u4", dims, offset=4).astype(int).tolist()
    if len(content) - header != np.prod(shape):
        raise damaged_file(
            path, f"{len(content) - header} bytes instead of {'x'.join(map(str, shape))}"
        )
    return torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=header).view(shape)
