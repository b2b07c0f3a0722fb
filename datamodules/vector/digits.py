"""The handwritten digits that scikit-learn includes: no download."""

import torch
from torch import Tensor

from trellis.checks import at_least_one, choose_from
from trellis.datamodules.engine.base import DataModule, Split, tensor_loader
from trellis.datamodules.engine.loader import Loader
from trellis.spec import Targets, TensorSpec


class Digits(DataModule):
    """1,797 handwritten digits of 8x8 pixels, 10 classes, included in scikit-learn.

    Batch: ``(x, y)`` with ``x [B, 64]`` (or ``[B, 1, 8, 8]``) in [0, 1] and labels ``y [B]``.
    Split by a fixed generator: 1,297 train, 200 validation, 300 test.

    Args:
        batch_size: examples per batch.
        flatten: vectors of 64 features instead of images of one channel.
        targets: ``labels`` are the classes; ``real`` targets are the digits as numbers, 0.0 to
            9.0, for regression.
    Raises:
        ValueError: an unknown kind of ``targets``.

    Source: Alpaydin and Kaynak 1998, UCI "Optical Recognition of Handwritten Digits", test part.
    """

    def __init__(
        self, batch_size: int = 32, flatten: bool = True, targets: Targets = "labels"
    ) -> None:
        super().__init__()
        choose_from("targets", targets, Targets)
        self.batch_size, self.flatten = at_least_one("batch_size", batch_size), flatten
        classes = tuple(str(digit) for digit in range(10)) if targets == "labels" else ()
        self.spec = TensorSpec(
            in_channels=64 if flatten else 1,
            out_channels=len(classes) or 1,
            size=() if flatten else (8, 8),
            classes=classes,
            targets=targets,
        )

    def setup(self, stage: str | None = None) -> None:
        x, y = load_digits()
        self.x = x if self.flatten else x.view(-1, 1, 8, 8)
        self.y = y if self.spec.targets == "labels" else y.float()
        order = torch.randperm(len(x), generator=torch.Generator().manual_seed(0))
        train, val, test = order.split([1297, 200, 300])
        self.splits = {"train": train, "val": val, "test": test}

    def loader(self, split: Split) -> Loader[tuple[Tensor, Tensor]]:
        chosen = self.splits[split]
        return tensor_loader(
            self.x[chosen], self.y[chosen], batch_size=self.batch_size, train=split == "train"
        )


def load_digits() -> tuple[Tensor, Tensor]:
    """Pixels ``[1797, 64]`` in [0, 1] and labels ``[1797]``."""
    from sklearn import datasets

    x, y = datasets.load_digits(return_X_y=True)
    return torch.as_tensor(x, dtype=torch.float32) / 16, torch.as_tensor(y, dtype=torch.long)
