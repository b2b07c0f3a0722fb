"""What tests share."""

import os
import sys
from pathlib import Path

import pytest
import torch

# Two threads that wait for each other cost small networks more than they gain.
torch.set_num_threads(1)

# pytest puts this folder first on the path, where tests/trellis would pass for the package.
_here = str(Path(__file__).parent)
_path, sys.path = sys.path, [entry for entry in sys.path if entry != _here]
import trellis  # noqa: E402, F401

sys.path = _path


@pytest.fixture
def data_dir() -> str:
    """Folder of the raw data sets, for tests marked ``data``."""
    folder = os.environ.get("TRELLIS_DATA")
    if not folder:
        pytest.skip("TRELLIS_DATA is not set: there are no raw files")
    return folder
