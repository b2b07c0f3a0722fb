"""Images and labels in the IDX files of MNIST and of the data sets made in its image."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from trellis.datamodules.engine.checks import check_labels
from trellis.datamodules.engine.downloads import damaged_file, read_gzip


def read_images(folder: Path, part: str) -> tuple[Tensor, Tensor]:
    """Pixels ``[N, 784]`` as bytes and labels ``[N]`` of ``part``, ``"train"`` or ``"test"``.

    Raises:
        FileNotFoundError: a file is missing.
        OSError: a file is damaged, or the two files differ in length.
        ValueError: a label is not a digit.
    """
    first = "t10k" if part == "test" else part
    images, labels = (
        folder / f"{first}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1")
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
