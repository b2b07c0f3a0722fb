"""Predictions of several processes are put in order, or refused."""

from types import SimpleNamespace

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from trellis.datamodules.engine.loader import Loader
from trellis.lightning_modules.engine.gather import GatherPredictions, in_turn


def test_batches_come_back_in_the_order_in_which_a_loader_deals_them() -> None:
    dealt = [Loader(11, lambda i: i, batch_size=2).batches()[rank::3] for rank in range(3)]
    together = in_turn([list(part) for part in dealt])
    assert torch.cat(together).tolist() == list(range(11))


def test_other_loaders_are_refused_with_several_processes_only() -> None:
    loader = DataLoader(TensorDataset(torch.zeros(4, 1)), batch_size=2)
    trainer = SimpleNamespace(world_size=2, predict_dataloaders=loader)
    with pytest.raises(ValueError, match="2 processes cannot be put in order for a DataLoader"):
        GatherPredictions().on_predict_start(trainer, None)
    trainer.world_size = 1
    GatherPredictions().on_predict_start(trainer, None)
