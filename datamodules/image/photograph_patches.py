"""Small patches of two photographs that scikit-learn includes: colours without a download."""

import torch
from torch import Tensor

from trellis.checks import at_least_one
from trellis.datamodules.engine.base import DataModule, Split, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.spec import TensorSpec

HEIGHT, WIDTH = 427, 640  # of both photographs
# Rows of patches in a band: where those of each split begin, and how many they are.
ROWS: dict[Split, tuple[int, int]] = {"train": (0, 3), "val": (3, 1), "test": (4, 1)}
BAND = 5


class PhotographPatches(DataModule):
    """Square patches of two photographs in colour, a temple in China and a flower.

    Batch: ``(x, y)`` with ``x [B, 3, size, size]`` of levels k / 255 and the photograph
    ``y [B]``. Both are cut into bands of five rows of patches: three to train, one to validate and
    one to test, so that no pixel is in two splits. Patches to train overlap by all but ``stride``
    pixels, others do not; they stand in a fixed random order, so that the first show both. Of 16
    pixels there are 3,950 to train, 400 to validate, 400 to test.

    Args:
        size: height and width of a patch in pixels, 1 to 85.
        stride: pixels between patches to train.
        batch_size: patches per batch.
    Raises:
        ImportError: Pillow is not installed.
        ValueError: a size out of range.

    Source: scikit-learn's ``datasets.load_sample_images``, under CC BY 2.0; danielbuechele and
    vultilion on Flickr.
    """

    def __init__(self, size: int = 16, stride: int = 8, batch_size: int = 32) -> None:
        super().__init__()
        if at_least_one("size", size) > HEIGHT // BAND:
            raise ValueError(f"size={size}: give at most {HEIGHT // BAND}, five rows must fit")
        self.size, self.stride = size, at_least_one("stride", stride)
        self.batch_size = at_least_one("batch_size", batch_size)
        self.spec = TensorSpec(3, 2, (size, size), ("china", "flower"), "unit")
        self.splits: dict[Split, tuple[Tensor, Tensor]] = {}

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        from sklearn import datasets  # reads them with Pillow, and says so without it

        photographs = torch.stack([torch.tensor(p) for p in datasets.load_sample_images().images])
        photographs = photographs.movedim(3, 1) / 255  # [2, 3, H, W]
        for split in ROWS:
            parts = [self._patches(photograph, split) for photograph in photographs]
            labels = torch.arange(2).repeat_interleave(len(parts[0]))
            order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
            self.splits[split] = torch.cat(parts)[order], labels[order]

    def _patches(self, photograph: Tensor, split: Split) -> Tensor:
        """Of a photograph ``[3, H, W]``, those of a split: ``[N, 3, size, size]``."""
        size, (first, rows) = self.size, ROWS[split]
        step = self.stride if split == "train" else size
        tops = range(first * size, photograph.size(1) - (BAND - first) * size + 1, BAND * size)
        strips = [photograph[:, top : top + rows * size] for top in tops]
        patches = [strip.unfold(1, size, step).unfold(2, size, step) for strip in strips]
        return torch.cat([each.flatten(1, 2) for each in patches], 1).movedim(1, 0).contiguous()

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        x, y = self.splits[split]
        return tensor_loader(x, y, batch_size=self.batch_size, train=split == "train")
