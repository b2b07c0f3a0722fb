"""What the tests of data in sequences share."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from trellis.datamodules.engine.loader import Loader


def written(folder: Path, name: str, text: str) -> str:
    """Path of a file that holds ``text``."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


def plain(batches: Iterable[Any]) -> list[Any]:
    """Batches as lists, to be compared."""

    def listed(part: Any) -> Any:
        return part.tolist() if isinstance(part, torch.Tensor) else part

    return [
        [listed(part) for part in batch] if isinstance(batch, tuple) else listed(batch)
        for batch in batches
    ]


def check_exact_resume(loader: Loader, fresh: Loader, stop: int = 2) -> None:
    """``fresh``, given the state of ``loader`` in mid-epoch, serves the rest of the epoch.

    Both are of one data module's making; epochs must differ from each other.
    """
    loader.set_epoch(3)
    expected = plain(loader)
    assert len(expected) > stop + 1
    begun = iter(loader)
    for _ in range(stop):
        next(begun)
    state = loader.state_dict()
    fresh.load_state_dict(state)
    fresh.set_epoch(3)
    assert plain(fresh) == expected[stop:]
    assert plain(fresh) == expected, "the next iteration starts at the start"
    loader.set_epoch(4)
    assert plain(loader) != expected
