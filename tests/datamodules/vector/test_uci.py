"""The UCI tables with their published splits."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch

from trellis.datamodules.vector.uci import UCI


def archive(folder: Path, files: dict[str, str]) -> None:
    (folder / "uci_regression").mkdir()
    with tarfile.open(folder / "uci_regression" / "yacht.tar.gz", "w:gz") as file:
        for name, text in files.items():
            entry = tarfile.TarInfo(f"yacht/data/{name}.txt")
            entry.size = len(text)
            file.addfile(entry, io.BytesIO(text.encode()))


SMALL = {
    "data": "1 10 5\n2 20 6\n3 30 9\n4 40 7\n",
    "index_features": "0\n1\n",
    "index_target": "2\n",
    "index_train_3": "3\n1\n0\n",
    "index_test_3": "2\n",
}


def test_a_fold_is_the_published_split(tmp_path: Path) -> None:
    archive(tmp_path, SMALL)
    data = UCI(fold=3, data_dir=str(tmp_path))
    data.prepare_data()
    data.setup()
    x, y = data.splits["train"]
    assert y.tolist() == [[7], [6], [5]]
    assert data.spec.target_means == (6.0,)
    raw = np.array([[4.0, 40], [2, 20], [1, 10]])
    np.testing.assert_allclose(x, (raw - raw.mean(0)) / raw.std(0), rtol=1e-6)
    x, y = data.splits["test"]  # by the training rows' mean and scale, in its own unit
    np.testing.assert_allclose(x, ([[3.0, 30]] - raw.mean(0)) / raw.std(0), rtol=1e-6)
    assert y.tolist() == [[9]]


def test_what_is_missing_or_damaged_is_named(tmp_path: Path) -> None:
    data = UCI(data_dir=str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"yacht.tar.gz is not in .*uci_regression: put"):
        data.prepare_data()
    archive(tmp_path, SMALL)
    with pytest.raises(OSError, match=r"yacht.tar.gz is damaged \(.*index_train_0"):
        data.setup()
    with pytest.raises(ValueError, match="fold=20: give 0 to 19"):
        UCI(fold=20)


@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "sizes", "features"),
    [("concrete", (927, 103), 8), ("energy", (691, 77), 8), ("yacht", (277, 31), 6),
     ("wine-quality-red", (1439, 160), 11)],
)  # fmt: skip
def test_the_real_tables(data_dir: str, name, sizes, features: int) -> None:
    data = UCI(name, fold=7, data_dir=data_dir)
    data.setup()
    assert tuple(len(data.splits[split][0]) for split in ("train", "test")) == sizes
    assert data.spec.in_channels == features
    rows = torch.cat([torch.cat(data.splits[s], dim=1) for s in ("train", "test")])
    assert len(rows) == sum(sizes)
