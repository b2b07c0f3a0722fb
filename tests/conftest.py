"""What tests share."""

import gc
import os
import sys
from collections.abc import Iterator
from functools import cache
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


def pytest_collection_finish() -> None:
    """Half a million objects of imports and tests live to the end: no collector looks again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _own_account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The key that signs checkpoints is not the one of whoever runs the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        yield


@pytest.fixture(scope="session", autouse=True)
def _fast_trainers() -> Iterator[None]:
    """What each of thousands of small runs would wait for again: the disk, and a list of packages.

    ``tests/trellis/test_files.py`` checks that files are flushed before they are renamed.
    """
    from lightning.fabric.utilities import registry

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda handle: None)
        # A Trainer asks every installed package for callbacks; no test installs one.
        patch.setattr(registry, "entry_points", cache(registry.entry_points))
        yield


@pytest.fixture(scope="session")
def data_dir() -> str:
    """Folder of the raw data sets, for tests marked ``data``."""
    folder = os.environ.get("TRELLIS_DATA")
    if not folder:
        pytest.skip("TRELLIS_DATA is not set: there are no raw files")
    return folder
