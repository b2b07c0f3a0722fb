"""Predictions of several processes are put in order, or refused."""

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.utils.data import DataLoader, TensorDataset

from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.engine.gather import GatherPredictions


@pytest.mark.parametrize("count", [1, 4, 11, 12])
def test_batches_come_back_once_and_in_the_order_of_the_data(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 3)
    predicted = []
    for rank in range(3):
        monkeypatch.setattr(dist, "get_rank", lambda rank=rank: rank)
        loader = Loader(count, lambda i: i, batch_size=2)
        predicted.append(list(loader))

    def gather(parts: list[Any], own: Any) -> None:
        parts[:] = predicted

    monkeypatch.setattr(dist, "all_gather_object", gather)
    trainer = SimpleNamespace(
        world_size=3,
        predict_dataloaders=loader,
        predict_loop=SimpleNamespace(predictions=predicted[0]),
    )
    GatherPredictions().on_predict_epoch_end(trainer, None)
    assert torch.cat(trainer.predict_loop.predictions).tolist() == list(range(count))


def test_other_loaders_are_refused_with_several_processes_only() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=2)
    trainer = SimpleNamespace(world_size=2, predict_dataloaders=loader)
    with pytest.raises(ValueError, match="2 processes cannot be put in order for a DataLoader"):
        GatherPredictions().on_predict_start(trainer, None)
    trainer.world_size = 1
    GatherPredictions().on_predict_start(trainer, None)
