"""Tiny tensors: a second thread costs more than it gives, most of all on a busy machine."""

import logging

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def _loggers_speak() -> None:
    """Commands such as ``trellis reproduce`` hush Lightning's loggers for their whole process."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.INFO)
