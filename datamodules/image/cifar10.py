"""Colour photographs of 32x32 pixels in ten classes."""

import tarfile
from pathlib import Path

import torch
from torch import Tensor

from trellis.datamodules.engine.checks import check_labels
from trellis.datamodules.engine.downloads import DAMAGE, damaged_file, require_file
from trellis.datamodules.image.labelled_images import LabelledImages, Part

ARCHIVE = "cifar-10-binary.tar.gz"
PIXELS = 3 * 32 * 32  # bytes of an image, behind the byte of its label
MEMBERS: dict[Part, tuple[str, ...]] = {
    "train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("test_batch.bin",),
}


class CIFAR10(LabelledImages):
    """60,000 photographs in colour, 10 classes.

    Batch: ``(x, y)`` with ``x [B, 3, 32, 32]`` (or ``[B, 3072]``) and labels ``y [B]``. The file
    is the authors' binary version, ``cifar-10-binary.tar.gz``; unlike the one for Python it runs
    no code when it is read.

    ====== ===== ====== =======
    train  val   test   classes
    ====== ===== ====== =======
    45,000 5,000 10,000 10
    ====== ===== ====== =======

    Source: Krizhevsky 2009, chapter 3.
    """

    folder = "CIFAR10"
    files = {ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530"}
    urls = ("https://www.cs.toronto.edu/~kriz",)
    classes = (
        "airplane", "automobile", "bird", "cat", "deer",
        "dog", "frog", "horse", "ship", "truck",
    )  # fmt: skip
    shape = (3, 32, 32)
    mean, std = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)

    def read(self, part: Part) -> tuple[Tensor, Tensor]:
        return read_records(self.raw / ARCHIVE, MEMBERS[part])


def read_records(archive: Path, members: tuple[str, ...]) -> tuple[Tensor, Tensor]:
    """Pixels ``[N, 3072]`` as bytes, colour by colour, and labels ``[N]``.

    Raises:
        FileNotFoundError: the archive is missing.
        OSError: it is damaged, lacks a member, or a member is no whole number of images.
        ValueError: a label is none of the ten.
    """
    require_file(archive)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(archive) as tar:
            for entry in tar:
                name = Path(entry.name).name
                if name in members and (file := tar.extractfile(entry)) is not None:
                    found[name] = file.read()
    except (*DAMAGE, tarfile.TarError) as error:
        raise damaged_file(archive, error) from error
    for name in members:
        if name not in found:
            raise damaged_file(archive, f"it holds no {name}")
        if not found[name] or len(found[name]) % (1 + PIXELS):
            raise damaged_file(
                archive, f"{name} has {len(found[name])} bytes, no multiple of {1 + PIXELS}"
            )
    content = bytearray(b"".join(found[name] for name in members))
    records = torch.frombuffer(content, dtype=torch.uint8).view(-1, 1 + PIXELS)
    labels = records[:, 0].long()
    check_labels(labels, 10, str(archive))
    return records[:, 1:].contiguous(), labels
