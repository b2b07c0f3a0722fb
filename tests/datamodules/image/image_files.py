"""Small files in the layouts of the public data sets of images."""

import gzip
import struct
from pathlib import Path

import torch

from trellis.files import atomic_write


def idx(array: torch.Tensor) -> bytes:
    """A tensor of bytes as an IDX file."""
    header = struct.pack(f">BBBB{array.dim()}I", 0, 0, 8, array.dim(), *array.shape)
    return header + bytes(array.flatten().int().tolist())


def write(folder: Path, name: str, content: bytes) -> None:
    with atomic_write(folder / name) as file:  # two processes may write the same
        file.write(gzip.compress(content))


def write_idx_files(data_dir: Path, name: str = "MNIST", num_train: int = 40) -> Path:
    """Images whose first pixel is their number, and whose label is it modulo 10; 10 for test."""
    raw = data_dir / name / "raw"
    generator = torch.Generator().manual_seed(0)
    for part, count in (("train", num_train), ("t10k", 10)):
        images = torch.randint(0, 256, (count, 28, 28), generator=generator)
        images[:, 0, 0] = torch.arange(count) % 256
        write(raw, f"{part}-images-idx3-ubyte.gz", idx(images))
        write(raw, f"{part}-labels-idx1-ubyte.gz", idx(torch.arange(count) % 10))
    return data_dir
