"""Signals of a small file in the authors' layout, and the counts of their own file."""

from pathlib import Path

import numpy as np
import pytest
import torch
from sequence_cases import check_exact_resume

from trellis.datamodules.sequence import MNIST1D
from trellis.spec import TensorSpec


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    draw = np.random.default_rng(0)
    return {
        "x": draw.normal(size=(60, 40)),
        "y": np.arange(60) % 10,
        "x_test": draw.normal(size=(20, 40)),
        "y_test": np.arange(20) % 10,
    }


def ready(folder: Path | str, arrays: dict[str, np.ndarray] | None = None, **options) -> MNIST1D:
    if arrays is not None:
        (Path(folder) / "MNIST1D").mkdir()
        np.savez(Path(folder) / "MNIST1D" / "mnist1d_data.npz", **arrays)
    data = MNIST1D(str(folder), **options)
    data.prepare_data()
    data.setup()
    return data


@pytest.mark.parametrize("flatten", [True, False])
def test_batches_are_those_of_the_file(tmp_path: Path, arrays, flatten: bool) -> None:
    data = ready(tmp_path, arrays, flatten=flatten, num_val=10, batch_size=7)
    channels, size = (40, ()) if flatten else (1, (40,))
    assert data.spec == TensorSpec(channels, 10, size, tuple("0123456789"))
    x, y = (torch.cat(each) for each in zip(*data.loader("test"), strict=True))
    assert x.shape == (20, *data.spec.shape)
    np.testing.assert_allclose(x.flatten(1).numpy(), arrays["x_test"], rtol=1e-6)
    assert y.tolist() == arrays["y_test"].tolist()
    seen = [x for split in ("train", "val") for x, _ in data.loader(split)]
    kept = torch.cat(seen).flatten(1).double().numpy()
    np.testing.assert_allclose(np.sort(kept, 0), np.sort(arrays["x"], 0), rtol=1e-6)
    again = ready(tmp_path, flatten=flatten, num_val=10, batch_size=7)
    check_exact_resume(data.loader("train"), again.loader("train"))


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"y": np.full(60, 10)}, ValueError, "label 10 of example 0"),
        ({"x": np.zeros((60, 39))}, OSError, r"x is \[60, 39\], not \[N, 40\]"),
        (
            {"x_test": np.full((20, 40), np.nan)},
            ValueError,
            "x_test: feature 0 of example 0 is nan",
        ),
    ],
)
def test_what_is_wrong_in_the_file_is_named(tmp_path: Path, arrays, change, error, match) -> None:
    with pytest.raises(error, match=match):
        ready(tmp_path, {**arrays, **change}, num_val=10)


def test_a_missing_or_damaged_file_is_named(tmp_path: Path, arrays) -> None:
    with pytest.raises(FileNotFoundError, match=r"mnist1d_data\.npz is not in .*put it there"):
        ready(tmp_path)
    del arrays["y_test"]
    with pytest.raises(OSError, match="y_test"):
        ready(tmp_path, arrays, num_val=10)
    path = tmp_path / "MNIST1D" / "mnist1d_data.npz"
    path.write_bytes(path.read_bytes()[:900])
    with pytest.raises(OSError, match="is damaged"):
        ready(tmp_path, num_val=10)


@pytest.mark.data
def test_the_authors_file_has_its_counts(data_dir: str) -> None:
    data = ready(data_dir)
    counts = {split: len(y) for split, (_, y) in data.splits.items()}
    assert counts == {"train": 3600, "val": 400, "test": 1000}
    labels = torch.cat([labels for _, labels in data.splits.values()])
    assert labels.bincount().tolist() == [500] * 10
